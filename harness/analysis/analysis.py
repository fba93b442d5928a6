"""The registry of analyses: each one file, each from an exhibit to numbers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from harness.analysis.exhibit import CLEAN_IMAGES, Exhibit, NotRun
from harness.errors import HarnessError, ModelError
from harness.registry import Registry

NOT_RUN = "not run: "
"""How the note of a reading without numbers begins."""


class Pairs(NamedTuple):
    """Adversarial images in 8 bits, each of which has a clean one of the same index.

    Args:
        indices: n positions in the test split, ascending.
        pixels: [n, C, H, W] uint8, on the CPU.
        broken: whether only this picture, not the clean one, is decided wrongly.
        predicted: the deployed decision on each; -1 where its logits are not finite.
    """

    indices: tuple[int, ...]
    pixels: Tensor
    broken: tuple[bool, ...]
    predicted: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """What an analysis read off one form of the images.

    Args:
        on: `clean`, the label of an attack, or `training`.
        values: numbers by name; empty where it was not run.
        note: one sentence, for people.
        pairs: pictures to be kept, of an analysis that has some.
    """

    on: str
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    note: str = ""
    pairs: Pairs | None = None


Look = Callable[[Exhibit], Iterable[Reading]]


@dataclass(frozen=True)
class Analysis:
    """One registered analysis.

    Args:
        name: as stored.
        title: a few words for tables.
        shown: which of its numbers a table shows; the others are for `--json`.
        source: paper and section.
        follows_attack: whether it looks at the images of the worst stored attack.
        keeps_pairs: whether its readings under the attack hold pictures.
        description: first line of the function's docstring.
        look: the function.
    """

    name: str
    title: str
    shown: tuple[str, ...]
    source: str
    follows_attack: bool
    keeps_pairs: bool
    description: str
    look: Look

    def read(self, exhibit: Exhibit) -> list[Reading]:
        """Every reading; where something is missing or misbehaves, one that says why."""
        try:
            return list(self.look(exhibit))
        except (NotRun, ModelError, HarnessError) as reason:
            return [Reading(CLEAN_IMAGES, note=f"{NOT_RUN}{reason}")]


ANALYSES: Registry[Analysis] = Registry("analysis", "harness.analysis", "robust_harness.analyses")


def analysis(
    name: str,
    *,
    title: str,
    shown: tuple[str, ...],
    source: str,
    follows_attack: bool = True,
    keeps_pairs: bool = False,
) -> Callable[[Look], Look]:
    """Register a function as the analysis of that name."""

    def register(look: Look) -> Look:
        description = (look.__doc__ or name).strip().partition("\n")[0]
        entry = Analysis(name, title, shown, source, follows_attack, keeps_pairs, description, look)
        ANALYSES.add(name, entry)
        return look

    return register
