"""Hypersphere embedding against `he.md` section 7, and its invariances."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from harness.batch import Answers
from harness.heads.hypersphere import Hypersphere
from harness.heads.linear import Linear
from harness.objectives.trades import Trades, kl
from harness.outputs import Outputs

W = torch.tensor([[1, 0], [0, 2], [-1, 0]], dtype=torch.float64)
Z = torch.tensor([[3, 4]], dtype=torch.float64)
Z_ADVERSARIAL = torch.tensor([[4, 3]], dtype=torch.float64)


def head_of(scale=15.0, margin=0.2, weight=W):
    head = Hypersphere(scale=scale, margin=margin).build(weight.shape[1], weight.shape[0]).double()
    head.weight.data.copy_(weight)
    return head


def answers(head, features, label):
    labels = torch.full((len(features),), label)
    outputs = Outputs(head(features), (), features, head.scale)
    return Answers(outputs, labels, SimpleNamespace(head=head))


def loss_of(scale, margin, label, features=Z):
    logits = answers(head_of(scale, margin), features, label).training()
    return functional.cross_entropy(logits, torch.full((len(features),), label))


def test_deployed_logits_are_cosines():
    head = head_of()
    torch.testing.assert_close(head(Z), torch.tensor([[0.6, 0.8, -0.6]], dtype=torch.float64))
    torch.testing.assert_close(
        head(Z_ADVERSARIAL), torch.tensor([[0.8, 0.6, -0.8]], dtype=torch.float64)
    )
    angles = torch.tensor([[0.927295, 0.643501, 2.214297]], dtype=torch.float64)
    torch.testing.assert_close(head(Z).arccos(), angles, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("scale", "margin", "values"),
    [
        (1, 0, (0.925289, 0.725289)),
        (15, 0, (3.048587, 0.048587)),
        (15, 0.2, (6.002476, 0.693147)),
        (10, 0.2, (4.018151, 0.693150)),
    ],
    ids=["HE-1", "HE-2", "HE-3", "HE-4"],
)
def test_cross_entropy_with_scale_and_margin_is_that_of_the_check_cases(scale, margin, values):
    found = [loss_of(scale, margin, label).item() for label in (0, 1)]
    assert found == pytest.approx(values, abs=1e-6)


def test_divergences_are_those_of_he_5_and_he_6():
    head = head_of()
    clean, adversarial = answers(head, Z, 1), answers(head, Z_ADVERSARIAL, 1)
    assert kl(clean.scaled(), adversarial.scaled()).item() == pytest.approx(2.715445, abs=1e-6)
    assert kl(clean.deployed(), adversarial.deployed()).item() == pytest.approx(0.019552, abs=1e-6)


def test_trades_has_the_margin_in_cross_entropy_and_the_scale_everywhere():
    head, label = head_of(), torch.tensor([1])
    batch = SimpleNamespace(
        clean=answers(head, Z, 1), adversarial=answers(head, Z_ADVERSARIAL, 1), labels=label
    )
    assert Trades(beta=6.0)(batch, 0).item() == pytest.approx(16.985816, abs=2e-6)


def test_without_margin_at_scale_one_the_loss_is_cross_entropy_of_the_cosines():
    head = head_of(1.0, 0.0)
    assert torch.equal(head.training_logits(head(Z), torch.tensor([0])), head(Z))


def test_the_margin_lowers_the_logit_of_the_label_alone():
    head = head_of(scale=10.0, margin=0.3)
    logits = head(torch.cat([Z, Z_ADVERSARIAL]))
    lowered = 10 * logits - head.training_logits(logits, torch.tensor([2, 0]))
    expected = torch.tensor([[0, 0, 3.0], [3.0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(lowered, expected)


def test_lengths_of_features_and_of_class_weights_change_nothing():
    head = head_of()
    torch.testing.assert_close(head(7 * Z), head(Z))
    lengths = torch.tensor([[0.01], [3.0], [100.0]], dtype=torch.float64)
    torch.testing.assert_close(head_of(weight=lengths * W)(Z), head(Z))


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_gradient_of_a_loss_is_orthogonal_to_the_features(margin):
    features = torch.randn(
        5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    head = head_of(15.0, margin)
    loss = functional.cross_entropy(
        head.training_logits(head(features), torch.tensor([0, 1, 2, 0, 1])),
        torch.tensor([0, 1, 2, 0, 1]),
    )
    loss = loss + kl(head.scale * head(features), head.scale * head(Z)).mean()
    (gradient,) = torch.autograd.grad(loss, features)
    assert gradient.abs().max() > 1e-3
    assert (gradient * features).sum(1).abs().max() < 1e-12


def test_gradients_are_those_of_the_values():
    features = Z.clone().requires_grad_()
    head = head_of()
    assert torch.autograd.gradcheck(
        lambda z: functional.cross_entropy(
            head.training_logits(head(z), torch.tensor([0])), torch.tensor([0])
        ),
        (features,),
    )


def test_the_decision_does_not_depend_on_the_scale():
    head = head_of()
    logits = head(torch.randn(50, 2, dtype=torch.float64))
    assert torch.equal(logits.argmax(1), (15 * logits).argmax(1))
    assert torch.equal(logits.argmax(1), (-logits.arccos()).argmax(1))


def test_features_of_zero_length_give_cosines_of_zero_and_a_finite_gradient():
    features = torch.zeros(2, 2, requires_grad=True)
    logits = head_of().float()(features)
    assert torch.equal(logits, torch.zeros(2, 3))
    logits.sum().backward()
    assert features.grad.isfinite().all()


def test_the_head_has_one_weight_and_no_bias():
    assert [name for name, _ in Hypersphere().build(4, 3).named_parameters()] == ["weight"]


def test_the_linear_head_is_pytorchs_and_trains_on_what_it_deploys():
    torch.manual_seed(5)
    head = Linear().build(4, 3)
    torch.manual_seed(5)
    theirs = torch.nn.Linear(4, 3)
    features = torch.rand(2, 4)
    assert torch.equal(head(features), theirs(features))
    logits = head(features)
    assert head.training_logits(logits, torch.tensor([0, 1])) is logits
    assert head.scale == 1.0
