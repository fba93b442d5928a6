"""D24: whether what broke an image survives being saved as an 8-bit file."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.search import is_right
from harness.diagnostics.counts import graded_share
from harness.diagnostics.diagnostic import Reading, diagnostic
from harness.diagnostics.examination import Examination, NotRun
from harness.diagnostics.plain_attacks import plain_attacks

_LEVELS = 255
_GRID = 1e-3


@diagnostic("D24", title="8-bit survival", amber="< 98 %", red="< 90 %")
def eight_bit(examination: Examination) -> Reading:
    """Share of the broken images still broken when their pixels are rounded to grey levels.

    An image survives if the first or the last wrong candidate of any attack does: the first one
    lies at the decision boundary by its nature.
    """
    levels = examination.images * _LEVELS
    if float((levels - levels.round()).abs().max()) > _GRID:
        raise NotRun("the clean images are not 8-bit, so no integer ball is defined around them.")
    specs = plain_attacks(examination)
    broken = examination.broken(*specs)
    total = int(broken.sum())
    if total == 0:
        raise NotRun("no attack broke an image that could be rounded.")
    survives = torch.zeros_like(broken)
    for spec in specs:
        trial = examination.run(spec)
        for candidate, wrong in (
            (trial.adversarial, trial.broken),
            (trial.last, trial.last_wrong),
        ):
            rounded = rounded_inwards(examination, candidate.to(examination.device))
            logits = examination.outputs(rounded).logits
            survives |= wrong & ~is_right(logits, examination.labels).cpu()
    lost = broken & ~survives
    count = int(lost.sum())
    return Reading(
        graded_share(count, total, amber=0.02, red=0.10),
        100 * (1 - count / total),
        f"{count} of {total} broken images are right again when rounded to 8 bits.",
        lost,
    )


def rounded_inwards(examination: Examination, candidate: Tensor) -> Tensor:
    """[N, C, H, W], the nearest grey levels inside the integer ball around the clean images.

    For L2, whose ball is not one interval per pixel, every pixel is rounded towards the clean one.
    """
    clean = (examination.images.double() * _LEVELS).round()
    difference = candidate.double() * _LEVELS - clean
    if examination.threat.norm == "l2":
        rounded = clean + difference.trunc()
    else:
        room = _LEVELS * examination.threat.epsilon
        most = float(room.numerator // room.denominator)
        rounded = clean + difference.round().clamp(-most, most)
    return (rounded.clamp(0, _LEVELS) / _LEVELS).to(candidate.dtype)
