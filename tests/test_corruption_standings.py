from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from harness.corruptions import CORRUPTIONS, FAMILIES, MAIN, severity_threat
from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Failure,
    Job,
    Outcome,
    Plan,
)
from harness.standings import as_json, boards
from harness.standings.corruptions import (
    Cell,
    Origin,
    corruption_json,
    corruption_standings,
    measure_corruptions,
    summary,
)
from harness.statistics import cluster_bootstrap
from harness.store.store import Store
from harness.threat import SEVERITIES, ThreatModel

IMAGES = "f" * 64
LINF = ThreatModel("linf", Fraction(8, 255))
ORIGIN = Origin("d" * 64, "cifar10", IMAGES, "files", "NAME.npy")
MAIN_CELLS = [Cell(one.name, severity) for one in MAIN for severity in SEVERITIES]

# Percent of 10,000 images, severity by severity, the 15 corruptions in their published order: the
# appendix of "Boosting Adversarial Training with Hypersphere Embedding" (arXiv:2002.08619).
PUBLISHED = {
    "pgd_at": (
        "85.97 86.3 83.55 86.15 81.92 83.65 82.86 86.12 84.88 84.27 87.15 82.37 82.06 86.23 85.17",
        "84.16 85.82 79.92 84.8 82.06 80.09 82.49 84.4 80.84 76.22 86.68 59.77 82.2 85.62 84.64",
        "81.22 83.08 76.79 82.87 81.55 76.32 81.12 82.39 75.24 65.71 85.7 40.64 81.13 85.33 84.41",
        "79.4 81.2 69.55 80.67 76.18 76.39 80.17 78.03 75.93 51.96 83.87 23.09 79.65 84.27 83.86",
        "77.48 78.02 62.8 74.7 76.72 71.66 77.77 75.69 72.9 30.37 76.86 16.9 78.95 82.37 83.69",
    ),
    "pgd_at_he": (
        "85.37 85.67 83.7 85.63 81.51 83.75 82.67 85.33 84.26 84.1 86.45 82.43 81.69 85.43 85.05",
        "83.69 84.99 80.97 84.5 81.76 80.66 82.33 83.99 80.33 76.84 86.0 61.36 81.92 85.15 84.52",
        "81.14 82.46 78.01 82.65 81.2 76.73 81.11 81.43 75.71 66.59 85.17 41.76 81.2 84.63 84.05",
        "79.74 81.25 71.67 80.83 76.14 77.03 80.09 77.77 76.35 52.75 83.31 23.65 80.01 83.77 83.67",
        "77.76 77.99 66.37 75.58 76.67 72.68 78.16 75.35 73.28 31.96 77.44 16.36 78.61 81.84 83.23",
    ),
    "alp": (
        "86.57 86.93 84.13 86.53 83.04 84.12 83.07 86.4 85.77 85.12 87.4 83.21 82.18 86.46 85.79",
        "84.96 86.31 80.48 85.01 82.65 81.04 82.73 84.86 82.19 77.27 87.24 61.34 82.11 86.02 85.09",
        "81.84 83.55 77.23 82.84 81.83 76.91 81.15 82.76 76.57 65.68 86.36 41.96 81.32 85.73 84.63",
        "80.05 81.64 69.53 80.65 77.1 77.09 80.17 78.56 77.54 51.09 84.74 24.92 80.13 84.46 84.23",
        "78.01 78.6 62.97 74.69 76.96 71.99 77.75 76.13 74.26 28.39 78.66 17.85 78.81 82.79 83.68",
    ),
    "alp_he": (
        "88.61 89.27 85.56 89.58 83.58 87.05 86.36 88.71 88.62 88.2 90.1 86.55 85.93 89.37 88.52",
        "85.89 88.25 81.13 88.15 83.79 83.83 85.88 87.0 86.2 82.37 89.9 69.33 85.97 88.72 87.62",
        "81.61 83.99 76.29 86.14 83.69 79.81 84.68 85.71 82.47 73.58 89.13 51.2 84.94 87.98 86.99",
        "78.72 81.42 67.61 84.08 75.73 80.34 83.73 82.52 82.79 61.5 88.06 30.06 83.36 86.92 86.89",
        "76.26 76.64 60.84 78.21 77.56 75.28 81.5 81.76 79.36 38.48 84.46 16.58 82.01 84.19 86.37",
    ),
}


