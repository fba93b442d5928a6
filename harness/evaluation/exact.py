"""The one arithmetic that published numbers are computed in."""

from __future__ import annotations

import torch


def compute_exactly() -> None:
    """Plain float32 on a GPU too: no TF32, no kernels that may differ from run to run."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
