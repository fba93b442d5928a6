"""D11: logits or gradients that are no numbers."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from harness.attacks.losses import LOSSES
from harness.diagnostics.diagnostic import Reading, diagnostic, graded, none_like
from harness.diagnostics.examination import Examination, NoGradient
from harness.diagnostics.white_box import pgd_100


@diagnostic(
    "D11",
    title="Not a number",
    amber="any logit or gradient is NaN or infinite",
    red="on more than 0.5 % of the images",
)
def non_finite(examination: Examination) -> Reading:
    """Images with a NaN or infinite logit or gradient at some image of the ball.

    Looks at the clean image, a random point and the last iterate of PGD-100, with the gradients of
    cross-entropy and margin. Percentages are of all images, since one with a NaN among its clean
    logits counts as misclassified and would be left out.
    """
    logits, gradients = none_like(examination), none_like(examination)
    for images in _places(examination):
        logits |= _any(examination.outputs(images).logits)
        for loss in ("ce", "margin"):
            with suppress(NoGradient):
                gradients |= _any(examination.gradient(images, LOSSES[loss]))
    proof = logits | gradients
    value = 100.0 * float(proof.float().mean())
    note = (
        f"{int(logits.sum())} images with non-finite logits, "
        f"{int(gradients.sum())} with non-finite gradients."
    )
    details = {
        "logits": (100.0 * float(logits.float().mean()),),
        "gradients": (100.0 * float(gradients.float().mean()),),
    }
    return Reading(graded(value, amber=0.0, red=0.5), value, note, proof, details)


def _places(examination: Examination) -> list[Tensor]:
    places = [examination.images, examination.random_points("D11")]
    with suppress(NoGradient):  # D10 says so
        places.append(pgd_100(examination).last.to(examination.device))
    return places


def _any(values: Tensor) -> Tensor:
    """[N] bool on the CPU, whether anything of an image is not finite."""
    return ~torch.isfinite(values).flatten(1).all(1).cpu()
