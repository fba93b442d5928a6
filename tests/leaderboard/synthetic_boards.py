"""Synthetic boards: what `harness.standings` would hand to the site, without a database."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from harness.claims import claims
from harness.corruptions import MAIN
from harness.identity import CORRECT, Capabilities, CheckpointRecord, Failure, Finding
from harness.standings import AttackStanding, Board, Rate, Standing
from harness.standings.corruptions import Cell, CorruptionStanding, Origin, summary
from harness.standings.levels import DIAGNOSTICS
from harness.threat import SEVERITIES, ThreatModel
from leaderboard.material import Material

DIGITS = ThreatModel("linf", Fraction(1, 5))
CIFAR = ThreatModel("linf", Fraction(8, 255))
IMAGES = "5f1c" * 16

SURFACES = ("logits", "auxiliary(0)", "auxiliary(1)", "sum", "gate(straight_through)")


def rate(count: int, total: int) -> Rate:
    """A rate with its Wilson interval, as `harness.statistics` would give it."""
    if total == 0:
        return Rate(0, 0, 0.0, 1.0)
    z = 1.959964
    p = count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return Rate(count, total, max(0.0, centre - half), min(1.0, centre + half))


def record(name: str = "trades-digits-cnn-smoke-s0", **changes: object) -> CheckpointRecord:
    """A trained checkpoint with something in every field."""
    full = CheckpointRecord(
        name=name,
        digest="d1" * 32,
        kind="trained",
        dataset="digits",
        threat=DIGITS,
        weights="ab/abcdef.safetensors",
        weights_sha256="ab" * 32,
        capabilities=Capabilities(10, auxiliary=2, select=True, features=True, training_loss=True),
        defense="trades",
        composition={
            "objective": "Trades(beta=6.0)",
            "maximiser": "KL-PGD, 7 steps",
            "head": "linear",
        },
        settings={"beta": 6.0, "auxiliary_weight": 2.0, "warm": True},
        architecture="digits_resnet",
        architecture_settings={"width": 16},
        recipe={"epochs": 20, "learning_rate": 0.1, "batch_size": 128},
        scale="smoke",
        seed=17,
        parameters=41_370,
        paper={
            "title": "Theoretically Principled Trade-off",
            "arxiv": "1901.08573",
            "venue": "ICML 2019",
        },
        training={"seconds": 83.4, "device": "cpu of the tests", "torch": "2.13.0"},
        curves={
            "loss": (2.1, 1.4, 1.1, 0.9, 0.82),
            "clean_accuracy": (0.5, 0.81, 0.9, 0.93, 0.951),
            "learning_rate": (0.02, 0.1, 0.07, 0.03, 0.001),
        },
        created="2025-11-20T10:00:00Z",
    )
    return replace(full, **changes)  # type: ignore[arg-type]


def attack(
    label: str, population: str, alone: int | None, after: int, total: int
) -> AttackStanding:
    """One attack; `alone` is None on survivors."""
    name, _, rest = label.partition("@")
    surface, _, loss = rest.partition(":")
    knowledge = "query" if name.startswith("square") else "white_box"
    return AttackStanding(
        label=label,
        attack=name,
        surface=surface,
        loss=loss,
        parameters={"steps": 40},
        population=population,
        attacked=total - 8,
        broken=total - 8 - (after if alone is None else alone),
        robust=None if alone is None else rate(alone, total),
        union_after=rate(after, total),
        sole_breaks=None if alone is None else 3,
        forwards=12_345,
        backwards=6_789,
        queries=1_000,
        seconds=4.25,
        knowledge=knowledge,
    )


def finding(diagnostic: str, state: str = "green", **changes: object) -> Finding:
    """What one diagnostic found; keywords replace fields."""
    full = Finding(
        *("d1" * 32, "digits", IMAGES, DIGITS, 0, 200),
        *(diagnostic, state, 0.25, "amber: > 1 point; red: > 5 points"),
    )
    return replace(full, **changes)  # type: ignore[arg-type]


FINDINGS = (
    finding(
        "D01",
        "red",
        value=4.5,
        proof=tuple(range(3, 28)),
        note="PGD-40 leaves 4.5 points more right than there were.",
    ),
    finding("D02", "amber", value=1.25, proof=(7, 11), note="FGSM breaks two more."),
    finding("D03"),
    finding("D04"),
    finding("D05", "not_run", value=None, note="no other checkpoint of this dataset is stored."),
    finding("D20", "red", value=13.0, is_adaptive=True),
)
"""Two red, one amber, two green; one that could not be run, the rest never asked for."""


def corrupted(
    checkpoint: CheckpointRecord, cells: int = 75, pixels: str = "generated"
) -> CorruptionStanding:
    """The first so many cells of 75, each a little lower than the one before."""
    every = [Cell(one.name, severity) for one in MAIN for severity in SEVERITIES]
    right = {cell: np.arange(200) < 190 - number for number, cell in enumerate(every[:cells])}
    origin = Origin(checkpoint.digest, "digits", IMAGES, pixels, "imagecorruptions 1.0")
    return summary(checkpoint, origin, right)


def standing(name: str = "trades-digits-cnn-smoke-s0", **changes: object) -> Standing:
    """An adaptively evaluated row whose gap is red; keywords replace fields."""
    total = 200
    attacks = (
        attack("fgsm@logits:ce", CORRECT, 160, 160, total),
        attack("pgd@logits:ce", CORRECT, 141, 140, total),
        attack("apgd_ce@logits:ce", CORRECT, 138, 136, total),
        attack("apgd_t@logits:dlr", CORRECT, 133, 132, total),
        attack("square(queries=1000)@logits:margin", "survivors:standard-1", None, 131, total),
        attack("apgd_ce@auxiliary(0):ce", CORRECT, 110, 108, total),
        attack("apgd_ce@auxiliary(0):margin", CORRECT, 107, 105, total),
        attack("apgd_ce@sum:ce", CORRECT, 121, 105, total),
    )
    full = Standing(
        checkpoint=record(name),
        dataset="digits",
        images=IMAGES,
        threat=DIGITS,
        seed=0,
        examples=total,
        clean=rate(192, total),
        robust=rate(105, total),
        standard=rate(131, total),
        is_adaptive=True,
        protocols=("standard-1", "adaptive-1"),
        attacks=attacks,
        rank=(1, 2),
        last_lowered_by="apgd_ce@auxiliary(0):margin",
        level="E1",
        lacking=("no transferred attack", "diagnostics not run: D05, D06"),
        findings=FINDINGS,
        unions={"white_box": rate(106, total), "query": rate(176, total)},
    )
    return replace(full, **changes)  # type: ignore[arg-type]


def failed(
    name: str = "broken-model", message: str = "logits hold NaN for 3 of 200 images"
) -> Standing:
    """A row whose evaluation failed before any protocol was complete."""
    failure = Failure(
        "d1" * 32,
        "digits",
        IMAGES,
        DIGITS,
        "pgd@logits:ce",
        "non_finite",
        message,
        "2025-11-20T11:00:00Z",
        100,
        200,
    )
    return standing(
        name,
        robust=rate(0, 0),
        clean=rate(0, 0),
        standard=None,
        is_adaptive=False,
        protocols=(),
        attacks=(),
        examples=0,
        rank=None,
        last_lowered_by="",
        failures=(failure,),
        level="",
        lacking=("the standard protocol is not complete",),
        findings=(),
        unions={},
    )


def board(*standings: Standing, threat: ThreatModel = DIGITS, dataset: str = "digits") -> Board:
    """These rows on one board."""
    return Board(dataset, IMAGES, threat, standings)


def every_kind() -> list[Board]:
    """Two boards with every kind of row: masked, amber, added, failed, another threat model."""
    total = 200
    plain = standing(
        "pgd_at-digits-cnn-smoke-s0",
        checkpoint=record(
            "pgd_at-digits-cnn-smoke-s0", defense="pgd_at", capabilities=Capabilities(10)
        ),
        clean=rate(194, total),
        robust=rate(131, total),
        standard=rate(132, total),
        attacks=standing().attacks[:5],
        rank=(1, 2),
        last_lowered_by="apgd_t@logits:dlr",
        level="E3",
        lacking=("no independent re-run with 99.5 % agreement is stored",),
        findings=tuple(finding(identity) for identity in DIAGNOSTICS),
        unions={kind: rate(133, total) for kind in ("white_box", "query", "transfer")},
    )
    masked = standing(
        "trades_ancra-digits-cnn-smoke-s0",
        checkpoint=record("trades_ancra-digits-cnn-smoke-s0", defense="trades_ancra"),
        standard=rate(174, total),
        attacks=tuple(
            attack(label, CORRECT, after + (after % 3), after, total)
            for label, after in (
                ("fgsm@logits:ce", 186),
                ("pgd@logits:ce", 184),
                ("apgd_ce@logits:ce", 179),
                ("apgd_t@logits:dlr", 174),
                ("pgd@sum:ce", 128),
                ("apgd_ce@auxiliary(0):ce", 110),
                ("apgd_ce@auxiliary(0):margin", 105),
                ("apgd_dlr@gate(straight_through):dlr", 105),
            )
        ),
        rank=(3, 5),
    )
    amber = standing("trades_he-digits-cnn-s0", standard=rate(110, total), rank=(3, 5))
    noisy = standing(
        "noisy-digits-cnn-s0",
        checkpoint=record(
            "noisy-digits-cnn-s0", defense="noisy", capabilities=Capabilities(10, is_random=True)
        ),
        is_adaptive=False,
        protocols=("standard-1",),
        rank=None,
        findings=(),
    )
    added = standing(
        "somebody's model",
        checkpoint=record(
            "somebody's model", kind="added", defense="", scale="", parameters=0, architecture="",
            composition={}, settings={}, recipe={}, architecture_settings={}, paper={},
            training={}, curves={}, model="model.py:make", model_sha256="cd" * 32,
        ),
        is_adaptive=False,
        protocols=("standard-1",),
        robust=rate(131, total),
        rank=(3, 5),
    )  # fmt: skip
    cifar = standing(
        "trades-cifar10-resnet18-reduced-s0",
        checkpoint=record(
            "trades-cifar10-resnet18-reduced-s0", scale="reduced", architecture="resnet18",
            parameters=11_173_962, dataset="cifar10",
        ),
        threat=CIFAR,
        dataset="cifar10",
        rank=(1, 1),
    )  # fmt: skip
    return [
        board(plain, standing(), masked, amber, added, noisy, failed()),
        board(cifar, threat=CIFAR, dataset="cifar10"),
    ]


def everything() -> Material:
    """A site of every kind of row, with corrupted images and the first published figures."""
    boards = every_kind()
    first = boards[0].standings[0].checkpoint
    return Material(boards=boards, corruptions=[corrupted(first)], claims=claims()[:120])
