"""Attack losses: hand-checked values, invariances, and where they are not defined."""

import pytest
import torch

from harness.attacks.losses import (
    LOSSES,
    TARGETED,
    ce,
    ce_targeted,
    check_classes,
    cosine,
    dlr,
    dlr_targeted,
    loss_named,
    margin_targeted,
    scaled,
    split_loss,
)
from harness.errors import HarnessError

LOGITS = torch.tensor([[3.0, 1.0, 0.5, -1.0]]).expand(4, 4)
LABELS = torch.arange(4)
OF_LOGITS = sorted(set(LOSSES) - {"cosine"})


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


@pytest.mark.parametrize(
    ("loss", "values"),
    [
        (ce_targeted, [-2.2116667, -2.7116667, -4.2116667]),
        (margin_targeted, [-2.0, -2.5, -4.0]),
    ],
)
def test_targeted_losses_have_the_values_worked_out_by_hand(loss, values):
    found = loss(LOGITS[:3], torch.zeros(3, dtype=torch.long), torch.arange(1, 4))
    assert found.tolist() == pytest.approx(values, abs=1e-6)


def test_cross_entropy_towards_a_target_does_not_read_the_label():
    targets = torch.tensor([1, 2, 3, 0])
    assert torch.equal(
        ce_targeted(LOGITS, LABELS, targets), ce_targeted(LOGITS, 0 * LABELS, targets)
    )


def test_the_cosine_of_vectors_has_the_values_worked_out_by_hand():
    vectors = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 2.0]])
    goals = torch.tensor([[6.0, 8.0], [-4.0, 3.0], [0.0, -1.0]])
    assert cosine(vectors, LABELS[:3], goals).tolist() == pytest.approx([1.0, 0.0, -1.0])


@pytest.mark.parametrize("name", sorted(TARGETED))
def test_a_targeted_loss_without_targets_is_a_bug(name):
    with pytest.raises(ValueError, match="targets"):
        LOSSES[name](LOGITS, LABELS, None)


def test_exactly_the_losses_that_read_targets_are_called_targeted():
    untargeted = set(LOSSES) - TARGETED
    for name in untargeted:
        LOSSES[name](LOGITS, LABELS, None)
    assert untargeted == {"ce", "margin", "dlr"}


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


@pytest.mark.parametrize("name", [*OF_LOGITS, "ce(10)", "ce(std)", "ce_targeted(std)"])
def test_losses_stay_per_image(name):
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    labels, targets = torch.arange(6) % 5, (torch.arange(6) + 1) % 5
    loss = loss_named(name)
    together = loss(logits, labels, targets)
    alone = [loss(logits[i : i + 1], labels[i : i + 1], targets[i : i + 1]) for i in range(6)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("name", [*OF_LOGITS, "ce(10)", "ce_targeted(0.5)"])
def test_gradients_agree_with_finite_differences(name):
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()
    labels, targets = torch.tensor([0, 1, 2]), torch.tensor([3, 2, 1])
    assert torch.autograd.gradcheck(
        lambda z: loss_named(name)(z, labels, targets), logits.requires_grad_()
    )


def test_the_gradient_of_the_cosine_agrees_with_finite_differences():
    vectors, goals = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    assert torch.autograd.gradcheck(
        lambda v: cosine(v, LABELS[:3], goals), vectors.clone().requires_grad_()
    )


def sloped(loss, logits):
    """Value and gradient of a loss for the labels 0, 1, 2 and the targets 1, 2, 0."""
    logits = logits.clone().requires_grad_()
    value = loss(logits, torch.arange(3), torch.tensor([1, 2, 0]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), gradient


RANDOM = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("name", ["ce", "ce_targeted"])
@pytest.mark.parametrize("factor", [0.1, 10.0, 15.0])
def test_a_factor_multiplies_the_logits_before_the_loss(name, factor):
    value, gradient = sloped(loss_named(f"{name}({factor})"), RANDOM)
    expected, slope = sloped(LOSSES[name], factor * RANDOM)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, factor * slope)


@pytest.mark.parametrize("name", ["ce", "ce_targeted"])
def test_std_divides_by_each_images_own_deviation_held_constant_in_the_gradient(name):
    value, gradient = sloped(loss_named(f"{name}(std)"), RANDOM)
    deviation = RANDOM.std(dim=1, keepdim=True)
    expected, slope = sloped(LOSSES[name], RANDOM / deviation)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, slope / deviation)


