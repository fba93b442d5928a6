"""A batch whose images are the logits themselves, through the real batch, answers and heads."""

from types import SimpleNamespace

import torch
from torch import nn

from harness.batch import Batch, InnerBudget, PerHead
from harness.heads.linear import Linear
from harness.outputs import Outputs
from harness.threat import ThreatModel

CLEAN = torch.tensor([[2, 0, -1], [0.5, 1, 0]], dtype=torch.float64)
ADVERSARIAL = torch.tensor([[1, 0.5, -0.5], [1, 0.2, 0]], dtype=torch.float64)
CLEAN_AUXILIARY = (
    torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.float64),
    torch.tensor([[1.5, 0, -0.5], [0.2, 1, 0]], dtype=torch.float64),
)
ADVERSARIAL_AUXILIARY = (
    torch.tensor([[0.5, 0.2, 0], [0.3, 0.4, 0]], dtype=torch.float64),
    torch.tensor([[0.8, 0.1, 0], [0.5, 0.6, 0]], dtype=torch.float64),
)
LABELS = torch.tensor([0, 1])
"""Logits and labels of the check cases (`ancra.md` section 8)."""


class Echo(nn.Module):
    """Answers with its input: [N, C x K, 1, 1] are the logits of C outputs."""

    def __init__(self, outputs=1, head=None):
        super().__init__()
        self.outputs = outputs
        self.head = head or Linear().build(2, 3)
        self.hook = SimpleNamespace(auxiliary=outputs - 1) if outputs > 1 else None

    def forward(self, images, *, select=None):
        logits, *auxiliary = images.flatten(1).chunk(self.outputs, dim=1)
        return Outputs(logits, tuple(auxiliary))


def as_images(logits, *auxiliary):
    return torch.cat([logits, *auxiliary], dim=1)[:, :, None, None]


def batch_of(clean=CLEAN, adversarial=ADVERSARIAL, labels=LABELS, **parts):
    """A batch with these logits; `auxiliary=True` adds those of the check cases."""
    head, outputs = parts.pop("head", None), 1
    if parts.pop("auxiliary", False):
        outputs = 3
        clean = torch.cat([clean, *CLEAN_AUXILIARY], dim=1)
        adversarial = torch.cat([adversarial, *ADVERSARIAL_AUXILIARY], dim=1)
    return Batch(
        Echo(outputs, head),
        as_images(clean),
        labels,
        budget=InnerBudget(ThreatModel.parse("linf", "1/5"), 1, 0.1),
        combine=PerHead(auxiliary_weight=2.0),
        generator=torch.Generator(),
        maximiser=lambda _: as_images(adversarial),
        **parts,
    )
