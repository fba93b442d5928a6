"""Self-adaptive training: check case, and when, where and how often the targets move."""

import pytest
import torch
from given_logits import ADVERSARIAL, CLEAN, CLEAN_AUXILIARY, batch_of
from torch.nn import functional

from harness.batch import Memory, kl
from harness.catalogue import DEFENSES
from harness.errors import HarnessError
from harness.objectives.self_adaptive import SelfAdaptive

MOVED = torch.tensor([[0.984379, 0.011420, 0.004201], [0.030720, 0.950648, 0.018632]])
FIRST, SECOND = 4, 2
"""Positions of the two images in a training split of six."""


def remembered(labels=(2, 2, 1, 2, 0, 2)):
    return Memory(torch.tensor(labels))


def step_of(memory, *, step=0, epoch=70, epochs=100, **parts):
    return batch_of(
        memory=memory,
        indices=torch.tensor([FIRST, SECOND]),
        epoch=epoch,
        epochs=epochs,
        step=step,
        **parts,
    )


def targets_of(memory):
    return memory.values["self_adaptive.targets"]


def test_the_loss_of_the_defense_is_that_of_the_check_case():
    defense, _ = DEFENSES["sat"].compose({})
    assert defense.loss(step_of(remembered())).item() == pytest.approx(1.561123, abs=1e-6)
    alone, _ = DEFENSES["sat"].compose({"beta": 0.0})
    assert alone.loss(step_of(remembered())).item() == pytest.approx(0.455339, abs=1e-6)


def test_weights_are_confidences_over_their_mean():
    batch = step_of(remembered())
    found = SelfAdaptive(beta=0.0)(batch, 0)
    surprise = -(MOVED.double() * CLEAN.log_softmax(1)).sum(1)
    expected = torch.tensor([1.017432, 0.982568], dtype=torch.float64)
    torch.testing.assert_close(found / surprise, expected, atol=1e-5, rtol=0)


def test_targets_of_these_images_move_and_all_others_stay_the_labels():
    memory = remembered()
    SelfAdaptive()(step_of(memory), 0)
    found = targets_of(memory).float()
    torch.testing.assert_close(found[[FIRST, SECOND]], MOVED, atol=1e-6, rtol=0)
    others = [0, 1, 3, 5]
    assert torch.equal(found[others], functional.one_hot(memory.labels[others], 3).float())


def test_targets_move_once_per_step_however_often_the_loss_is_computed():
    memory = remembered()
    SelfAdaptive()(step_of(memory), 0)
    once = targets_of(memory)
    for _ in range(3):
        SelfAdaptive()(step_of(memory), 0)
    assert torch.equal(targets_of(memory), once)
    SelfAdaptive()(step_of(memory, step=1), 0)
    expected = 0.9 * once[[FIRST, SECOND]] + 0.1 * CLEAN.softmax(1)
    torch.testing.assert_close(targets_of(memory)[[FIRST, SECOND]], expected)
    twice = targets_of(memory)
    SelfAdaptive()(step_of(memory, step=1, epoch=71), 0)
    assert not torch.equal(targets_of(memory), twice)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_final_output_moves_the_targets_and_auxiliary_ones_learn_them(order):
    memory = remembered()
    batch = step_of(memory, auxiliary=True)
    found = {k: SelfAdaptive(beta=0.0)(batch, k) for k in order}
    torch.testing.assert_close(
        targets_of(memory)[[FIRST, SECOND]].float(), MOVED, atol=1e-6, rtol=0
    )
    weights = MOVED.max(1).values / MOVED.max(1).values.mean()
    for k, logits in enumerate((CLEAN, *CLEAN_AUXILIARY)):
        expected = -weights * (MOVED * logits.log_softmax(1)).sum(1)
        torch.testing.assert_close(found[k], expected.double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("epoch", "epochs", "moves"),
    [
        (69, 100, False),
        (70, 100, True),
        (69, 120, False),
        (70, 120, True),
        (13, 20, False),
        (14, 20, True),
    ],
)
def test_targets_begin_to_move_at_epoch_70_of_100_or_more(epoch, epochs, moves):
    memory = remembered()
    loss = SelfAdaptive(beta=6.0)(step_of(memory, epoch=epoch, epochs=epochs), 0)
    assert bool(memory.values) == moves
    if not moves:  # plain TRADES
        label = functional.cross_entropy(CLEAN, torch.tensor([0, 1]), reduction="none")
        torch.testing.assert_close(loss, label + 6 * kl(CLEAN, ADVERSARIAL))


def test_no_gradient_passes_through_the_targets():
    logits = CLEAN.clone().requires_grad_()
    batch = step_of(remembered(), clean=logits)
    (gradient,) = torch.autograd.grad(SelfAdaptive(beta=0.0)(batch, 0).sum(), logits)
    targets = 0.9 * functional.one_hot(torch.tensor([0, 1]), 3) + 0.1 * CLEAN.softmax(1)
    weights = targets.max(1, keepdim=True).values
    expected = weights / weights.mean() * (CLEAN.softmax(1) - targets)
    torch.testing.assert_close(gradient, expected)


def test_a_look_at_other_weights_leaves_no_trace():
    memory = remembered()
    batch = step_of(memory)
    _ = batch.adversarial_images
    looked = SelfAdaptive()(batch.on(batch.network), 0)
    assert memory.values == {}
    torch.testing.assert_close(SelfAdaptive()(batch, 0), looked)


def test_it_says_that_one_image_alone_does_not_have_its_value():
    assert SelfAdaptive.is_alone is False
    with pytest.raises(HarnessError, match=r"target_momentum must lie in \[0, 1\]"):
        DEFENSES["sat"].compose({"target_momentum": 1.5})
