"""Targeted PGD: one run per best rival."""

import pytest
import torch
from attacked_models import (
    Always,
    Linear,
    attacked,
    linf,
    pictures,
    search_on,
    small_convolution,
)

from harness.attacks.attack import ATTACKS, attack_spec
from harness.attacks.losses import LOSSES
from harness.attacks.pgd import pgd_t
from harness.evaluation.handle import Handle

LOSS_NAMES = ("margin_targeted", "ce_targeted", "dlr_targeted")


def targets_climbed(attack, **settings):
    """The first image's target at every look at a model that nothing breaks."""
    seen = []

    def spy(logits, labels, targets):
        seen.append(int(targets[0]))
        return LOSSES["margin_targeted"](logits, labels, targets)

    images = pictures(3, 3, 4, 4)
    search = search_on(Always(5), images, torch.zeros(3, dtype=torch.long), linf("1/255"))
    search.room = 1  # runs follow each other
    ATTACKS[attack].run(search, loss=spy, **settings)
    return seen


@pytest.mark.parametrize("attack", ["pgd_t", "apgd_t"])
def test_each_rival_in_order_gets_its_own_runs_and_the_clean_image_one_look(attack):
    seen = targets_climbed(attack, steps=2, targets=3, restarts=2)
    assert seen == [1, *[1] * 6, *[2] * 6, *[3] * 6]


@pytest.mark.parametrize("attack", ["pgd_t", "apgd_t"])
def test_there_are_no_more_runs_than_wrong_classes(attack):
    assert set(targets_climbed(attack, steps=1, targets=9)) == {1, 2, 3, 4}


def test_the_losses_are_the_targeted_ones_with_the_margin_first():
    assert ATTACKS["pgd_t"].losses == LOSS_NAMES
    assert ATTACKS["apgd_t"].losses == ("dlr_targeted", "ce_targeted", "margin_targeted")


@pytest.mark.parametrize("attack", ["pgd_t", "apgd_t"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_loss_breaks_exactly_what_the_dual_norm_says_on_a_linear_model(attack, loss):
    """Towards every class in turn; cross-entropy spreads over all rivals and may miss some."""
    generator = torch.Generator().manual_seed(3)
    images = 0.4 + 0.2 * pictures(50, 1, 6, 6, seed=3)
    weight = torch.randn(5, 36, generator=generator)
    model = Linear(weight, -(images.flatten(1) @ weight.T).mean(0))
    logits = model(images).logits
    labels = logits.argmax(1)
    margins = logits.gather(1, labels[:, None]) - logits
    dual = (weight[labels][:, None] - weight[None]).abs().sum(2)
    distance = (margins / dual).masked_fill(margins == 0, torch.inf).amin(1)
    ordered = distance.sort().values
    epsilon = float(ordered[24] + ordered[25]) / 2
    spec = attack_spec(attack, steps=30, loss=loss)
    broken = attacked(spec, model, images, labels, linf(str(epsilon))).broken
    assert not (broken & (distance > epsilon)).any()
    if loss == "ce_targeted":
        assert int(broken.sum()) >= 22
    else:
        assert torch.equal(broken, distance < epsilon)


def test_a_wrong_decision_counts_also_when_it_is_not_the_target():
    """Climbing towards class 2 leads to class 1, whose slope is steeper."""
    weight = torch.tensor([[0.0], [10.0], [1.0]])
    model = Linear(weight, torch.tensor([2.0, -3.2, 1.4]))
    image, label = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    search = search_on(model, image, label, linf("3/10"))
    assert search.rivals(torch.arange(1), 1).tolist() == [[2]]
    pgd_t(search, loss=LOSSES["margin_targeted"], steps=8, targets=1)
    assert search.broken.all()
    assert int(model(search.adversarial).logits.argmax(1)) == 1


def test_more_targets_are_never_weaker_on_the_same_streams():
    model, images = Handle(small_convolution(), 10), pictures(30, 3, 8, 8)
    labels = model(images).logits.argmax(1)
    one, five = (
        attacked(attack_spec("pgd_t", steps=4, targets=t), model, images, labels, linf("3/255"))
        for t in (1, 5)
    )
    assert 0 < int(one.broken.sum()) < 30
    assert not (one.broken & ~five.broken).any()
