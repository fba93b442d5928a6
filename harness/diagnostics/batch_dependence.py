"""D18: an answer that depends on which other images are asked about."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.diagnostics.diagnostic import AMBER, GREEN, RED, Reading, diagnostic
from harness.diagnostics.examination import Examination, NotRun
from harness.diagnostics.raw_pass import raw_logits, spread

ALONE = 64
"""So many images are asked about one by one."""

_TOLERANCE = 1e-4


@diagnostic(
    "D18",
    title="Batch dependence",
    amber="a logit differs by > 1e-4 of the spread",
    red="any prediction changes",
)
def batch_dependence(examination: Examination) -> Reading:
    """Logits of an image alone, in its batch, in a shuffled batch and among its own class.

    Alone means twice the same image, since some layers refuse a batch of one. A prediction counts
    as changed where its logits differ by more than the tolerance: exact ties fall either way.
    """
    home = _logits(examination, torch.arange(len(examination.labels)))
    tolerance = _TOLERANCE * spread(examination)
    if float((_logits(examination, torch.arange(len(home))) - home).abs().max()) > tolerance:
        raise NotRun("the model does not answer twice alike (D16), so batches cannot be compared.")
    elsewhere = {
        "shuffled": _shuffled(examination),
        "one_class": _by_class(examination),
        "alone": _alone(examination),
    }
    changed = torch.zeros(len(home), dtype=torch.bool)
    apart = {}
    for batch, logits in elsewhere.items():
        known = home[: len(logits)]
        difference = (logits - known).abs().amax(1)
        flips = (logits.argmax(1) != known.argmax(1)) & (difference > tolerance)
        changed[: len(logits)] |= flips.cpu()
        apart[batch] = float(difference.max())
    furthest = max(apart.values())
    return Reading(
        RED if changed.any() else AMBER if furthest > tolerance else GREEN,
        100 * float(changed.float().mean()),
        f"{int(changed.sum())} predictions change with the batch; logits by up to {furthest:.2g}.",
        changed,
        {batch: (value,) for batch, value in apart.items()} | {"tolerance": (tolerance,)},
    )


def _logits(examination: Examination, chosen: Tensor) -> Tensor:
    """[n, K] of these images in one batch; a single one is asked about twice at once."""
    images = examination.images[chosen.to(examination.device)]
    if len(images) == 1:
        images = images.expand(2, *images.shape[1:])
    return raw_logits(examination.module, images)[: len(chosen)]


def _shuffled(examination: Examination) -> Tensor:
    order = torch.randperm(
        len(examination.labels), generator=torch.Generator().manual_seed(examination.seed)
    )
    return _logits(examination, order)[order.argsort().to(examination.device)]


def _by_class(examination: Examination) -> Tensor:
    labels = examination.labels.cpu()
    found = torch.zeros_like(examination.logits)
    for label in set(labels.tolist()):
        members = (labels == label).nonzero()[:, 0]
        found[members.to(examination.device)] = _logits(examination, members)
    return found


def _alone(examination: Examination) -> Tensor:
    count = min(ALONE, len(examination.labels))
    return torch.cat([_logits(examination, torch.tensor([each])) for each in range(count)])
