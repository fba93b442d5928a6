"""Supervised contrast against `frpat.md` section 10 and a sum over pairs."""

import math

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.regularisers.supervised_contrast import SupervisedContrast, supervised_contrast


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_the_letter(features, labels, temperature):
    """Equation 2 with loops."""
    unit = [row / row.norm() for row in features]
    score = [[math.exp(float(a @ b) / temperature) for b in unit] for a in unit]
    places = range(len(unit))
    total = 0.0
    for i in places:
        everyone = sum(score[i][a] for a in places if a != i)
        same = [p for p in places if p != i and labels[p] == labels[i]]
        total -= sum(math.log(score[i][p] / everyone) for p in same) / len(same)
    return total / len(unit)


@pytest.mark.parametrize(
    ("features", "labels", "temperature", "expected"),
    [
        ([[1, 0], [1, 1], [0, 1], [-1, 1]], [0, 0, 1, 1], 0.5, 0.535969),
        ([[1, 0], [0, 1], [1, 0], [0, 1]], [0, 1, 0, 1], 1.0, 0.551445),
    ],
)
def test_values_are_those_of_the_check_cases(features, labels, temperature, expected):
    found = supervised_contrast(
        torch.tensor(features, dtype=torch.float64), torch.tensor(labels), temperature
    )
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_clean_and_adversarial_features_are_one_set_of_twice_the_labels(answered):
    clean, adversarial = random(4, 3), random(4, 3, seed=1)
    projection = nn.Linear(3, 5, dtype=torch.float64)
    batch = answered(
        [0, 1, 0, 2],
        clean=(None, clean),
        adversarial=(None, adversarial),
        extras={"contrast_projection": projection},
    )
    projected = projection(torch.cat([clean, adversarial])).detach()
    expected = by_the_letter(projected, [0, 1, 0, 2] * 2, 0.1)
    assert SupervisedContrast()(batch).item() == pytest.approx(expected, abs=1e-9)
    assert SupervisedContrast(weight=3.0)(batch).item() == pytest.approx(3 * expected, abs=1e-9)


def test_gradients_are_those_of_the_value():
    labels = torch.tensor([0, 1, 0, 1, 1])
    features = random(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: supervised_contrast(f, labels, 0.5), (features,))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(HarnessError, match="must be above 0"):
        SupervisedContrast(temperature=temperature)
