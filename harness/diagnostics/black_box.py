"""D04: images that queries break and gradients do not."""

from __future__ import annotations

from harness.diagnostics.diagnostic import Reading, diagnostic, graded_difference, points
from harness.diagnostics.examination import Examination, NotRun
from harness.diagnostics.white_box import union, white_box
from harness.identity import AttackSpec


def black_box_specs(examination: Examination) -> list[AttackSpec]:
    """Square, RayS, NES, SPSA and ZOO, as long as diagnostics need (`attacks.md` section 12)."""
    spec = examination.spec
    return [
        spec("square", queries=1000),
        spec("rays", queries=1000),
        spec("nes", steps=20),
        spec("spsa", steps=20),
        spec("zoo", queries=1000),
    ]


@diagnostic(
    "D04",
    title="Black box beats white box",
    amber="queries break more than 0.2 points that no gradient attack does",
    red="more than 1 point",
)
def black_box_beats_white_box(examination: Examination) -> Reading:
    """Images that an attack by queries breaks and no gradient attack does.

    Who sees gradients can do whatever queries can, so such images prove a masked gradient. Where
    the row is adaptive, the gradient attacks are the adaptive ones too; the value without them
    stays in the details.
    """
    black = union(examination, black_box_specs(examination))
    if not black.done:
        raise NotRun(next(iter(black.skipped.values())))
    white = white_box(examination)
    found = graded_difference(
        white.broken | black.broken, white.broken, examination.right, amber=0.2, red=1.0
    )
    details = {
        spec.label: (points(examination.run(spec).broken & ~white.broken, examination),)
        for spec in black.done
    }
    plain = white_box(examination, adaptive=False).broken
    details["standard_white_box"] = (points(black.broken & ~plain, examination),)
    note = f"queries alone break {int(found.proof.sum())} images ({found.points:.1f} %)."
    if not white.done:
        note += " No gradient attack could run: " + next(iter(white.skipped.values()))
    return Reading(found.state, found.points, note, found.proof, details)
