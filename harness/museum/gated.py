"""Exhibits with heads: a hard class gate, and a head that has nothing to do with the decision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.diagnostics.examination import Examination, RowFacts
from harness.identity import AttackSpec, Capabilities
from harness.models.network import gate_rows
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall
from harness.museum.rescaled import taken_apart
from harness.outputs import Outputs, Select


class Gated(nn.Module):
    """The last layer's features once more, reweighted by the row of the class they chose.

    `attacks.md` 9.3: the gate's class wins whatever the margin of the head behind it, and the
    gradient of the choice is zero.
    """

    def __init__(self, model: nn.Module, gain: float) -> None:
        super().__init__()
        self.features, self.last = taken_apart(model)
        self.gain = gain

    def forward(self, images: Tensor, *, select: Select = None) -> Outputs:
        features = self.features(images)
        head = self.last(features)
        rows = self.gain * gate_rows(head, self.last.weight, select)
        return Outputs(functional.linear(features * rows, self.last.weight), (head,))


@exhibit(D20="red", D21="red")
def hard_class_gate(hall: Hall) -> Examination:
    """Multiplies its features by the row of the class that a head has already chosen."""
    examination = hall.examine(
        Gated(hall.honest, 40.0), capabilities=Capabilities(10, auxiliary=1, select=True)
    )
    spec = examination.spec
    standard = [spec("fgsm"), spec("pgd", steps=40), spec("apgd_ce", steps=100)]
    standard.append(spec("square", queries=300))
    surfaces = ("auxiliary(0)", "sum(2)", "straight_through(1)")
    adaptive = [spec("apgd_ce", steps=100, surface=surface) for surface in surfaces]
    examination.row = measured(examination, standard, adaptive)
    return examination


class TwoMinds(nn.Module):
    """Shows the logits of another model as an auxiliary head."""

    def __init__(self, model: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.other = other

    def forward(self, images: Tensor) -> Outputs:
        return Outputs(self.model(images), (self.other(images),))


@exhibit(I5="amber")
def unrelated_head(hall: Hall) -> Examination:
    """Exposes a fragile head that has no part in the decision."""
    head = least_squares(*hall.training)
    return hall.examine(TwoMinds(hall.honest, head), capabilities=Capabilities(10, auxiliary=1))


def least_squares(images: Tensor, labels: Tensor) -> nn.Module:
    """The linear model nearest to one-hot labels: accurate, and small steps break it."""
    pixels = torch.cat([images.flatten(1), torch.ones(len(images), 1)], dim=1).double()
    classes = functional.one_hot(labels, 10).double()
    solved = (torch.linalg.pinv(pixels) @ classes).float().T
    last = nn.Linear(64, 10)
    with torch.no_grad():
        last.weight.copy_(solved[:, :-1])
        last.bias.copy_(solved[:, -1])
    return nn.Sequential(nn.Flatten(), last)


def measured(
    examination: Examination, standard: Sequence[AttackSpec], adaptive: Sequence[AttackSpec]
) -> RowFacts:
    """What a row would say: accuracy under the standard attacks, and under all of them."""
    count = len(examination.labels)
    unbroken = int(examination.right.sum())
    alone = int(examination.broken(*standard).sum())
    together = int(examination.broken(*standard, *adaptive).sum())
    return RowFacts(
        robust=(unbroken - together) / count,
        standard=(unbroken - alone) / count,
        is_adaptive=True,
        level="E3",
    )
