"""A checkpoint of which everything is known: diagnostics with curves, pictures, analyses, bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from synthetic_boards import DIGITS, FINDINGS, IMAGES, board, corrupted, finding, rate, standing

from harness.identity import AdversarialGallery, CheckpointRecord, Gallery, Measurement
from harness.standings import Standing
from harness.standings.insight import ClassStanding, Drop, Insight
from leaderboard.material import Empty, Material

SOURCE = "ab12cd34ef56"
"""First digits of the digest of another checkpoint on the board."""

LEVELS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0, 255.0)
SECURITY = (100.0, 100.0, 98.0, 97.0, 95.0, 93.0, 90.0, 85.0, 80.0, 70.0, 50.0, 4.0, 0.0)

DETAILED = (
    finding(
        "D03",
        details={
            "steps": (10.0, 20.0, 50.0, 100.0, 500.0),
            "every_iterate": (80.0, 78.0, 77.0, 76.0, 76.0),
            "last_iterate": (81.0, 79.0, 77.5, 76.5, 76.0),
        },
    ),
    finding(
        "D05",
        details={
            f"surrogate({SOURCE})": (10.0, 11.0, 12.0, 13.0, 14.0, 15.0),
            "surrogate(000000000000)": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
            "stripped": (20.0, 20.0, 20.0, 20.0, 20.0, 21.0),
            "standard_white_box": (0.0,),
        },
    ),
    finding(
        "D08",
        details={
            "epsilon_255ths": LEVELS,
            "as_run": (*SECURITY[:5], 94.0, *SECURITY[6:]),
            "security_curve": SECURITY,
            "clean": (96.0,),
        },
    ),
    finding(
        "D12",
        details={
            "radius": (0.001, 0.025, 0.2),
            "median_relative_error": (0.02, 0.2, 51.0),
            "sign_agreement": (0.99, 0.9, 0.6),
        },
    ),
    finding(
        "D13",
        details={
            "pgd(restarts=10,steps=20)@logits:ce": tuple(80.0 - n for n in range(10)),
            "apgd_ce(restarts=10)@logits:ce": tuple(75.0 - n / 2 for n in range(10)),
        },
    ),
    finding(
        "D15",
        details={
            "scale_0.1": (70.0,),
            "scale_1": (75.0,),
            "scale_10": (80.0,),
            "scale_20": (90.0,),
            "spread": (6.5,),
            "largest": (12.0,),
        },
    ),
    finding(
        "D21",
        "amber",
        details={
            "agreement_clean": (1.0, 0.875),
            "agreement_attacked": (0.995, 0.5),
            "margin_ratio": (9.37, 1.18),
            "rank_correlation": (0.841, -0.25),
        },
    ),
)


def detailed(name: str = "trades_ancra-digits-cnn-smoke-s0", **changes: object) -> Standing:
    """A row whose diagnostics stored their curves."""
    kept = {one.diagnostic: one for one in (*FINDINGS, *DETAILED)}
    row = standing(name, findings=tuple(kept[one] for one in sorted(kept)))
    return replace(row, **changes)  # type: ignore[arg-type]


def clean_gallery(count: int = 24, side: int = 8, channels: int = 1) -> Gallery:
    """Pictures of noise that are the same every time; the class of image n is n modulo 10."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, side, side))
    return Gallery(
        dataset="digits",
        images=IMAGES,
        indices=tuple(range(count)),
        labels=tuple(n % 10 for n in range(count)),
        shape=(channels, side, side),
        pixels=pixels.astype(np.uint8).tobytes(),
    )


def attacked_gallery(clean: Gallery, moved: int = 20) -> AdversarialGallery:
    """Every pixel moved by at most so many grey levels; every third image is broken."""
    before = np.frombuffer(clean.pixels, dtype=np.uint8).astype(int)
    after = (before + np.resize([moved, -moved, 0], before.shape)).clip(0, 255).astype(np.uint8)
    broken = tuple(n % 3 == 0 for n in clean.indices)
    return AdversarialGallery(
        checkpoint="d1" * 32,
        dataset=clean.dataset,
        images=clean.images,
        threat=DIGITS,
        attack="apgd_ce@auxiliary(0):ce",
        seed=0,
        indices=clean.indices,
        broken=broken,
        predicted=tuple(
            (label + 1) % 10 if is_broken else label
            for label, is_broken in zip(clean.labels, broken, strict=True)
        ),
        shape=clean.shape,
        pixels=after.tobytes(),
    )


def looked_into() -> Insight:
    """Ten classes of twenty images; class 3 is lost entirely; image 1 is wrong, 2 holds."""
    labels = [attack.label for attack in standing().attacks]
    kept = (20, 12, 10, 0, 11, 9, 14, 8, 12, 9)
    confusion = [[0] * 10 for _ in range(10)]
    for number, count in enumerate(kept):
        confusion[number][number] = count
        confusion[number][(number + 1) % 10] += 20 - count
    return Insight(
        classes=tuple(
            ClassStanding(str(n), rate(20, 20), rate(count, 20)) for n, count in enumerate(kept)
        ),
        confusion=tuple(map(tuple, confusion)),
        unknown=0,
        history=(
            Drop("2025-11-20T10:00:00+00:00", rate(192, 200)),
            Drop("2025-11-20T10:05:31+00:00", rate(160, 200), (("fgsm@logits:ce", 32),)),
            Drop(
                "2025-11-21T09:00:00+00:00",
                rate(105, 200),
                (("apgd_ce@auxiliary(0):ce", 54), ("apgd_ce@auxiliary(0):margin", 1)),
            ),
            Drop("2025-11-22T08:00:00+00:00", rate(105, 200)),
        ),
        broken_by={
            n: (labels[0], labels[5], labels[6]) if n % 3 == 0 else () for n in range(24) if n != 1
        },
    )


