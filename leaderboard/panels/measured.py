"""One analysis each: what its numbers mean, as sentences and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.identity import Measurement
from leaderboard import wording
from leaderboard.panels.figures import Axis, Figure, Line, Table, lines

_MOST_TENSORS = 400
_MOST_LEVELS = 16
_MOST_ROWS = 64

Numbers = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Analysis:
    """One analysis: what it means, drawings, tables."""

    id: str
    title: str
    said: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


def relationship(found: Sequence[Measurement]) -> Analysis | None:
    """The vote of the nearest training images."""
    rows = [
        (one.on, text(k), share(cosine), share(euclidean))
        for one in found
        for k, cosine, euclidean in zip(
            *(one.values.get(name, ()) for name in ("k", "cosine", "euclidean")), strict=False
        )
    ]
    if not rows:
        return None
    return Analysis(
        "relationship_score",
        "Relationship score",
        "How often the k nearest training images in feature space, which vote as they are and "
        "attacked, name the right class. Features that an attack cannot move keep this high.",
        tables=(
            Table(
                "Accuracy of the neighbours' vote.",
                ("Images", "k", "By cosine, %", "By Euclidean distance, %"),
                tuple(rows[:_MOST_ROWS]),
            ),
        ),
    )


def angular_margins(found: Sequence[Measurement]) -> Analysis | None:
    """The angle to the own class against the smallest other."""
    rows: list[tuple[str, ...]] = []
    levels: tuple[float, ...] = ()
    for one in found:
        at, quantiles = (tuple(one.values.get(name, ())) for name in ("levels", "quantiles"))
        if (
            not at
            or len(at) != len(quantiles)
            or len(at) > _MOST_LEVELS
            or (levels and at != levels)
        ):
            continue
        levels = at
        mean, negative = (first(one.values, name) for name in ("mean", "share_negative"))
        rows.append((one.on, text(mean), share(negative), *map(text, quantiles)))
    if not rows:
        return None
    return Analysis(
        "angular_margins",
        "Angular margins",
        "The angle between an image's features and its class's weights, less the smallest angle "
        "to another class, in radians. Negative is right in angle.",
        tables=(
            Table(
                "Margins in radians: mean, share that is right in angle, and quantiles.",
                ("Images", "Mean", "Negative, %", *(f"{100 * level:.3g} %" for level in levels)),
                tuple(rows),
            ),
        ),
    )


def gradient_norms(found: Sequence[Measurement]) -> Analysis | None:
    """How much more attacked images move the weights."""
    values = found[0].values
    pairs = {
        name: (pair[0], pair[1])
        for name, pair in values.items()
        if len(pair) == 2 and all(map(math.isfinite, pair)) and name != "all"
    }
    if not pairs or len(pairs) > _MOST_TENSORS:
        return None
    both = tuple(values.get("all", ()))
    said = f"{both[0]:.3g} on average over the tensors. " if len(both) == 2 else ""
    table = Table(
        "Attacked over clean, per tensor in the order of the network.",
        ("Tensor", "Mean ratio", "Ratio of the means"),
        tuple((name, text(one), text(two)) for name, (one, two) in pairs.items()),
    )
    return Analysis(
        "gradient_norm_ratios",
        "Gradient norms, attacked over clean",
        f"How much more attacked training images move the weights than clean ones: {said}"
        f"{found[0].note}",
        figures=_ratio_figure(pairs, table),
    )


def _ratio_figure(pairs: Mapping[str, tuple[float, float]], table: Table) -> tuple[Figure, ...]:
    """The mean ratio over the depth of the network; one tensor alone is no curve."""
    ratios = [pair[0] for pair in pairs.values()]
    top = max(ratios)
    if len(ratios) < 2 or top <= 0:
        return ()
    across = Axis("tensor, from the first layer to the last", 1.0, float(len(ratios)), ())
    up = Axis("", 0.0, top, tuple((top * part, f"{top * part:.2g}") for part in (0, 0.5, 1)))
    line = Line("mean ratio", tuple((float(n), r) for n, r in enumerate(ratios, start=1)))
    label = f"Ratio of gradient norms over {len(ratios)} tensors, at most {top:.3g}"
    chart = lines(label, [line], across, up)
    return (Figure("Ratio over depth", "", chart, "small", (), table),)


def overfitting(found: Sequence[Measurement]) -> Analysis | None:
    """What the last epoch lost against the best."""
    values = found[0].values
    names = ("best", "last", "clean_best", "clean_last")
    best, last, *clean = (first(values, name) for name in names)
    epochs = [text(first(values, name)) for name in ("best_epoch", "last_epoch")]
    if best is None or last is None:
        return None
    return Analysis(
        "overfitting_gap",
        "Robust overfitting",
        f"Last epoch minus best epoch, accuracy under PGD-20: {wording.signed_points(last - best)} "
        f"points. {found[0].note}".strip(),
        tables=(
            Table(
                "Accuracy on test images.",
                ("Weights", "Epoch", "Under PGD-20, %", "Clean, %"),
                (
                    ("best epoch", epochs[0], share(best), share(clean[0])),
                    ("last epoch", epochs[1], share(last), share(clean[1])),
                ),
            ),
        ),
    )


def training_time(found: Sequence[Measurement]) -> Analysis | None:
    """Seconds per epoch."""
    values = found[0].values
    median, total = first(values, "median"), first(values, "total")
    if median is None or total is None:
        return None
    return Analysis(
        "training_time",
        "Training time",
        f"{wording.duration(median)} per epoch in the median, {wording.duration(total)} in all, "
        f"without the probe. {found[0].note}",
    )


def first(values: Numbers, name: str) -> float | None:
    """The one number of that name, if it is one."""
    found = values.get(name, ())
    return found[0] if len(found) == 1 and math.isfinite(found[0]) else None


def text(number: float | None) -> str:
    """A number to three digits, a dash for none."""
    return wording.NOTHING if number is None else wording.number(number)


def share(number: float | None) -> str:
    """A fraction in percent, a dash for none."""
    if number is None or not math.isfinite(number):
        return wording.NOTHING
    return f"{100 * number:.1f}"
