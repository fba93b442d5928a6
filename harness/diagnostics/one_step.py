"""D02: one step that breaks more than a hundred."""

from __future__ import annotations

from harness.diagnostics.diagnostic import Reading, as_floats, diagnostic, graded_difference, points
from harness.diagnostics.examination import Examination
from harness.diagnostics.white_box import pgd_100


@diagnostic(
    "D02",
    title="One step beats many",
    amber="FGSM breaks more than 0.5 points more than PGD-100, beyond chance at 1 %",
    red="more than 2 points more",
)
def one_step_beats_iterative(examination: Examination) -> Reading:
    """FGSM breaks images that PGD-100 does not, net of the other way round.

    What one step finds, many small ones should: else the gradient misleads away from the image.
    """
    single = examination.broken(examination.spec("fgsm"))
    many = pgd_100(examination).broken & examination.right
    found = graded_difference(single, many, examination.right, amber=0.5, red=2.0, needs_test=True)
    only = [points(single & ~many, examination), points(many & ~single, examination)]
    note = f"only FGSM breaks {only[0]:.1f} %, only PGD-100 {only[1]:.1f} %."
    details = {"only_fgsm_only_pgd": as_floats(only)}
    return Reading(found.state, found.points, note, found.proof, details)