def measurement(analysis: str, on: str, note: str = "", **values: Sequence[float]) -> Measurement:
    """What an analysis stored."""
    place = ("d1" * 32, "digits", IMAGES, DIGITS, 0, 200)
    return Measurement(*place, analysis, on, {k: tuple(v) for k, v in values.items()}, note)


ATTACK = "apgd_ce@auxiliary(0):ce"


def mapped(on: str, shift: float = 0.0, count: int = 40) -> Measurement:
    """Ten tight groups on a circle, of which `shift` moves every second point to the next one."""
    classes = np.arange(count) % 10
    groups = classes + shift * (np.arange(count) // 10 % 2)
    angle = 2 * np.pi * groups / 10
    spread = np.arange(count) / 1000
    x, y = np.cos(angle) + spread, np.sin(angle) + spread
    coordinates = {"tsne_x": x, "tsne_y": y, "umap_x": 3 * y, "umap_y": x}
    numbers = {name: one.tolist() for name, one in coordinates.items()}
    return measurement("feature_map", on, classes=classes.tolist(), **numbers)


MEASUREMENTS = (
    measurement(
        "relationship_score", "clean", k=(5, 30), cosine=(0.95, 0.9), euclidean=(0.9, 0.85)
    ),
    measurement("relationship_score", ATTACK, k=(5, 30), cosine=(0.5, 0.4), euclidean=(0.5, 0.4)),
    measurement(
        "exclusion_alignment",
        "clean",
        classes=(0, 1),
        cosine_edges=(-1.0, 0.0, 1.0),
        exclusion_cosine=(0.145,),
        exclusion_cosine_counts_0=(1, 3),
        exclusion_cosine_counts_1=(2, 2),
    ),
    measurement(
        "exclusion_alignment",
        ATTACK,
        classes=(0, 1),
        cosine_edges=(-1.0, 0.0, 1.0),
        exclusion_cosine=(0.3,),
        exclusion_cosine_counts_0=(4, 0),
        exclusion_cosine_counts_1=(4, 0),
        alignment_cosine=(0.628,),
        alignment_cosine_counts_0=(0, 1),
        alignment_cosine_counts_1=(0, 1),
    ),
    measurement(
        "angular_margins",
        "clean",
        levels=(0.0, 0.5, 1.0),
        quantiles=(-1.08, -0.889, 1.24),
        mean=(-0.77,),
        share_negative=(0.95,),
    ),
    measurement(
        "gradient_norm_ratios",
        "training",
        "Under the defense's own training attack.",
        **{"trunk.0.weight": (1.5, 1.25), "trunk.1.weight": (2.5, 2.25), "all": (2.0, 1.75)},
    ),
    measurement(
        "overfitting_gap",
        "pgd(steps=20)@logits:ce",
        gap=(0.03,),
        best=(0.62,),
        last=(0.59,),
        clean_best=(0.9,),
        clean_last=(0.95,),
        best_epoch=(6.0,),
        last_epoch=(8.0,),
    ),
    measurement("training_time", "training", "On cpu.", median=(2.15,), total=(83.4,)),
    measurement("gate_flips", "clean", agreement=(1.0, 0.9), accuracy=(0.95, 0.9)),
    measurement(
        "gate_flips",
        ATTACK,
        "Each head selects the gate of its own block.",
        agreement=(0.6, 0.7),
        accuracy=(0.3, 0.4),
        flips=(0.5, 0.25),
        deployed_flips=(0.43,),
        gate_flips=(0.55,),
    ),
    mapped("clean"),
    mapped(ATTACK, shift=1.0),
)


class Full(Empty):
    """An archive with everything there is of the row `detailed`, and nothing of any other."""

    def __init__(self, gallery: Gallery | None = None, moved: int = 20) -> None:
        self._clean = gallery or clean_gallery()
        self._attacked = attacked_gallery(self._clean, moved)

    def insight(self, standing: Standing) -> Insight | None:
        return looked_into() if _is_ours(standing.checkpoint) else None

    def measurements(self, record: CheckpointRecord) -> tuple[Measurement, ...]:
        return MEASUREMENTS if _is_ours(record) else ()

    def gallery(self, standing: Standing) -> tuple[Gallery, AdversarialGallery] | None:
        return (self._clean, self._attacked) if _is_ours(standing.checkpoint) else None


def _is_ours(record: CheckpointRecord) -> bool:
    return record.name == detailed().checkpoint.name


def full(**changes: object) -> Material:
    """A board with the row `detailed` and the model that it is attacked through."""
    row, source = detailed(), standing("pgd_at-digits-cnn-smoke-s0")
    source = replace(source, checkpoint=replace(source.checkpoint, digest=SOURCE + "0" * 52))
    given = {
        "boards": [board(row, source)],
        "corruptions": [corrupted(row.checkpoint)],
        "archive": Full(),
        "generated": "from a test",
    }
    return Material(**{**given, **changes})  # type: ignore[arg-type]
