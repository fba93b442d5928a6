"""How accuracy falls as epsilon grows: the security curve of diagnostic D08."""

from __future__ import annotations

import math

from harness.standings import Standing
from harness.threat import format_fraction
from leaderboard import wording
from leaderboard.panels.figures import (
    PERCENT,
    Axis,
    Figure,
    Line,
    Marks,
    Table,
    curves,
    keys,
    lines,
)

_LABELLED = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255)
_ACROSS = Axis(
    "epsilon in 255ths, doubling",
    0.0,
    8.0,
    tuple((math.log2(1 + step), str(step)) for step in _LABELLED),
)


def security_curve(standing: Standing) -> Figure | None:
    """Drawn of all images that the diagnostic looked at; None where it was not run.

    The diagnostic counts in percent of the images that are right as they are; here the clean
    accuracy is the first point.
    """
    found = next((one for one in standing.findings if one.diagnostic == "D08"), None)
    if found is None:
        return None
    read = curves(found.details, "epsilon_255ths", "security_curve", "as_run")
    clean = found.details.get("clean", ())
    if read is None or len(clean) != 1 or not math.isfinite(clean[0]):
        return None
    levels, curve, as_run = read
    if any(level < 0 for level in levels):
        return None
    share = clean[0] / 100
    series = [Line("security curve", _points(levels, curve, share))]
    if as_run != curve:
        series.append(Line("each attack as it ran", _points(levels, as_run, share)))
    epsilon = 255 * float(standing.threat.epsilon)
    chance = 100 / max(standing.checkpoint.capabilities.classes, 1)
    marks = Marks(
        ((math.log2(1 + epsilon), f"this board: {format_fraction(standing.threat.epsilon)}"),),
        ((chance, f"guessing: {chance:.3g} %"),),
    )
    said = (
        f"On {wording.plural(found.examples, 'image')}: Auto-PGD with two losses on the deployed "
        f"logits, at {wording.plural(len(levels), 'epsilon')}. A sound curve falls below "
        "guessing; one that stays up at large epsilons means that the attack fails, not that the "
        "model holds. This is one attack, not the union: the headline is lower where others broke "
        "more."
    )
    label = (
        f"Accuracy under one attack from {clean[0]:.1f} % at epsilon 0 to "
        f"{share * curve[-1]:.1f} % at {levels[-1]:g}/255"
    )
    return Figure(
        title="Security curve",
        said=said,
        chart=lines(label, series, _ACROSS, PERCENT, kind="wide", marks=marks),
        kind="wide",
        keys=keys(series),
        table=Table(
            "Accuracy in percent of all images looked at.",
            ("Epsilon", "Security curve, %", "As run, %"),
            tuple(
                (f"{level:g}/255", f"{share * one:.1f}", f"{share * two:.1f}")
                for level, one, two in zip(levels, curve, as_run, strict=True)
            ),
        ),
    )


def _points(
    levels: tuple[float, ...], percent: tuple[float, ...], share: float
) -> tuple[tuple[float, float], ...]:
    return tuple(
        (math.log2(1 + level), share * one) for level, one in zip(levels, percent, strict=True)
    )
