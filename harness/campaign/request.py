"""What a campaign is asked, on what, and what it tells: plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict
from typing import Protocol as Interface

from harness.data import Dataset, Split
from harness.identity import EXACT, AttackSpec, CheckpointRecord
from harness.protocols import Protocol, Target, Wanted
from harness.threat import ThreatModel

OTHER_PIXELS = " (other pixels)"
"""What follows a dataset's name in the rows of images that are not the published ones."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is asked of every checkpoint.

    Args:
        protocol: key such as `adaptive-1`, or empty for attacks chosen by hand.
        wanted: what the model exposes -> attacks in order, each with its population.
        examples: the first n test images; all there are where the split is smaller.
        threat: instead of the dataset's default.
        seed: run seed of the random streams.
        restarts: the best attacks of the last stage -> one more stage, if the protocol has it.
        keep: `uint8` or `float32` to keep the images that are broken, empty to keep none.
        precision: what searches differentiate, one of `PRECISIONS`.
    """

    protocol: str
    wanted: Callable[[Target], Wanted]
    examples: int
    threat: ThreatModel
    seed: int = 0
    restarts: Callable[[Sequence[AttackSpec]], Wanted] | None = None
    keep: str = ""
    precision: str = EXACT

    @classmethod
    def of(
        cls, protocol: Protocol, examples: int, threat: ThreatModel, seed: int = 0
    ) -> EvaluationRequest:
        """A whole protocol."""
        restarts = protocol.restarts if protocol.has_restarts else None
        return cls(protocol.key, protocol.wanted, examples, threat, seed, restarts)


class Scope(TypedDict):
    """What all outcomes of one request on one test split share."""

    dataset: str
    images: str
    threat: ThreatModel
    seed: int
    precision: str


class Provenance(NamedTuple):
    """How a run was made, recorded with its outcomes.

    Args:
        command: what was asked for.
        versions: of everything a number may depend on.
        device: in words.
    """

    command: str
    versions: Mapping[str, str]
    device: str


class Report(Interface):
    """Where a campaign tells how far it is."""

    def planned(self, pieces: int) -> None:
        """So many pieces of work are left in this stage."""

    def done(self, work_done: str, seconds: float) -> None:
        """One piece is done."""


@dataclass(frozen=True)
class Subjects:
    """Checkpoints that share a test split.

    Args:
        records: what to evaluate.
        dataset: what they decide on.
        data: its test split.
        data_dir: where the split came from, None for the cache.
        folder: of the weights.
    """

    records: Sequence[CheckpointRecord]
    dataset: Dataset
    data: Split
    data_dir: Path | None
    folder: Path

    @property
    def label(self) -> str:
        """The dataset's name in every row, which says so where the pixels are not its own."""
        other = self.data.is_exact is False
        return f"{self.dataset.name}{OTHER_PIXELS}" if other else self.dataset.name


class Estimate(NamedTuple):
    """What a campaign would do.

    Args:
        pieces: attacks times slices.
        images: attacked images over all pieces, at most.
        seconds: at most, on one worker.
    """

    pieces: int
    images: int
    seconds: float