def record_named(name: str) -> CheckpointRecord:
    digest = name.encode().hex().ljust(64, "0")
    return CheckpointRecord(
        name, digest, "trained", "cifar10", LINF, "w", "e" * 64, Capabilities(10)
    )


def bits_of(right: int, total: int) -> np.ndarray:
    return np.arange(total) < right


def published_bits(defense: str) -> dict[Cell, np.ndarray]:
    return {
        Cell(corruption.name, severity): bits_of(round(100 * float(percent)), 10_000)
        for severity, line in zip(SEVERITIES, PUBLISHED[defense], strict=True)
        for corruption, percent in zip(MAIN, line.split(), strict=True)
    }


def spec_of(cell: Cell, pixels: str = "files", made_by: str = "NAME.npy") -> AttackSpec:
    said = {"fingerprint": f"{cell}", "made_by": made_by, "pixels": pixels}
    return AttackSpec(cell.corruption, "logits", "none", tuple(sorted(said.items())))


class Bench:
    def __init__(self, store: Store) -> None:
        self.store = store

    def checkpoint(self, name: str) -> CheckpointRecord:
        record = record_named(name)
        self.store.add_checkpoint(record)
        return record

    def record(
        self, record: CheckpointRecord, spec: AttackSpec, threat: ThreatModel, right: str, first=0
    ) -> None:
        """`right` has one character per image: + for right, - for wrong."""
        population = EVERY if threat != LINF or spec == CLEAN else CORRECT
        job = Job(
            *(record.digest, "cifar10", IMAGES, threat, spec, population, 0, "float32"),
            *(first, first + len(right)),
        )
        broken = tuple(one == "-" for one in right)
        self.store.record(Outcome(job, (True,) * len(right), broken))

    def corrupt(self, record, cell: Cell, right: str, pixels="files", first=0) -> None:
        spec = spec_of(cell, pixels)
        self.record(record, spec, severity_threat(cell.severity), right, first)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store.open(tmp_path / "results.db") as store:
        yield Bench(store)


# Means


@pytest.mark.parametrize(
    ("defense", "mean"),
    [("pgd_at", 77.24), ("pgd_at_he", 77.30), ("alp", 77.73), ("alp_he", 80.55)],
)
def test_the_mean_of_published_tables_is_that_of_75_unweighted_accuracies(defense, mean):
    found = summary(record_named("a"), ORIGIN, published_bits(defense))
    assert 100 * found.mean.fraction == pytest.approx(mean, abs=0.005)
    assert (found.mean.cells, found.mean.examples) == (75, 10_000)


def test_the_two_means_that_the_paper_swapped_are_those_of_its_appendix():
    found = summary(record_named("a"), ORIGIN, published_bits("alp_he"))
    assert 100 * found.corruptions["defocus_blur"].fraction == pytest.approx(85.23, abs=0.005)
    assert 100 * found.corruptions["glass_blur"].fraction == pytest.approx(80.87, abs=0.005)


def test_families_and_severities_are_parts_of_the_mean_and_leave_the_extra_ones_out():
    right = {cell: bits_of(7, 10) for cell in MAIN_CELLS}
    right |= {cell: bits_of(3, 10) for cell in right if cell.corruption in ("snow", "fog")}
    right |= {Cell(one.name, s): bits_of(0, 10) for one in CORRUPTIONS[15:] for s in SEVERITIES}
    found = summary(record_named("a"), ORIGIN, right)
    means = {family: mean.fraction for family, mean in found.families.items()}
    assert means == pytest.approx({"noise": 0.7, "blur": 0.7, "weather": 0.5, "digital": 0.7})
    assert [mean.fraction for mean in found.severities.values()] == pytest.approx([9.7 / 15] * 5)
    assert found.mean.fraction == pytest.approx(9.7 / 15)
    assert {family: found.families[family].cells for family in FAMILIES} == {
        "noise": 15,
        "blur": 20,
        "weather": 20,
        "digital": 20,
    }
    assert found.corruptions["saturate"].fraction == 0


