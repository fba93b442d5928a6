"""GAIRAT's weights (`baselines.md` sections 15 and 17)."""

from types import SimpleNamespace

import pytest
import torch

from harness.batch import ADVERSARIAL
from harness.objectives.reweighted import Reweighted, survival_weights

ADVERSARIAL_LOGITS = torch.tensor([[1, 0.5, -0.5], [1, 0.2, 0]], dtype=torch.float64)


def batch_of(survived, epoch=120, epochs=120):
    answers = SimpleNamespace(training=lambda k: ADVERSARIAL_LOGITS * (k + 1))
    return SimpleNamespace(
        adversarial=answers,
        labels=torch.tensor([0, 1]),
        survived=survived,
        budget=SimpleNamespace(steps=10),
        epoch_of=lambda length: epoch * max(length / epochs, 1.0),
    )


def test_weights_and_loss_are_those_of_the_check_case():
    survived = torch.tensor([0, 10])
    weights = survival_weights(survived, 10, -1.0)
    assert weights.tolist() == pytest.approx([1.999988, 0.0000123], abs=5e-7)
    loss = Reweighted(shift=-1.0)(batch_of(survived), 0)
    assert loss.shape == (2,)
    assert loss.mean().item() == pytest.approx(0.604135, abs=1e-6)


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (-1.0, [1.999658, 1.761884, 0.238445, 0.0000123]),
        (0.0, [1.611521, 1.582608, 0.805797, 0.0000732]),
    ],
)
def test_weights_of_four_images_are_those_of_the_check_cases(shift, expected):
    weights = survival_weights(torch.tensor([0, 3, 5, 10]), 10, shift)
    assert weights.tolist() == pytest.approx(expected, abs=1e-6)
    assert weights[3].item() == pytest.approx(expected[3], rel=5e-3)
    assert weights.mean().item() == pytest.approx(1.0)


def test_a_batch_that_withstands_everything_keeps_its_digits():
    weights = survival_weights(torch.tensor([10, 10, 9]), 10, -1.0)
    half = (1 + torch.tensor([-6.0, -6.0, -5.0], dtype=torch.float64).tanh()) / 2
    torch.testing.assert_close(weights.double(), half / half.mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("epoch", "epochs", "is_weighted"),
    [(59, 120, False), (60, 120, True), (5, 12, False), (6, 12, True), (60, 240, True)],
)
def test_weights_begin_half_way(epoch, epochs, is_weighted):
    batch = batch_of(torch.tensor([0, 10]), epoch, epochs)
    loss = Reweighted()(batch, 0)
    plain = torch.nn.functional.cross_entropy(ADVERSARIAL_LOGITS, batch.labels, reduction="none")
    assert torch.equal(loss, plain) != is_weighted
    assert plain.tolist() == pytest.approx([0.604131, 1.397301], abs=1e-6)


def test_before_that_nothing_needs_to_be_counted_and_afterwards_it_must_be():
    Reweighted()(batch_of(None, epoch=1), 0)
    with pytest.raises(ValueError, match="a maximiser that counts"):
        Reweighted()(batch_of(None), 0)


def test_every_output_has_its_own_loss_and_the_same_weights():
    batch = batch_of(torch.tensor([3, 5]))
    second = torch.nn.functional.cross_entropy(
        2 * ADVERSARIAL_LOGITS, batch.labels, reduction="none"
    )
    weights = survival_weights(batch.survived, 10, -1.0)
    torch.testing.assert_close(Reweighted()(batch, 1), weights * second)


def test_it_says_that_one_image_alone_does_not_have_its_value():
    assert Reweighted().needs == {ADVERSARIAL}
    assert Reweighted().is_alone is False
