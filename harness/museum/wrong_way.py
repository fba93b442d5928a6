"""An exhibit that attacks repair: reverse attention by hand (`ancra.md` section 8, case RA-4)."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn

from harness.diagnostics.examination import Examination
from harness.evaluation.handle import Handle
from harness.identity import Capabilities
from harness.models.network import gate_rows
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall
from harness.outputs import Outputs, Select
from harness.threat import ThreatModel


class WrongWayGate(nn.Module):
    """`p = W z`, gate class `argmax p`, `p' = W (W[c] * z)`, with three pixels as features z.

    The gradient of p' knows only how to weaken a class under its own gate; that pushes p, which
    really decides, towards the other side or nowhere.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([[-2.0, 0.0, 1.0], [0.0, -2.0, 1.0]]))

    def forward(self, images: Tensor, *, select: Select = None) -> Outputs:
        features = images.flatten(1)
        first = features @ self.weight.T
        gated = gate_rows(first, self.weight, select) * features
        return Outputs(gated @ self.weight.T, (first,), features, gated=gated)


@exhibit(D01="red", D06="red", D13="red")
def wrong_way_gate(hall: Hall) -> Examination:
    """A hard class gate whose gradient points the wrong way: attacks repair what was wrong."""
    images, labels = gate_images(hall.examples, hall.seed)
    module = WrongWayGate()
    capabilities = Capabilities(classes=2, auxiliary=1, select=True)
    return Examination(
        model=Handle(module, 2, has_gate=True),
        module=module,
        images=images,
        labels=labels,
        indices=range(len(labels)),
        threat=ThreatModel("linf", Fraction(1, 5)),
        capabilities=capabilities,
        seed=hall.seed,
        effort=hall.effort,
    )


def gate_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 1, 3] around those of RA-4 and their class 1; half are misclassified.

    The first pixel is 0.6 where p is right and 0.4 where it is wrong, the second is 0.5, the third
    1, each but the last moved by at most 0.04.
    """
    generator = torch.Generator().manual_seed(seed)
    moved = 0.08 * torch.rand(count, 2, generator=generator) - 0.04
    first = torch.where(torch.arange(count) % 2 == 0, 0.6, 0.4)
    pixels = torch.stack([first + moved[:, 0], 0.5 + moved[:, 1], torch.ones(count)], dim=1)
    return pixels.reshape(count, 1, 1, 3), torch.ones(count, dtype=torch.int64)
