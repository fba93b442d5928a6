"""A model of two classes whose score is linear in the pixels, and batches of it."""

import torch
from torch import nn

from harness.batch import Batch, InnerBudget, PerHead
from harness.heads.linear import Linear
from harness.outputs import Outputs
from harness.threat import ThreatModel


class Slope(nn.Module):
    """Logits (0, direction . x + offset); `offsets` are those of one pass after the other."""

    hook = None

    def __init__(self, direction, offsets=(0.0,)):
        super().__init__()
        self.head = Linear().build(1, 2)
        self.direction = torch.tensor(direction)
        self.offsets = offsets
        self.passes = []

    def forward(self, images, *, select=None):
        offset = self.offsets[min(len(self.passes), len(self.offsets) - 1)]
        self.passes.append((self.training, torch.is_autocast_enabled("cpu")))
        value = (images.flatten(1) * self.direction.to(images)).sum(1) + offset
        return Outputs(torch.stack([torch.zeros_like(value), value], dim=1))


def pixels(*values):
    """One image of 1 x 1 pixels per argument, a channel per number."""
    images = torch.tensor([list(v) if isinstance(v, tuple) else [v] for v in values])
    return images[:, :, None, None]


def batch_of(network, images, labels=None, *, epsilon="1/10", steps=1, step=0.01, **parts):
    threat = ThreatModel.parse(parts.pop("norm", "linf"), epsilon)
    return Batch(
        network,
        images,
        torch.zeros(len(images), dtype=torch.int64) if labels is None else labels,
        budget=InnerBudget(threat, steps, step, parts.pop("bn", "eval")),
        combine=PerHead(),
        generator=torch.Generator().manual_seed(parts.pop("seed", 1)),
        **parts,
    )
