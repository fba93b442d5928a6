"""D16: a model that does not answer twice alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from harness.diagnostics.diagnostic import AMBER, GREEN, RED, Reading, diagnostic
from harness.diagnostics.examination import Examination
from harness.diagnostics.raw_pass import raw_logits

FORWARDS = 5
_LARGEST = 1e-4


@diagnostic("D16", title="Randomness", amber="logits differ by > 1e-4", red="any prediction flips")
def randomness(examination: Examination) -> Reading:
    """Five passes: how often the prediction flips, how far unit logits move.

    The module itself is asked as well as the way to it, which may fix the random numbers.
    """
    ways: tuple[Callable[[], Tensor], ...] = (
        lambda: raw_logits(examination.module, examination.images),
        lambda: examination.outputs(examination.images).logits,
    )
    flipped = torch.zeros(len(examination.labels), dtype=torch.bool)
    furthest = 0.0
    for way in ways:
        passes = torch.stack([way() for _ in range(FORWARDS)])
        flipped |= (passes.argmax(2) != passes.argmax(2)[0]).any(0).cpu()
        furthest = max(furthest, _furthest(passes))
    rate = float(flipped.float().mean())
    state = RED if flipped.any() else AMBER if furthest > _LARGEST else GREEN
    return Reading(
        state,
        100 * rate,
        f"{100 * rate:.1f} % of predictions flip in {FORWARDS} passes; unit logits differ by up "
        f"to {furthest:.2g}.",
        flipped,
        {"difference": (furthest,)},
    )


def _furthest(passes: Tensor) -> float:
    """Largest L2 distance between any two passes of an image's logits, scaled to length 1."""
    unit = functional.normalize(torch.nan_to_num(passes), dim=2)
    apart = torch.linalg.vector_norm(unit[:, None] - unit[None], dim=3)
    return float(apart.max())
