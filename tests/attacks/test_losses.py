"""Attack losses: hand-checked values, invariances, and where they are not defined."""

import pytest
import torch

from harness.attacks.losses import LOSSES, check_classes, dlr, dlr_targeted
from harness.errors import HarnessError

LOGITS = torch.tensor([[3.0, 1.0, 0.5, -1.0]]).expand(4, 4)
LABELS = torch.arange(4)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ce", [0.2116667, 2.2116667, 2.7116667, 4.2116667]),
        ("margin", [-2.0, 2.0, 2.5, 4.0]),
        ("dlr", [-0.8, 0.8, 1.0, 1.6]),
    ],
)
def test_losses_have_the_values_worked_out_by_hand(name, values):
    found = LOSSES[name](LOGITS, LABELS, None)
    assert found.tolist() == pytest.approx(values, abs=1e-6)


def test_the_targeted_ratio_has_the_values_worked_out_by_hand():
    found = dlr_targeted(LOGITS[:3], torch.zeros(3, dtype=torch.long), torch.arange(1, 4))
    assert found.tolist() == pytest.approx([-0.6153846, -0.7692308, -1.2307692], abs=1e-6)


def test_a_targeted_loss_without_targets_is_a_bug():
    with pytest.raises(ValueError, match="targets"):
        dlr_targeted(LOGITS, LABELS)


def test_ratios_do_not_change_under_affine_maps_of_the_logits_and_cross_entropy_does():
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)).double()
    labels, targets = torch.arange(50) % 10, (torch.arange(50) + 3) % 10
    moved = 7 * logits + 11
    for loss in (dlr, dlr_targeted):
        torch.testing.assert_close(loss(moved, labels, targets), loss(logits, labels, targets))
    ce = LOSSES["ce"]
    assert not torch.allclose(ce(moved, labels, None), ce(logits, labels, None))


@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_margin_and_ratio_are_positive_exactly_where_the_decision_is_wrong(name):
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 5
    assert torch.equal(LOSSES[name](logits, labels, None) > 0, logits.argmax(1) != labels)


def test_the_ratio_of_a_correct_image_lies_between_minus_one_and_zero():
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    found = dlr(logits, logits.argmax(1))
    assert found.min() >= -1 - 1e-6
    assert found.max() <= 0


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_per_image(name):
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    labels, targets = torch.arange(6) % 5, (torch.arange(6) + 1) % 5
    together = LOSSES[name](logits, labels, targets)
    alone = [
        LOSSES[name](logits[i : i + 1], labels[i : i + 1], targets[i : i + 1]) for i in range(6)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name):
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()
    labels, targets = torch.tensor([0, 1, 2]), torch.tensor([3, 2, 1])
    assert torch.autograd.gradcheck(
        lambda z: LOSSES[name](z, labels, targets), logits.requires_grad_()
    )


@pytest.mark.parametrize("name", ["dlr", "dlr_targeted"])
def test_equal_logits_give_a_finite_ratio(name):
    logits = torch.zeros(1, 5, requires_grad=True)
    value = LOSSES[name](logits, torch.tensor([0]), torch.tensor([1]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "fewest"), [("ce", 2), ("margin", 2), ("dlr", 3), ("dlr_targeted", 4)]
)
def test_a_loss_is_refused_below_its_fewest_classes(name, fewest):
    check_classes(name, fewest)
    LOSSES[name](torch.randn(2, fewest), torch.tensor([0, 1]), torch.tensor([1, 0]))
    if fewest > 2:
        with pytest.raises(HarnessError, match=f"at least {fewest} classes.*has {fewest - 1}"):
            check_classes(name, fewest - 1)
