"""What people compare: rates, what each attack did, rows and boards. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.identity import EXACT, CheckpointRecord, Failure, Finding, Value
from harness.standings.levels import Verdict, verdict
from harness.threat import ThreatModel


@dataclass(frozen=True)
class Rate:
    """A fraction of images with its 95 % Wilson interval, all in [0, 1]."""

    count: int
    total: int
    low: float
    high: float

    @property
    def fraction(self) -> float:
        """`count / total`; 0 where nothing was counted (`total` says so)."""
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True)
class AttackStanding:
    """What one attack did to one checkpoint on the images of its standing.

    Args:
        label: `attack@surface:loss` with the parameters that differ from the defaults.
        population: `correct`, or `survivors:PROTOCOL` where an earlier stage came first.
        attacked: images of the standing that it attacked.
        broken: images of the standing that it broke.
        robust: right and not broken by it, of all images of the standing; None where it did not
            attack every clean-correct image (`broken` is then "on survivors").
        union_after: right and not broken by it or any attack before it, in the plan's order.
        sole_breaks: images that nothing else broke; None where it saw survivors only.
        forwards, backwards, queries, seconds: totals, the verifier's passes not counted.
        knowledge: `white_box`, `query`, `decision`, `none`, or `transfer` where a surrogate or the
            stripped twin was climbed.
        seeds: run seeds that are counted together here; an image broken under any is broken.
        precisions: what their searches differentiated, of `PRECISIONS`.
    """

    label: str
    attack: str
    surface: str
    loss: str
    parameters: Mapping[str, Value]
    population: str
    attacked: int
    broken: int
    robust: Rate | None
    union_after: Rate
    sole_breaks: int | None
    forwards: int
    backwards: int
    queries: int
    seconds: float
    knowledge: str = ""
    seeds: tuple[int, ...] = ()
    precisions: tuple[str, ...] = (EXACT,)


@dataclass(frozen=True)
class Standing:
    """One row of a board: a checkpoint under one threat model on the first `examples` images.

    Args:
        examples: images counted: those that the most adaptive complete protocol covers.
        clean: right as they are.
        robust: right and not broken by any verified attack (the headline, an upper bound).
        standard: right and not broken by the standard suite: the first stage of the protocol that
            rules the row, or where none does, every attack on the deployed logits that attacks
            every correct image; None if none ran.
        is_adaptive: whether an adaptive protocol is complete on these images.
        protocols: names of the protocols that are complete on these images.
        attacks: in plan order, the clean images not among them.
        rank: (best, worst) place on the board that the paired tests leave open; None when the row
            is not ranked (no complete protocol).
        last_lowered_by: label of the second-stage attack that lowered the union most; if none did,
            of the attack with the most sole breaks, or of the last that lowered it; else empty.
        failures: why jobs of this row ended without an outcome.
        level: evidence level `E1` to `E4`; empty where no protocol is complete.
        lacking: what the next level lacks, one sentence each.
        findings: of the diagnostics, by id.
        unions: what is left of all attacks of one kind (`white_box`, `query`, `transfer`); an
            image that a later stage did not attack counts there as it is.
        precision: what searches of the protocol that rules the row differentiated.
    """

    checkpoint: CheckpointRecord
    dataset: str
    images: str
    threat: ThreatModel
    seed: int
    examples: int
    clean: Rate
    robust: Rate
    standard: Rate | None
    is_adaptive: bool
    protocols: tuple[str, ...]
    attacks: tuple[AttackStanding, ...]
    rank: tuple[int, int] | None = None
    last_lowered_by: str = ""
    failures: tuple[Failure, ...] = ()
    level: str = ""
    lacking: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    unions: Mapping[str, Rate] = field(default_factory=dict)
    precision: str = EXACT

    @property
    def verdict(self) -> Verdict:
        """The worst state of the diagnostics, and how many are in each."""
        return verdict(self.findings)

    @property
    def adaptive_gap(self) -> float | None:
        """Standard-only minus headline accuracy: what standard attacks alone would hide."""
        if self.standard is None or not self.is_adaptive:
            return None
        return self.standard.fraction - self.robust.fraction


@dataclass(frozen=True)
class Board:
    """All standings that may be compared: same test images, same threat model."""

    dataset: str
    images: str
    threat: ThreatModel
    standings: tuple[Standing, ...]
