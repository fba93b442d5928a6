"""Batches whose answers are given, so that losses are checked without a network."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness.batch import Answers, Batch, InnerBudget, Memory, PerHead
from harness.outputs import Outputs
from harness.threat import ThreatModel


class Plain(nn.Module):
    """A head of given weight without bias."""

    inner_scale = 1.0

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, features):
        return features @ self.weight.T

    def training_logits(self, logits, labels):
        return logits


@pytest.fixture
def answered():
    """`answered(labels, adversarial=(logits, features), teacher=...)` -> a batch in float64."""

    def of(labels, *, size=None, indices=None, **given):
        head = Plain(torch.eye(len(labels), 2, dtype=torch.float64))
        labels = torch.tensor(labels)
        student = SimpleNamespace(head=head, hook=None)
        batch = Batch(
            student,
            torch.zeros(len(labels), 1, 1, 1, dtype=torch.float64),
            labels,
            budget=InnerBudget(ThreatModel.parse("linf", "1/10"), 1, 0.1),
            combine=PerHead(),
            generator=torch.Generator().manual_seed(0),
            indices=None if indices is None else torch.tensor(indices),
            memory=Memory(torch.zeros(size)) if size else None,
            **{
                key: given.pop(key) for key in ("epoch", "epochs", "step", "extras") if key in given
            },
        )
        batch.__dict__["adversarial_images"] = batch.images
        for kind, (logits, features) in given.items():
            batch.__dict__[kind] = Answers(Outputs(logits, (), features), labels, student)
        return batch

    return of