@pytest.mark.parametrize("factor", [1e-4, 8.0, 1e4])
def test_the_direction_of_a_scale_free_loss_does_not_depend_on_the_scale(factor):
    (value, gradient), (other, slope) = (
        sloped(loss_named("ce(std)"), by * RANDOM) for by in (1.0, factor)
    )
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(factor * slope, gradient)
    assert not torch.allclose(sloped(ce, factor * RANDOM)[0], value)


def test_equal_logits_survive_being_made_scale_free():
    value, gradient = sloped(loss_named("ce(std)"), torch.full((3, 5), 0.3))
    assert value.tolist() == pytest.approx([1.6094379] * 3)
    assert torch.isfinite(gradient).all()


def test_a_scaled_loss_reads_the_labels_and_targets_it_is_given():
    targets = torch.tensor([1, 2, 3])
    value = scaled(margin_targeted, 2.0)(LOGITS[:3], torch.zeros(3).long(), targets)
    assert value.tolist() == pytest.approx([-4.0, -5.0, -8.0])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ce", ("ce", "")),
        (" ce ", ("ce", "")),
        ("ce(1)", ("ce", "")),
        ("ce(1.000)", ("ce", "")),
        ("ce(10)", ("ce", "10")),
        ("ce(010.0)", ("ce", "10")),
        ("ce(0.0001)", ("ce", "0.0001")),
        ("ce(std)", ("ce", "std")),
        ("ce_targeted(0.50)", ("ce_targeted", "0.5")),
        ("margin", ("margin", "")),
        ("dlr_targeted", ("dlr_targeted", "")),
    ],
)
def test_a_text_is_a_name_and_a_factor(text, parts):
    assert split_loss(text) == parts


def test_the_factor_one_is_the_loss_itself():
    assert loss_named("ce(1)") is ce
    assert loss_named("dlr") is dlr


NO_FACTOR = r"only ce and ce_targeted take a factor.*such as ce\(10\)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *((f"ce({factor})", NO_FACTOR) for factor in ("0", "nan", "inf", "-1", "", "x", "1e3")),
        *((f"ce({factor})", NO_FACTOR) for factor in ("0.00001", "1234567", "std,1", "²", "١")),
        ("dlr(2)", NO_FACTOR),
        ("dlr(1)", NO_FACTOR),
        ("margin(std)", NO_FACTOR),
        ("cosine(2)", NO_FACTOR),
        ("margins", r"no loss named 'margins'\. Did you mean 'margin'"),
        ("ce(10", r"no loss named 'ce\(10'"),
        ("", "no loss named ''"),
        ("x" * 5000, "no loss named 'x{80}'"),
    ],
)
def test_a_text_that_names_no_loss_gets_a_sentence(text, sentence):
    with pytest.raises(HarnessError, match=sentence):
        split_loss(text)
    with pytest.raises(HarnessError, match=sentence):
        loss_named(text)


def test_only_the_losses_that_are_known_somewhere_may_stand_there():
    with pytest.raises(HarnessError, match=r"no loss of square named 'ce'\. Known: margin"):
        split_loss("ce", ["margin"], "loss of square")


@pytest.mark.parametrize("name", ["dlr", "dlr_targeted"])
def test_equal_logits_give_a_finite_ratio(name):
    logits = torch.zeros(1, 5, requires_grad=True)
    value = LOSSES[name](logits, torch.tensor([0]), torch.tensor([1]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "fewest"),
    [
        *[("ce", 2), ("margin", 2), ("ce_targeted", 2), ("margin_targeted", 2)],
        *[("dlr", 3), ("dlr_targeted", 4)],
    ],
)
def test_a_loss_is_refused_below_its_fewest_classes(name, fewest):
    check_classes(name, fewest)
    LOSSES[name](torch.randn(2, fewest), torch.tensor([0, 1]), torch.tensor([1, 0]))
    if fewest > 2:
        with pytest.raises(HarnessError, match=f"at least {fewest} classes.*has {fewest - 1}"):
            check_classes(name, fewest - 1)


@pytest.mark.parametrize("name", ["dlr", "dlr_targeted"])
def test_too_few_classes_are_told_the_margin_of_the_same_kind(name):
    with pytest.raises(HarnessError, match=rf"such as .*loss={name.replace('dlr', 'margin')}.\.$"):
        check_classes(name, 2)
