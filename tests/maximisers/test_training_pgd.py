"""PGD inside training: where it may go, what it leaves alone, what decides its numbers."""

import pytest
import torch
from torch import nn

from harness.attacks.geometry import Ball
from harness.batch import Batch, InnerBudget, PerHead, evaluating
from harness.errors import HarnessError
from harness.heads.hypersphere import Hypersphere
from harness.heads.linear import Linear
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.pgd import Pgd, ascend, near
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.objectives.trades import kl
from harness.outputs import Outputs
from harness.threat import ThreatModel
from harness.verification import check_inside

SHAPE = (1, 8, 8)


LINEAR = Linear()


def network_of(head=LINEAR, hook=None):
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build(SHAPE, width=3)
    return Network(trunk, head.build(trunk.features, 4), hook and hook.build(trunk))


def batch_of(network, *, norm="linf", epsilon="1/5", steps=4, step=0.07, seed=1, images=None):
    draws = torch.Generator().manual_seed(0)
    if images is None:
        images = torch.rand(12, *SHAPE, generator=draws)
        images[:4] = images[:4].round()  # pixels on the edge of the box
    return Batch(
        network.train(),
        images,
        torch.randint(0, 4, (len(images),), generator=draws),
        budget=InnerBudget(ThreatModel.parse(norm, epsilon), steps, step),
        combine=PerHead(),
        generator=torch.Generator().manual_seed(seed),
        maximiser=Pgd(),
    )


@pytest.mark.parametrize("climbs", ["ce", "kl"])
@pytest.mark.parametrize(
    ("norm", "epsilon", "step"),
    [("linf", "8/255", 0.007), ("linf", "0.031", 0.007), ("linf", "1/5", 0.3), ("l2", "1/2", 0.2)],
)
@pytest.mark.parametrize("steps", [1, 5])
def test_images_stay_in_the_ball_and_the_box(climbs, norm, epsilon, step, steps):
    batch = batch_of(network_of(), norm=norm, epsilon=epsilon, step=step, steps=steps)
    found = Pgd(climbs=climbs)(batch)
    distance = check_inside(batch.images, found, batch.budget.threat)
    assert distance.max() > 0.001
    assert not found.requires_grad


def test_at_epsilon_zero_the_images_are_the_clean_ones():
    batch = batch_of(network_of(), epsilon="0")
    assert torch.equal(Pgd()(batch), batch.images)


@pytest.mark.parametrize("climbs", ["ce", "kl"])
def test_the_start_is_not_the_clean_image(climbs):
    batch = batch_of(network_of(), steps=0)
    start = Pgd(climbs=climbs)(batch)
    assert (start != batch.images).flatten(1).any(1).all()
    assert (start - batch.images).abs().max() < 0.006


def test_agreement_has_no_gradient_at_the_clean_image_where_it_would_stay_without_noise():
    interior = torch.full((6, *SHAPE), 0.5, dtype=torch.float64)
    for noise, moves in ((0.0, False), (0.001, True)):
        batch = batch_of(network_of().double(), images=interior, steps=1)
        found = []

        def inner(answers, batch=batch, found=found):
            with torch.no_grad():
                clean = batch.answers(batch.images, batch.labels, select=None).deployed()
            value = kl(clean, answers.deployed())
            found.append(torch.autograd.grad(value.sum(), answers.deployed(), retain_graph=True)[0])
            return value

        with evaluating(batch.network):
            ball = Ball.around(interior, batch.budget.threat)
            ascend(batch, ball, near(batch, ball, noise), batch.labels, inner)
        assert (found[0].abs().max() > 1e-6) == moves


@pytest.mark.parametrize("climbs", ["ce", "kl"])
@pytest.mark.parametrize("hook", [None, ReverseAttention()], ids=["plain", "gated"])
def test_more_steps_of_the_same_stream_reach_a_higher_loss(climbs, hook):
    network = network_of(hook=hook)
    losses = []
    for steps in (0, 8):
        batch = batch_of(network, steps=steps)
        found = Pgd(climbs=climbs)(batch)
        network.eval()
        with torch.no_grad():
            before = [logits.log_softmax(1) for logits in network(batch.images).every_logits()]
            after = [logits.log_softmax(1) for logits in network(found).every_logits()]
        if climbs == "ce":
            values = [nn.functional.nll_loss(logits, batch.labels) for logits in after]
        else:
            values = [(b.exp() * (b - a)).sum(1).mean() for a, b in zip(after, before, strict=True)]
        losses.append(PerHead()(values.__getitem__, len(values)).item())
    assert losses[1] > losses[0]


