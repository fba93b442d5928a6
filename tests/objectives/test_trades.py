"""TRADES: value, direction and gradient (`baselines.md` section 17), clean side included."""

from types import SimpleNamespace

import pytest
import torch

from harness.objectives.trades import Trades, kl

CLEAN = torch.tensor([[2, 0, -1], [0.5, 1, 0]], dtype=torch.float64)
ADVERSARIAL = torch.tensor([[1, 0.5, -0.5], [1, 0.2, 0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


class Logits:
    """Answers whose training logits are their deployed ones."""

    def __init__(self, logits):
        self._logits = logits

    def scaled(self, k):
        return self._logits

    training = scaled


def batch_of(clean, adversarial, labels=LABELS):
    return SimpleNamespace(clean=Logits(clean), adversarial=Logits(adversarial), labels=labels)


def test_value_per_image_averages_to_the_check_case():
    loss = Trades(beta=6.0)(batch_of(CLEAN, ADVERSARIAL), 0)
    assert loss.shape == (2,)
    assert loss.mean().item() == pytest.approx(1.530842, abs=1e-6)


def test_the_divergence_is_from_clean_to_adversarial():
    assert kl(CLEAN, ADVERSARIAL).mean().item() == pytest.approx(0.184297, abs=1e-6)
    assert kl(ADVERSARIAL, CLEAN).mean().item() == pytest.approx(0.203098, abs=1e-6)


def test_divergence_of_equal_logits_is_zero_with_zero_gradient():
    logits = CLEAN.clone().requires_grad_()
    value = kl(logits, logits.detach() + 3)  # softmax ignores the shift
    assert value.abs().max().item() < 1e-12
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.abs().max().item() < 1e-12


def test_gradients_are_those_of_the_values_on_both_sides():
    clean, adversarial = CLEAN.clone().requires_grad_(), ADVERSARIAL.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c, a: Trades(beta=6.0)(batch_of(c, a), 0), (clean, adversarial)
    )
    (through_clean,) = torch.autograd.grad(kl(clean, adversarial).sum(), clean)
    assert through_clean.abs().max() > 0.01  # the clean side is not detached


def test_divergence_and_gradient_stay_finite_for_certain_and_opposite_answers():
    clean = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    adversarial = torch.tensor([[-1e4, 0.0, 1e4]], requires_grad=True)
    value = kl(clean, adversarial)
    value.sum().backward()
    assert value.isfinite().all()
    assert clean.grad.isfinite().all()
    assert adversarial.grad.isfinite().all()
