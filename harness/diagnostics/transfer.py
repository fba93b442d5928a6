"""D05: images that other models' adversarial images break and gradients do not."""

from __future__ import annotations

from harness.diagnostics.diagnostic import Reading, diagnostic, graded_difference, points
from harness.diagnostics.examination import Examination, NotRun
from harness.diagnostics.white_box import union, white_box
from harness.identity import AttackSpec


def sources(examination: Examination) -> list[str]:
    """Surfaces of other models: every surrogate, and the same weights without the defense."""
    twin = ["stripped"] if examination.capabilities.strip else []
    return [f"surrogate({digest})" for digest in sorted(examination.surrogates)] + twin


def transfer_specs(examination: Examination, source: str) -> list[AttackSpec]:
    """PGD-20, PGD-100 and MIM-20, each with two losses (`attacks.md` section 8)."""
    return [
        examination.spec(name, steps=steps, surface=source, loss=loss)
        for name, steps in (("pgd", 20), ("pgd", 100), ("mim", 20))
        for loss in ("ce", "margin")
    ]


@diagnostic(
    "D05",
    title="Transfer beats white box",
    amber="other models' adversarial images break more than 0.3 points that no gradient does",
    red="more than 1 point",
    needs="surrogates",
)
def transfer_beats_white_box(examination: Examination) -> Reading:
    """Images that break when attacked on another model and that no gradient of this one breaks.

    The same weights without the defense's module are such another model. Details hold one row per
    surrogate: what each of the six attacks breaks, in percent.
    """
    if not sources(examination):
        raise NotRun("there is no surrogate: add another checkpoint of this dataset.")
    specs = {source: transfer_specs(examination, source) for source in sources(examination)}
    moved = union(examination, [spec for each in specs.values() for spec in each])
    if not moved.done:
        raise NotRun(next(iter(moved.skipped.values())))
    white = white_box(examination)
    found = graded_difference(
        white.broken | moved.broken, white.broken, examination.right, amber=0.3, red=1.0
    )
    details = {
        source: tuple(
            points(examination.run(spec).broken, examination) for spec in each if spec in moved.done
        )
        for source, each in specs.items()
    }
    plain = white_box(examination, adaptive=False).broken
    details["standard_white_box"] = (points(moved.broken & ~plain, examination),)
    note = (
        f"adversarial images of {len(specs)} other models alone break "
        f"{int(found.proof.sum())} images ({found.points:.1f} %)."
    )
    return Reading(found.state, found.points, note, found.proof, details)
