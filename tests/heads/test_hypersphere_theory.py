"""The two lemmas of hypersphere embedding (Pang et al., 2020, section 3), on the real head."""

import pytest
import torch
from torch.nn import functional

from harness.attacks.geometry import Ball
from harness.heads.hypersphere import Hypersphere
from harness.threat import ThreatModel


def random(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("view", "scale"), [("cosine", 1.0), ("cosine", 15.0), ("angle", 15.0)])
def test_the_gradient_weighs_every_rival_by_its_probability(view, scale):
    """Lemma 2: `-sum over l != y of f_l grad((v_y - v_l))`, v being the logits of training."""
    head = Hypersphere(scale=scale, margin=0.0, view=view).build(5, 4).double()
    features, label = random(1, 5, seed=1).requires_grad_(), torch.tensor([2])
    logits = head.training_logits(head(features), label)
    (found,) = torch.autograd.grad(
        functional.cross_entropy(logits, label), features, retain_graph=True
    )
    expected = torch.zeros_like(found)
    for rival in (0, 1, 3):
        ahead = logits[0, 2] - logits[0, rival]
        (gradient,) = torch.autograd.grad(ahead, features, retain_graph=True)
        expected -= logits.softmax(1)[0, rival].detach() * gradient
    torch.testing.assert_close(found, expected)


def test_no_move_of_the_ball_gains_more_to_first_order_than_the_signed_step():
    """Lemma 1 for p = infinity: `eps sign(g)` gains `eps |g|_1`."""
    gradient = random(1, 1, 4, 4, seed=2)
    ball = Ball.around(torch.full_like(gradient, 0.5), ThreatModel.parse("linf", "0.1"))
    gain = (ball.epsilon * ball.steepest(gradient) * gradient).sum()
    assert gain.item() == pytest.approx(0.1 * gradient.abs().sum().item())
    others = 0.1 * random(1000, 1, 4, 4, seed=3).tanh()
    assert (others * gradient).sum((1, 2, 3)).max() < gain
