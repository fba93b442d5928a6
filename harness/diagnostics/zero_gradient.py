"""D10: gradients that are exactly zero."""

from __future__ import annotations

from torch import Tensor

from harness.attacks.losses import LOSSES, AttackLoss
from harness.diagnostics.diagnostic import RED, Reading, diagnostic, graded, none_like, points
from harness.diagnostics.examination import Examination, NoGradient
from harness.diagnostics.white_box import losses_for


@diagnostic(
    "D10",
    title="Zero gradient",
    amber="zero on more than 0.5 % of the images, for some loss and point",
    red="on more than 5 %",
)
def zero_gradient(examination: Examination) -> Reading:
    """Images whose input gradient is zero in every pixel, in float32.

    At the clean image and at a random point of the ball, for cross-entropy, margin and DLR. A
    model that cannot be differentiated has none anywhere.
    """
    places = {"clean": examination.images, "random": examination.random_points("D10")}
    proof, details = none_like(examination), {}
    try:
        for place, images in places.items():
            for loss in losses_for(examination):
                zero = _is_zero(examination, images, LOSSES[loss])
                proof |= zero & examination.right
                details[f"{loss}_{place}"] = (points(zero, examination),)
    except NoGradient as reason:
        return Reading(RED, 100.0, str(reason), examination.right.clone())
    value = max(rate for (rate,) in details.values())
    listed = ", ".join(f"{rate:.1f} % ({name})" for name, (rate,) in details.items())
    note = f"images without a gradient: {listed}."
    return Reading(graded(value, amber=0.5, red=5.0), value, note, proof, details)


def _is_zero(examination: Examination, images: Tensor, loss: AttackLoss) -> Tensor:
    gradient = examination.gradient(images, loss)
    return (gradient.flatten(1).abs().amax(1) == 0).cpu()
