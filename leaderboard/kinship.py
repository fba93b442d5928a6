"""A family on one board: every defense of it beside its baseline, training seeds apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.standings import Rate, Standing
from harness.standings.comparison import Comparison
from leaderboard import wording
from leaderboard.charts import Chart
from leaderboard.evaluations import RED
from leaderboard.family import Key, Kin, group_key
from leaderboard.frame import Frame, Link
from leaderboard.gains import Gain, gain_chart
from leaderboard.material import Material


@dataclass(frozen=True)
class Seed:
    """One training seed of a defense and of its baseline. Empty words where one is missing."""

    defense: str
    seed: str
    robust: str
    interval: str
    href: str
    evidence: str
    baseline: str
    baseline_robust: str
    baseline_href: str
    difference: str


@dataclass(frozen=True)
class Line:
    """One defense: means over its training seeds with their range, and its gain if it has one.

    `kind` is `higher`, `lower`, `open`, or empty where nothing is compared; `words` says it.
    """

    name: str
    base: str
    is_unvalidated: bool
    seeds: str
    clean: str
    clean_range: str
    robust: str
    robust_range: str
    gain: str
    interval: str
    only_here: str
    only_there: str
    p: str
    kind: str
    words: str
    remarks: str


@dataclass(frozen=True)
class Group:
    """A family on one board, architecture and scale.

    `shadowed` names checkpoints that share defense, scale and seed with one that is shown.
    """

    id: str
    title: str
    setting: str
    scale: str
    is_small_scale: bool
    images: str
    chart: Chart | None
    lines: tuple[Line, ...]
    seeds: tuple[Seed, ...]
    shadowed: tuple[Link, ...]

    @classmethod
    def of(cls, found: Kin, key: Key, number: int, frame: Frame) -> Group:
        """The comparisons of this key, baselines before what is built on them."""
        mine = [one for one in found.comparisons if group_key(one) == key]
        shown = sorted([*mine, *_baselines(found, key, mine)], key=_order)
        first = shown[0].standings[0]
        gains = [gain for gain in map(Gain.of, shown) if gain is not None]
        counts = sorted({one.examples for row in shown for one in row.standings})
        what = f"Robust accuracy minus that of the baseline on {first.dataset}, in points"
        return cls(
            id=f"group-{number}",
            title=f"{first.dataset}, {wording.threat(first.threat)}",
            setting=first.checkpoint.architecture,
            scale=wording.scale(first.checkpoint),
            is_small_scale=wording.is_small_scale(first.checkpoint),
            images=" or ".join(map(wording.count, counts)),
            chart=gain_chart(gains, what),
            lines=tuple(_line(found.material, one) for one in shown),
            seeds=tuple(seed for one in shown for seed in _seeds(found, one, frame)),
            shadowed=tuple(_shadowed(found, key, shown, frame)),
        )


def _order(one: Comparison) -> tuple[str, bool, str]:
    return one.baseline or one.defense, bool(one.baseline), one.defense


def _baselines(found: Kin, key: Key, mine: Sequence[Comparison]) -> Iterator[Comparison]:
    """Rows of other families that these were built on."""
    wanted = {one.baseline for one in mine} - {one.defense for one in mine}
    for one in found.material.comparisons:
        if one.defense in wanted and group_key(one) == key:
            yield Comparison(one.defense, "", one.standings, ())


def _line(material: Material, one: Comparison) -> Line:
    gain, text = Gain.of(one), material.texts.defenses.get(one.defense)
    clean, clean_range = _mean([row.clean for row in one.standings])
    robust, robust_range = _mean([row.robust for row in one.standings])
    without = "its baseline was not measured here" if one.baseline else ""
    return Line(
        name=one.defense,
        base=one.baseline,
        is_unvalidated=text is None or text.status == "unvalidated",
        seeds=", ".join(str(row.checkpoint.seed) for row in one.standings),
        clean=clean,
        clean_range=clean_range,
        robust=robust,
        robust_range=robust_range,
        gain=gain.points if gain else wording.NOTHING,
        interval=gain.interval_points if gain else "",
        only_here=wording.count(gain.only_here) if gain else wording.NOTHING,
        only_there=wording.count(gain.only_there) if gain else wording.NOTHING,
        p=_p(gain.p) if gain else wording.NOTHING,
        kind=gain.kind if gain else "",
        words=gain.words if gain else without,
        remarks="; ".join(_remarks(one.standings)),
    )


def _mean(rates: Sequence[Rate]) -> tuple[str, str]:
    """The mean over training seeds in percent, and its range where there are several."""
    values = [rate.fraction for rate in rates]
    mean = f"{100 * sum(values) / len(values):.1f}"
    spread = f"{100 * min(values):.1f}–{100 * max(values):.1f}" if len(values) > 1 else ""
    return mean, spread


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _remarks(standings: Sequence[Standing]) -> Iterator[str]:
    """What the rows themselves say about why."""
    collapsed = [row for row in standings if row.checkpoint.training.get("collapsed_at")]
    if collapsed:
        seeds = ", ".join(str(row.checkpoint.seed) for row in collapsed)
        yield f"training collapsed (seed {seeds})"
    gaps = [row.adaptive_gap for row in standings if row.adaptive_gap is not None]
    if gaps and 100 * max(gaps) > RED:
        yield f"standard attacks alone would hide up to {wording.points(max(gaps))} points"


def _seeds(found: Kin, one: Comparison, frame: Frame) -> Iterator[Seed]:
    theirs = {row.checkpoint.seed: row for row in one.baselines}
    for row in one.standings:
        other = theirs.get(row.checkpoint.seed)
        is_paired = other is not None and other.examples == row.examples
        lost = other.robust.fraction if other is not None else 0.0
        yield Seed(
            defense=one.defense,
            seed=str(row.checkpoint.seed),
            robust=wording.percent(row.robust),
            interval=wording.interval(row.robust),
            href=found.link(row, frame.root).href,
            evidence=wording.evidence(row),
            baseline=one.baseline if other else "",
            baseline_robust=wording.percent(other.robust) if other else wording.NOTHING,
            baseline_href=found.link(other, frame.root).href if other else "",
            difference=wording.signed_points(row.robust.fraction - lost)
            if is_paired
            else wording.NOTHING,
        )


def _shadowed(found: Kin, key: Key, shown: Sequence[Comparison], frame: Frame) -> Iterator[Link]:
    """Adaptively tested rows of the same defense, scale and seed as one that is compared."""
    taken = {
        (one.defense, row.checkpoint.seed): row.checkpoint.name
        for one in shown
        for row in one.standings
    }
    for row in found.rows():
        record = row.checkpoint
        same = (row.dataset, row.images, str(row.threat), record.architecture, record.scale) == key
        name = taken.get((record.defense, record.seed), record.name)
        if same and row.is_adaptive and record.kind == "trained" and name != record.name:
            yield found.link(row, frame.root)
