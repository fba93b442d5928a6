"""D07: images that survive an attack without a bound."""

from __future__ import annotations

import math
from fractions import Fraction

from harness.diagnostics.diagnostic import Reading, diagnostic, graded, points
from harness.diagnostics.examination import Examination
from harness.identity import AttackSpec


def unbounded_specs(examination: Examination) -> list[AttackSpec]:
    """PGD-100 with steps of twice epsilon over their number, and APGD."""
    steps = dict(examination.spec("pgd", steps=100).parameters)["steps"]
    return [
        examination.spec("pgd", steps=100, relative_step=2 / int(steps)),
        examination.spec("apgd_ce", steps=100),
    ]


def whole_box(examination: Examination) -> Fraction:
    """An epsilon that only the [0, 1] box bounds."""
    pixels = math.prod(examination.images.shape[1:])
    return Fraction(1) if examination.threat.norm == "linf" else Fraction(math.isqrt(pixels) + 1)


@diagnostic(
    "D07",
    title="Unbounded attack",
    amber="an image survives",
    red="more than 1 % survive",
)
def unbounded_attack(examination: Examination) -> Reading:
    """Images that survive both PGD-100 and APGD when every image of the box is allowed.

    An attack may then show the image of another class, so a survivor means that it failed.
    """
    epsilon = whole_box(examination)
    survivors = examination.right.clone()
    details = {}
    for spec in unbounded_specs(examination):
        broken = examination.run(spec, epsilon=epsilon).broken
        details[spec.label] = (points(~broken, examination),)
        survivors &= ~broken
    value = points(survivors, examination)
    note = f"{int(survivors.sum())} images survive an attack that may change every pixel at will."
    return Reading(graded(value, amber=0.0, red=1.0), value, note, survivors, details)
