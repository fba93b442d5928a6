"""D06: images that random noise breaks and gradients do not."""

from __future__ import annotations

from harness.diagnostics.diagnostic import Reading, diagnostic, graded_difference, points
from harness.diagnostics.examination import Examination
from harness.diagnostics.white_box import broken_by_pgd_100, white_box


@diagnostic(
    "D06",
    title="Random noise beats gradients",
    amber="noise breaks images that PGD-100 does not, beyond chance at 1 %",
    red="more than 0.5 points",
)
def noise_beats_gradients(examination: Examination) -> Reading:
    """Images that one of 200 random perturbations breaks and PGD-100 does not.

    Where the row is adaptive, PGD-100 is joined by every adaptive gradient attack; the value
    without them stays in the details.
    """
    noise = examination.broken(examination.spec("uniform_noise", draws=100, vertices=100))
    plain = climbed = broken_by_pgd_100(examination)
    if examination.row.is_adaptive:
        climbed = plain | white_box(examination).broken
    found = graded_difference(
        noise | climbed, climbed, examination.right, amber=0.0, red=0.5, needs_test=True
    )
    accuracy = 100 - points(noise, examination)
    note = (
        f"noise alone breaks {int(found.proof.sum())} images ({found.points:.1f} %); "
        f"accuracy under noise is {accuracy:.1f} %."
    )
    details = {
        "accuracy_under_noise": (accuracy,),
        "only_noise_not_pgd": (points(noise & ~plain, examination),),
    }
    return Reading(found.state, found.points, note, found.proof, details)