@pytest.mark.parametrize("climbs", ["ce", "kl"])
def test_the_result_depends_on_the_given_stream_alone(climbs):
    network = network_of()
    torch.manual_seed(1)
    once = Pgd(climbs=climbs)(batch_of(network))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = Pgd(climbs=climbs)(batch_of(network))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(once, again)
    assert not torch.equal(once, Pgd(climbs=climbs)(batch_of(network, seed=2)))


@pytest.mark.parametrize("climbs", ["ce", "kl"])
@pytest.mark.parametrize("hook", [None, ReverseAttention()], ids=["plain", "gated"])
def test_statistics_gradients_and_modes_stay_as_they_were(climbs, hook):
    network = network_of(hook=hook)
    batch = batch_of(network)
    network.trunk.layer1.eval()  # a mixture of modes must come back as it was
    for number, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, number) if number % 2 else None
    gradients = [p.grad if p.grad is None else p.grad.clone() for p in network.parameters()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    Pgd(climbs=climbs)(batch)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)


def test_modes_come_back_when_the_attack_fails():
    network = network_of()
    batch = batch_of(network, images=torch.rand(2, 3, 8, 8))  # the wrong number of channels
    with pytest.raises(HarnessError):
        Pgd()(batch)
    assert all(module.training for module in network.modules())


class Linear3(nn.Module):
    """Two logits whose difference grows along a given direction."""

    hook = None

    def __init__(self, direction):
        super().__init__()
        self.head = Linear().build(1, 2)  # its scale of 1 is all that is looked at
        self.direction = torch.tensor(direction)

    def forward(self, images, *, select=None):
        value = (images.flatten(1) * self.direction).sum(1)
        return Outputs(torch.stack([torch.zeros_like(value), value], dim=1))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, [0.5075, 0.013, 0.997]), (2, [0.5145, 0.006, 1.0]), (3, [0.5215, 0.0, 1.0])],
)
def test_steps_are_those_of_the_mechanism_check_case(steps, expected):
    images = torch.tensor([0.5, 0.02, 0.99]).reshape(1, 3, 1, 1)
    network = Linear3([1.0, -1.0, 1.0])
    batch = Batch(
        network,
        images,
        torch.tensor([0]),
        budget=InnerBudget(ThreatModel.parse("linf", "0.031"), steps, 0.007),
        combine=PerHead(),
        generator=torch.Generator(),
    )
    start = torch.tensor([0.0005, 0.0, 0.0]).reshape(1, 3, 1, 1)
    ball = Ball.around(images, batch.budget.threat)
    candidate = ball.project(images + start)
    found = ascend(batch, ball, candidate, batch.labels, lambda answers: answers.scaled()[:, 1])
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_linear_model_is_climbed_to_its_closed_form_optimum():
    direction = [0.3, -2.0, 0.0]
    network = Linear3(direction)
    images = torch.full((1, 3, 1, 1), 0.5)
    batch = Batch(
        network,
        images,
        torch.tensor([0]),
        budget=InnerBudget(ThreatModel.parse("linf", "1/8"), 20, 0.05),
        combine=PerHead(),
        generator=torch.Generator(),
    )
    found = Pgd(climbs="ce")(batch)
    gain = ((found - images).flatten() * torch.tensor(direction)).sum().item()
    assert gain == pytest.approx(0.125 * 2.3, abs=1e-5)  # epsilon times the dual norm


def test_inner_losses_see_the_scale_and_not_the_margin():
    seen = []

    class Spy(Hypersphere):
        def build(self, features, classes):
            head = super().build(features, classes)
            head.training_logits = lambda *_: seen.append("margin")
            return head

    images = []
    for scale in (15.0, 1.0):
        network = network_of(Spy(scale=scale))
        batch = batch_of(network, steps=1)
        answers = batch.answers(batch.images, batch.labels, select=None)
        torch.testing.assert_close(answers.scaled(), scale * answers.deployed())
        images.append(Pgd(climbs="kl")(batch))
    assert seen == []
    assert images[0].shape == images[1].shape


@pytest.mark.parametrize("climbs", ["", "CE", "margin"])
def test_an_unknown_inner_loss_is_refused(climbs):
    with pytest.raises(HarnessError, match="no inner loss named"):
        Pgd(climbs=climbs)
