"""What a comparison leaves: times of every round and outcomes per image, written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.files import replace_file

FORMAT = 1
SECTIONS = ("autoattack", "pgd", "training", "equality")
RUNS = ("cpu", "cuda", "large")
"""By device; `large` is a run of many images on either, which forgets nothing of the others."""
MANY = 1000
"""Images from which on a run is a large one."""


@dataclass(frozen=True)
class Side:
    """One of those that did the same work.

    Args:
        name: such as `pyautoattack` or `mixed`.
        seconds: of every round, in order; empty where it could not run.
        outcomes: per image `1` where the decision is wrong at the end and `0` where it is right;
            empty where the work has no outcome.
        points: how many images it worked on.
        forwards: images pushed forward in one round.
        backwards: images differentiated in one round.
        loss: after the first timed step of training; None elsewhere.
        note: what a reader must know, such as that a peer is not installed.
    """

    name: str
    seconds: tuple[float, ...] = ()
    outcomes: str = ""
    points: int = 0
    forwards: int = 0
    backwards: int = 0
    loss: float | None = None
    note: str = ""

    @property
    def best(self) -> float | None:
        """Seconds of the fastest round."""
        return min(self.seconds, default=None)

    @property
    def broken(self) -> int:
        """Images whose decision is wrong at the end."""
        return self.outcomes.count("1")

    def differ(self, other: Side) -> int | None:
        """Images whose outcome is another; None where one of the two has none."""
        if not self.outcomes or len(self.outcomes) != len(other.outcomes):
            return None
        return sum(a != b for a, b in zip(self.outcomes, other.outcomes, strict=True))

    def missed(self, other: Side) -> int:
        """Images that the other breaks and this one does not; 0 where one has no outcomes."""
        pairs = zip(self.outcomes, other.outcomes, strict=False)
        return sum(ours < theirs for ours, theirs in pairs)


@dataclass(frozen=True)
class Comparison:
    """One piece of work and all that did it; the first side is what the others are measured by.

    Args:
        work: such as `apgd_ce` or `whole`.
        sides: at least one.
    """

    work: str
    sides: tuple[Side, ...]

    def side(self, name: str) -> Side | None:
        """The side of that name."""
        return next((side for side in self.sides if side.name == name), None)


@dataclass(frozen=True)
class Setting:
    """What every number of one run depends on. No time and no path.

    Args:
        device: `cpu` or `cuda`.
        commit: of the working tree, with `+` where it was changed.
        machine: the processor and how many cores this process may use, or the GPU.
        versions: of Python, PyTorch and the peers; `not installed` where one is missing.
        threads: of PyTorch, the same for every side.
        seed: of attacks and of training.
        rounds: of every comparison; the fastest counts.
        batch: images of one pass.
        images: how many test images, the first ones.
        model: name of the checkpoint.
        checkpoint: its digest.
        parameters: numbers that it learnt.
        threat: norm and epsilon.
        clean: how many of the images it classifies correctly.
    """

    device: str
    commit: str
    machine: str
    versions: Mapping[str, str]
    threads: int
    seed: int
    rounds: int
    batch: int
    images: int
    model: str
    checkpoint: str
    parameters: int
    threat: str
    clean: int


@dataclass(frozen=True)
class Run:
    """All that was measured in one setting; a section that was not run is not there."""

    setting: Setting
    sections: Mapping[str, tuple[Comparison, ...]]

    def comparison(self, section: str, work: str) -> Comparison | None:
        """The first comparison of a section whose work starts so."""
        found = (one for one in self.sections.get(section, ()) if one.work.startswith(work))
        return next(found, None)


Results = Mapping[str, Run]
"""Runs by name, one of `RUNS`."""


def write_results(path: Path, results: Results) -> None:
    """Write everything, devices and sections in a fixed order, seconds to the microsecond."""
    runs = {
        device: {
            "setting": asdict(results[device].setting),
            "sections": {
                name: [_rounded(one) for one in results[device].sections[name]]
                for name in SECTIONS
                if name in results[device].sections
            },
        }
        for device in RUNS
        if device in results
    }
    text = json.dumps({"format": FORMAT, "runs": runs}, indent=1, ensure_ascii=True)
    replace_file(path, f"{text}\n".encode())


def _rounded(comparison: Comparison) -> dict[str, Any]:
    sides = (
        replace(side, seconds=tuple(round(value, 6) for value in side.seconds))
        for side in comparison.sides
    )
    return asdict(replace(comparison, sides=tuple(sides)))
