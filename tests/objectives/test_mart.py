"""MART: check cases (`baselines.md` sections 5 and 17), rivals, gradients, heads with a margin."""

import math

import pytest
import torch
from given_logits import (
    ADVERSARIAL,
    ADVERSARIAL_AUXILIARY,
    CLEAN,
    CLEAN_AUXILIARY,
    LABELS,
    batch_of,
)

from harness.catalogue import DEFENSES
from harness.heads.hypersphere import Hypersphere
from harness.objectives.mart import Mart, boosted_cross_entropy, weighted_agreement


def softmax(row):
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def by_hand(clean, boosted, adversarial, label, beta):
    """The loss of one image, number by number: clean, boosted and agreeing adversarial logits."""
    rival_of = softmax(boosted)
    rival = max(p for j, p in enumerate(rival_of) if j != label)
    first = -math.log(rival_of[label]) - math.log(1.0001 - rival + 1e-12)
    q, p = softmax(clean), softmax(adversarial)
    divergence = sum(a * (math.log(a) - math.log(b + 1e-12)) for a, b in zip(q, p, strict=True))
    return first + beta * (1.0000001 - q[label]) * divergence


@pytest.mark.parametrize(("beta", "value"), [(5.0, 1.887605), (6.0, 1.944832)])
def test_the_loss_of_the_defense_is_that_of_the_check_case(beta, value):
    defense, _ = DEFENSES["mart"].compose({"beta": beta})
    assert defense.loss(batch_of()).item() == pytest.approx(value, abs=1e-6)


def test_over_three_outputs_it_is_that_of_the_check_case():
    defense, _ = DEFENSES["mart"].compose({})
    assert defense.loss(batch_of(auxiliary=True)).item() == pytest.approx(4.606931, abs=2e-6)


@pytest.mark.parametrize(
    ("clean", "adversarial", "boosted", "agreement"),
    [
        (CLEAN, ADVERSARIAL, 1.601470, 0.057227),
        (CLEAN_AUXILIARY[0], ADVERSARIAL_AUXILIARY[0], 1.305501, 0.026295),
        (CLEAN_AUXILIARY[1], ADVERSARIAL_AUXILIARY[1], 1.158868, 0.024697),
    ],
)
def test_both_parts_are_those_of_the_check_cases(clean, adversarial, boosted, agreement):
    first = boosted_cross_entropy(adversarial, LABELS)
    second = weighted_agreement(clean, adversarial, LABELS)
    assert first.mean().item() == pytest.approx(boosted, abs=1e-6)
    assert second.mean().item() == pytest.approx(agreement, abs=1e-6)


def test_every_image_has_the_value_that_a_second_implementation_finds():
    draws = torch.Generator().manual_seed(3)
    clean, adversarial = torch.randn(2, 40, 7, generator=draws, dtype=torch.float64) * 4
    labels = torch.randint(7, (40,), generator=draws)
    found = Mart(beta=2.5)(batch_of(clean, adversarial, labels), 0)
    rows = zip(clean.tolist(), adversarial.tolist(), labels.tolist(), strict=True)
    expected = [by_hand(c, a, a, label, 2.5) for c, a, label in rows]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_of_equal_rivals_only_the_first_is_pushed_down_twice():
    logits = torch.zeros(1, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(boosted_cross_entropy(logits, torch.tensor([1])), logits)
    assert gradient[0, 0] > gradient[0, 2] == gradient[0, 3] > 0


def test_a_label_without_rivals_is_not_its_own_rival():
    certain = torch.tensor([[1e3, 0.0, -1e3]])
    loss = boosted_cross_entropy(certain, torch.tensor([0]))
    assert loss.item() == pytest.approx(-math.log(1.0001), abs=1e-6)


def test_the_weight_of_the_agreement_is_not_detached():
    clean = CLEAN.clone().requires_grad_()
    adversarial = ADVERSARIAL.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c, a: Mart(beta=5.0)(batch_of(c, a), 0), (clean, adversarial)
    )


def test_value_and_gradient_stay_finite_for_certain_and_opposite_answers():
    logits = torch.tensor([[1e3, 0.0, -1e3], [-1e3, 0.0, 1e3]])
    clean, adversarial = logits.clone().requires_grad_(), logits.flip(0).requires_grad_()
    for labels in (torch.tensor([0, 0]), torch.tensor([2, 1])):
        loss = Mart()(batch_of(clean, adversarial, labels), 0)
        gradients = torch.autograd.grad(loss.sum(), (clean, adversarial))
        assert loss.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_margin_counts_in_the_cross_entropy_and_the_scale_in_both_parts():
    head = Hypersphere(scale=15.0, margin=0.2).build(2, 3)
    clean, adversarial = [0.6, 0.8, -0.6], [0.8, 0.6, -0.8]
    batch = batch_of(
        torch.tensor([clean]), torch.tensor([adversarial]), torch.tensor([1]), head=head
    )
    scaled = [[15 * value for value in row] for row in (clean, adversarial)]
    lowered = [15 * 0.8, 15 * (0.6 - 0.2), 15 * -0.8]
    expected = by_hand(scaled[0], lowered, scaled[1], 1, 5.0)
    assert Mart(beta=5.0)(batch, 0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("dataset", "architecture", "recipe", "beta"),
    [("cifar10", "", "", 5.0), ("cifar10", "wrn_34_10", "MART-WRN", 6.0)],
)
def test_a_wide_network_is_trained_as_in_the_authors_own_script(
    dataset, architecture, recipe, beta
):
    entry = DEFENSES["mart"]
    variant = entry.variant(dataset, architecture)
    assert variant.recipe == recipe
    assert entry.compose({}, variant)[1] == {"beta": beta}
    assert entry.recipe_id == "A-R18"