def test_no_mean_of_a_part_passes_for_the_whole():
    right = {cell: bits_of(5, 10) for cell in MAIN_CELLS if cell != Cell("fog", 3)}
    found = summary(record_named("a"), ORIGIN, right)
    assert found.mean is None
    assert [level for level, mean in found.severities.items() if mean is None] == [3]
    assert [family for family, mean in found.families.items() if mean is None] == ["weather"]
    assert found.corruptions["fog"] is None
    assert len(found.cells) == 74


def test_a_mean_counts_the_images_that_all_its_cells_cover():
    right = {cell: bits_of(10, 10) for cell in MAIN_CELLS}
    right[Cell("fog", 3)] = np.array([True, False, True, True])
    found = summary(record_named("a"), ORIGIN, right)
    assert (found.mean.examples, found.families["noise"].examples) == (4, 10)
    assert found.mean.fraction == pytest.approx((74 * 4 + 3) / (75 * 4))
    assert (found.cells[Cell("fog", 3)].count, found.cells[Cell("fog", 3)].total) == (3, 4)


def test_a_cell_has_the_wilson_interval_of_its_images():
    found = summary(record_named("a"), ORIGIN, {Cell("fog", 1): bits_of(592, 1000)})
    rate = found.cells[Cell("fog", 1)]
    assert (rate.low, rate.high) == pytest.approx((0.5612, 0.6221), abs=5e-5)


# The bootstrap


def test_variants_of_one_image_are_drawn_together():
    one = np.random.default_rng(0).random(400) < 0.6
    low, high = cluster_bootstrap(np.stack([one] * 75), seed=0)
    half = 1.96 * np.sqrt(one.mean() * (1 - one.mean()) / 400)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)  # of 400 images, not of 30,000
    assert (low, high) == cluster_bootstrap(one[None], seed=0)


def test_images_that_are_right_equally_often_leave_no_uncertainty():
    right = np.array([[True, False], [False, True]] * 3)
    assert cluster_bootstrap(right, seed=0) == (0.5, 0.5)


def test_the_bootstrap_has_the_law_of_drawing_whole_images():
    random = np.random.default_rng(1)
    right = random.random((10, 60)) < random.random(60)
    drawn = random.integers(0, 60, (20_000, 60))
    expected = np.quantile(right.mean(axis=0)[drawn].mean(axis=1), [0.025, 0.975])
    assert cluster_bootstrap(right, seed=0, resamples=20_000) == pytest.approx(expected, abs=0.004)


def test_the_same_bits_always_give_the_same_interval():
    right = published_bits("alp")
    first, second = (summary(record_named("a"), ORIGIN, right).mean for _ in range(2))
    assert first == second
    assert first.low < first.fraction < first.high
    found = corruption_json(summary(record_named("a"), ORIGIN, right))
    assert found["bootstrap"] == {"seed": 0, "resamples": 10_000}


# The store


def test_corruptions_never_enter_a_board(bench):
    record = bench.checkpoint("a")
    attack = AttackSpec("pgd", "logits", "ce")
    bench.record(record, CLEAN, LINF, "+++-")
    bench.record(record, attack, LINF, "++-+")
    scope = (record.digest, "cifar10", IMAGES, LINF, 0, "float32")
    bench.store.record_plan(Plan(*scope, "standard-1", ((attack.hash, CORRECT),)))
    before = as_json(boards(bench.store))
    for cell in MAIN_CELLS:
        bench.corrupt(record, cell, "----")
    bench.record(record, CLEAN, severity_threat(2), "++++")  # as no harness writes it
    bench.store.record_failure(
        Failure(record.digest, "cifar10", IMAGES, severity_threat(2), "fog", "raised", "no")
    )
    assert as_json(boards(bench.store)) == before
    assert boards(bench.store)[0].standings[0].robust.count == 2


