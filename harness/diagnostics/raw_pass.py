"""One pass of the module itself: nothing frozen, padded or checked stands between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnostics.examination import Examination, NotRun
from harness.errors import ModelError, first_line
from harness.outputs import Outputs


def raw_logits(module: nn.Module, images: Tensor, **more: Any) -> Tensor:
    """[n, K], deployed logits, no gradient.

    Args:
        module: images -> logits or `Outputs`.
        images: [n, C, H, W] in [0, 1].
        more: further keywords of its forward call.

    Raises:
        NotRun: it raised, or returned something else.
    """
    try:
        with torch.no_grad():
            found = module(images, **more)
    except torch.OutOfMemoryError:
        raise
    except ModelError as error:
        raise NotRun(str(error)) from error
    except Exception as error:
        raise NotRun(f"the model raised {type(error).__name__}: {first_line(error)}") from error
    logits = found.logits if isinstance(found, Outputs) else found
    if not isinstance(logits, Tensor):
        raise NotRun(f"the model returned a {type(logits).__name__}, expected logits or Outputs.")
    return logits.detach().float()


def spread(examination: Examination) -> float:
    """Median over the images of the largest minus the third largest logit."""
    ranked = examination.logits.sort(dim=1, descending=True).values
    third = min(2, ranked.shape[1] - 1)
    return float((ranked[:, 0] - ranked[:, third]).median())
