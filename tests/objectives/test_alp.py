"""ALP: check cases (`baselines.md` section 17, `he.md` section 7), both distances, heads."""

import pytest
import torch
from given_logits import ADVERSARIAL, CLEAN, batch_of
from torch.nn import functional

from harness.catalogue import DEFENSES
from harness.errors import HarnessError
from harness.heads.hypersphere import Hypersphere
from harness.objectives.alp import Alp


@pytest.mark.parametrize(("distance", "value"), [("mean_square", 0.912054), ("l2", 1.254923)])
def test_the_loss_of_the_defense_is_that_of_the_check_case(distance, value):
    defense, _ = DEFENSES["alp"].compose({"distance": distance})
    assert defense.loss(batch_of()).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("distance", "value"), [("mean_square", 0.398333), ("l2", 1.084071)])
def test_the_pairing_is_that_of_the_check_case(distance, value):
    paired = Alp(pairing_weight=1.0, distance=distance)(batch_of(), 0)
    alone = Alp(pairing_weight=0.0, distance=distance)(batch_of(), 0)
    assert (paired - alone).mean().item() == pytest.approx(value, abs=1e-6)


def test_shares_go_to_clean_and_adversarial_images_in_that_order():
    batch = batch_of()
    for share, logits in ((1.0, CLEAN), (0.0, ADVERSARIAL)):
        found = Alp(clean_share=share, pairing_weight=0.0)(batch, 0)
        expected = functional.cross_entropy(logits, batch.labels, reduction="none")
        torch.testing.assert_close(found, expected)


def on_the_sphere(labels):
    """Cosines of the check cases, under a head with scale 15 and margin 0.2."""
    cosines = torch.tensor([[0.6, 0.8, -0.6]]), torch.tensor([[0.8, 0.6, -0.8]])
    return batch_of(*cosines, labels, head=Hypersphere(scale=15.0, margin=0.2).build(2, 3))


def test_on_a_hypersphere_bare_cosines_are_paired():
    batch = on_the_sphere(torch.tensor([1]))
    paired, alone = (Alp(pairing_weight=weight)(batch, 0) for weight in (1.0, 0.0))
    assert (paired - alone).item() == pytest.approx(0.04, abs=1e-6)  # HE-8


@pytest.mark.parametrize(("label", "value"), [(0, 6.002476), (1, 0.693147)])
def test_on_a_hypersphere_cross_entropy_sees_scale_and_margin(label, value):
    batch = on_the_sphere(torch.tensor([label]))
    alone = Alp(clean_share=1.0, pairing_weight=0.0)(batch, 0)
    assert alone.item() == pytest.approx(value, abs=2e-6)  # HE-3


@pytest.mark.parametrize("distance", ["mean_square", "l2"])
def test_gradients_are_those_of_the_values_on_both_sides(distance):
    clean, adversarial = CLEAN.clone().requires_grad_(), ADVERSARIAL.clone().requires_grad_()
    loss = Alp(distance=distance)
    assert torch.autograd.gradcheck(lambda c, a: loss(batch_of(c, a), 0), (clean, adversarial))


@pytest.mark.parametrize("distance", ["mean_square", "l2"])
def test_equal_logits_are_not_pulled(distance):
    logits = CLEAN.clone().requires_grad_()
    batch = batch_of(logits, CLEAN)
    pull = Alp(distance=distance)(batch, 0) - Alp(pairing_weight=0.0)(batch, 0)
    (gradient,) = torch.autograd.grad(pull.sum(), logits)
    assert gradient.abs().max().item() < 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance": "mse"}, "no distance named 'mse'"),
        ({"clean_share": 1.5}, r"clean_share must lie in \[0, 1\] but is 1.5"),
    ],
)
def test_what_alp_cannot_do_is_told(settings, message):
    with pytest.raises(HarnessError, match=message):
        DEFENSES["alp"].compose(settings)