def test_stored_slices_are_put_together_up_to_the_first_gap(bench):
    record = bench.checkpoint("a")
    bench.corrupt(record, Cell("fog", 2), "+-")
    bench.corrupt(record, Cell("fog", 2), "-+", first=2)
    bench.corrupt(record, Cell("fog", 2), "++", first=6)
    (found,) = corruption_standings(bench.store)
    rate = found.cells[Cell("fog", 2)]
    assert (rate.count, rate.total) == (2, 4)


def test_published_and_generated_pixels_are_never_averaged_together(bench):
    record = bench.checkpoint("a")
    for number, cell in enumerate(MAIN_CELLS):
        bench.corrupt(record, cell, "++", "files" if number % 2 else "generated")
    found = corruption_standings(bench.store)
    assert {row.pixels: len(row.cells) for row in found} == {"files": 37, "generated": 38}
    assert all(row.mean is None for row in found)


def test_checkpoints_are_ordered_by_their_mean_and_keep_their_failures(bench):
    worse, better = bench.checkpoint("a"), bench.checkpoint("b")
    for cell in MAIN_CELLS:
        bench.corrupt(worse, cell, "+---")
        bench.corrupt(better, cell, "++--")
    bench.store.record_failure(
        Failure(worse.digest, "cifar10", IMAGES, severity_threat(2), "fog", "raised", "no")
    )
    found = corruption_standings(bench.store)
    assert [(row.checkpoint.name, len(row.failures)) for row in found] == [("b", 0), ("a", 1)]
    assert [row.checkpoint.name for row in corruption_standings(bench.store, worse)] == ["a"]


def test_a_request_is_measured_on_its_own_cells_and_images_alone(bench):
    record = bench.checkpoint("a")
    cells = [Cell("fog", 1), Cell("fog", 5)]
    for cell in cells:
        bench.corrupt(record, cell, "+-++")
        bench.corrupt(record, cell, "----", "generated")
    wanted = {cell: spec_of(cell) for cell in cells}
    scope = {"dataset": "cifar10", "images": IMAGES}
    found = measure_corruptions(
        bench.store, record, attacks={cells[0]: wanted[cells[0]]}, examples=3, **scope
    )
    assert {cell: (rate.count, rate.total) for cell, rate in found.cells.items()} == {
        cells[0]: (2, 3)
    }
    with pytest.raises(HarnessError, match="2 of 2 are missing, such as fog at severity 1"):
        measure_corruptions(bench.store, record, attacks=wanted, examples=5, **scope)


def test_corruptions_survive_a_merge_with_another_machine(bench, tmp_path):
    record = bench.checkpoint("a")
    bench.corrupt(record, Cell("fog", 2), "+-")
    with Store.open(tmp_path / "other.db") as other:
        assert other.merge(tmp_path / "results.db").outcomes == 1
        assert corruption_standings(other) == corruption_standings(bench.store)


# The threat


@pytest.mark.parametrize("severity", [Fraction(0), Fraction(6), Fraction(3, 2), Fraction(-1)])
def test_a_corruption_has_one_of_five_severities(severity):
    with pytest.raises(HarnessError, match="is no severity of a corruption: there are 1 to 5"):
        ThreatModel("corruption", severity)


def test_a_corruption_is_no_ball():
    assert [severity_threat(severity).is_ball for severity in SEVERITIES] == [False] * 5
    assert str(severity_threat(3)) == "corruption 3"
    assert LINF.is_ball
    assert ThreatModel("l2", Fraction(1, 2)).is_ball
