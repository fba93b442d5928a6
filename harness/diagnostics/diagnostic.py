"""The registry of diagnostics, and how a measured number becomes a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.diagnostics.examination import Examination, NotRun
from harness.errors import ModelError
from harness.registry import Registry

GREEN, AMBER, RED, NOT_RUN = "green", "amber", "red", "not_run"
STATES = (GREEN, NOT_RUN, AMBER, RED)
"""From harmless to worst; a verdict is the worst, and "not run" is never green."""

MANY = 500
"""Images of a full diagnostic subset, on which thresholds in points stand by themselves."""

LEVEL = 0.01
"""Of the exact one-sided test on the images that two attacks disagree about."""


@dataclass(frozen=True)
class Reading:
    """What a diagnostic read off an examination.

    Args:
        state: `green`, `amber`, `red` or `not_run`.
        value: the measured number in the unit of the threshold, None where there is none.
        note: one sentence, for people.
        proof: [N] bool, the examined images that show it, or None.
        details: numbers behind the value, by name.
    """

    state: str
    value: float | None = None
    note: str = ""
    proof: Tensor | None = None
    details: Mapping[str, Sequence[float]] = field(default_factory=dict)


Check = Callable[[Examination], Reading]


@dataclass(frozen=True)
class Diagnostic:
    """One registered diagnostic.

    Args:
        id: `D01` to `D26`, `I1` to `I6`.
        name: the function's name.
        title: a few words for tables.
        amber: when it is amber, in words.
        red: when it is red, in words.
        needs: what an examination must bring besides the model: `row` (a standing of the adaptive
            protocol), `surrogates`, `heads`, or nothing.
        source: paper and section.
        description: first line of the function's docstring.
        check: the function.
    """

    id: str
    name: str
    title: str
    amber: str
    red: str
    needs: str
    source: str
    description: str
    check: Check

    @property
    def threshold(self) -> str:
        """Amber and red in words."""
        return f"amber: {self.amber}; red: {self.red}"

    def read(self, examination: Examination) -> Reading:
        """Run the check; what is missing or misbehaves is "not run", with the reason."""
        try:
            return self.check(examination)
        except NotRun as reason:
            return Reading(NOT_RUN, note=str(reason))
        except ModelError as error:
            return Reading(NOT_RUN, note=str(error))


DIAGNOSTICS: Registry[Diagnostic] = Registry(
    "diagnostic", "harness.diagnostics", "robust_harness.diagnostics"
)


def diagnostic(
    identity: str,
    *,
    title: str,
    amber: str,
    red: str,
    source: str = "protocol.md section 5",
    needs: str = "",
) -> Callable[[Check], Check]:
    """Register a function as the diagnostic of that id."""

    def register(check: Check) -> Check:
        name = getattr(check, "__name__", identity)
        description = (check.__doc__ or name).strip().partition("\n")[0]
        entry = Diagnostic(identity, name, title, amber, red, needs, source, description, check)
        DIAGNOSTICS.add(identity, entry)
        return check

    return register


def graded(value: float, *, amber: float, red: float) -> str:
    """The state of a number of which more is worse; thresholds themselves are still fine."""
    if value > red:
        return RED
    return AMBER if value > amber else GREEN


def more_than_chance(only_first: int, only_second: int) -> bool:
    """Whether the first set is larger than the second by the exact one-sided test at 1 %."""
    from scipy.special import bdtrc  # noqa: PLC0415 - scipy takes a while to import

    both = only_first + only_second
    if only_first <= only_second:
        return False
    return float(bdtrc(only_first - 1, both, 0.5)) < LEVEL


def points(mask: Tensor, examination: Examination) -> float:
    """Share of the clean-correct images in percentage points.

    Raises:
        NotRun: no image is clean-correct.
    """
    return _share(mask, examination.right)


class Difference(NamedTuple):
    """By how much one attack is stronger than another on the same images.

    Args:
        points: what only the first breaks less what only the second breaks, in percentage points.
        state: `green` too where the exact test cannot tell the points from chance.
        proof: [N] bool, images that only the first breaks.
    """

    points: float
    state: str
    proof: Tensor


def graded_difference(
    first: Tensor,
    second: Tensor,
    among: Tensor,
    *,
    amber: float,
    red: float,
    needs_test: bool = False,
) -> Difference:
    """Grade how much more the first attack breaks than the second.

    On fewer than `MANY` images a threshold in points counts only where the exact one-sided test on
    the discordant images rejects at 1 % too: on 100 images a single one is a whole point. For a set
    difference A without B compare the union of both with B: nothing can then be broken by B alone,
    and the test asks for seven images.

    Args:
        first: [N] bool, broken by the first attack.
        second: [N] bool, broken by the second.
        among: [N] bool, the images that count; points are of these.
        amber: threshold in points, itself still fine.
        red: as amber.
        needs_test: whether amber needs the test on any number of images (D02, D06).

    Raises:
        NotRun: no image counts.
    """
    only_first, only_second = first & ~second & among, second & ~first & among
    value = _share(only_first, among) - _share(only_second, among)
    is_real = more_than_chance(int(only_first.sum()), int(only_second.sum()))
    state = graded(value, amber=amber, red=red)
    stands = int(among.sum()) >= MANY and not (needs_test and state == AMBER)
    return Difference(value, state if is_real or stands else GREEN, only_first)


def _share(mask: Tensor, among: Tensor) -> float:
    total = int(among.sum())
    if total == 0:
        raise NotRun("no image is classified correctly as it is: there is nothing to attack.")
    return 100.0 * int((mask & among).sum()) / total


def as_floats(values: Tensor | Sequence[float]) -> tuple[float, ...]:
    """Plain numbers for `details`."""
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
    return tuple(float(value) for value in np.asarray(array, dtype=np.float64).ravel())


def worst(states: Sequence[str]) -> str:
    """The worst of several states."""
    return max(states, key=STATES.index, default=NOT_RUN)


def none_like(examination: Examination) -> Tensor:
    """[N] bool, no image."""
    return torch.zeros(len(examination.labels), dtype=torch.bool)
