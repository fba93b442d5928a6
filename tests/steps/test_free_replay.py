"""Free training (`baselines.md` sections 9 and 17): what the buffer does between updates."""

import dataclasses

import pytest
import torch

from harness.batch import ADVERSARIAL, Batch, InnerBudget, Memory, PerHead
from harness.defense import Defense
from harness.errors import HarnessError
from harness.heads.hypersphere import Hypersphere
from harness.heads.linear import Linear
from harness.maximisers.pgd import Pgd
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.objectives.cross_entropy import CrossEntropy
from harness.objectives.trades import Trades
from harness.steps.free_replay import FreeReplay
from harness.steps.weight_perturbation import WeightPerturbation
from harness.threat import ThreatModel

BUFFER = "free_replay.perturbation"


def batch_of(images, memory, *, norm="linf", epsilon="4/255"):
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build(images.shape[1:], width=2)
    return Batch(
        Network(trunk, Linear().build(trunk.features, 3)),
        images,
        torch.arange(len(images)) % 3,
        budget=InnerBudget(ThreatModel.parse(norm, epsilon), 1, 0.0),
        combine=PerHead(),
        generator=torch.Generator(),
        memory=memory,
    )


def climbing(directions, seen=None):
    """An update whose loss grows along `directions` and moves no weight."""

    def update(batch):
        if seen is not None:
            seen.append(batch.adversarial_images.detach().clone())
        loss = (batch.adversarial_images * directions[: len(batch.images)]).sum()
        loss.backward()
        return loss.detach()

    return update


def pixels(*values):
    return torch.tensor(values).reshape(1, len(values), 1, 1)


@pytest.fixture
def memory():
    return Memory(torch.zeros(8).long())


def test_a_step_is_that_of_the_check_case(memory):
    memory.put(BUFFER, pixels(0.0, 3.0, -4.0) / 255)
    batch = batch_of(pixels(0.5, 0.5, 0.5), memory)
    FreeReplay(replays=1)(batch, climbing(pixels(1.0, 1.0, -1.0)))
    found = (memory.values[BUFFER] * 255).flatten().tolist()
    assert found == pytest.approx([4.0, 4.0, -4.0], abs=1e-4)


def test_every_replay_sees_what_the_one_before_made_and_the_image_in_its_box(memory):
    seen = []
    batch = batch_of(pixels(0.5, 0.02, 0.99), memory, epsilon="1/10")
    update = climbing(pixels(1.0, -1.0, 1.0), seen)
    policy = FreeReplay(replays=3, relative_step=0.4)
    policy(batch, update)
    assert torch.stack(seen).flatten().tolist() == pytest.approx(
        [0.5, 0.02, 0.99, 0.54, 0.0, 1.0, 0.58, 0.0, 1.0]
    )
    kept = memory.values[BUFFER].flatten().tolist()
    # The gradient is that of the clamped image: beyond the box the buffer climbs on to its ball.
    assert kept == pytest.approx([0.1, -0.1, 0.1])
    policy(batch, update)
    assert seen[3].flatten().tolist() == pytest.approx([0.6, 0.0, 1.0])


def test_the_buffer_belongs_to_places_in_the_batch_and_a_smaller_batch_leaves_the_rest(memory):
    policy, whole = FreeReplay(replays=1, relative_step=0.25), torch.full((4, 1, 2, 2), 0.5)
    up = torch.ones_like(whole)
    policy(batch_of(whole, memory), climbing(up))
    policy(batch_of(whole[:2], memory), climbing(up))
    moved = memory.values[BUFFER].amax(dim=(1, 2, 3)) * 255
    assert moved.tolist() == pytest.approx([2, 2, 1, 1], abs=1e-4)


def test_a_first_batch_that_is_not_full_makes_room_later(memory):
    policy, whole = FreeReplay(replays=1, relative_step=0.25), torch.full((4, 1, 2, 2), 0.5)
    up = torch.ones_like(whole)
    policy(batch_of(whole[:2], memory), climbing(up))
    policy(batch_of(whole, memory), climbing(up))
    moved = memory.values[BUFFER].amax(dim=(1, 2, 3)) * 255
    assert moved.tolist() == pytest.approx([2, 2, 1, 1], abs=1e-4)


def test_in_l2_the_buffer_stays_in_the_ball_of_each_image(memory):
    images = torch.full((3, 1, 4, 4), 0.5)
    directions = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = batch_of(images, memory, norm="l2", epsilon="1/2")
    FreeReplay(replays=1, relative_step=0.6)(batch, climbing(directions))
    lengths = memory.values[BUFFER].flatten(1).norm(dim=1)
    assert lengths.tolist() == pytest.approx([0.3] * 3, rel=1e-5)
    FreeReplay(replays=2, relative_step=0.6)(batch, climbing(directions))
    assert memory.values[BUFFER].flatten(1).norm(dim=1).tolist() == pytest.approx([0.5] * 3)
    assert (memory.values[BUFFER].flatten(1).norm(dim=1) <= 0.5).all()
    unit = directions / directions.flatten(1).norm(dim=1).reshape(3, 1, 1, 1)
    torch.testing.assert_close(memory.values[BUFFER], 0.5 * unit, rtol=1e-4, atol=1e-6)


def test_the_mean_of_the_losses_comes_back(memory):
    values = iter([1.0, 2.0, 6.0])

    def update(batch):
        batch.adversarial_images.sum().backward()
        return torch.tensor(next(values))

    assert FreeReplay(replays=3)(batch_of(pixels(0.5), memory), update).item() == 3.0


def test_a_loss_that_does_not_see_the_images_is_a_mistake(memory):
    def update(batch):
        return torch.tensor(0.0)

    with pytest.raises(ValueError, match="does not depend on the adversarial images"):
        FreeReplay(replays=2)(batch_of(pixels(0.5), memory), update)


@pytest.mark.parametrize("replays", [0, -1, 1001])
def test_replays_outside_their_limits_are_refused(replays):
    with pytest.raises(HarnessError, match=r"replays must lie in \[1, 1000\]"):
        FreeReplay(replays=replays)


PLAIN = Defense(CrossEntropy(on=ADVERSARIAL), policy=FreeReplay(replays=1))


@pytest.mark.parametrize("replays", [1, 8])
def test_free_training_makes_its_own_images_with_any_number_of_replays(replays):
    composed = dataclasses.replace(PLAIN, policy=FreeReplay(replays=replays))
    assert composed.policy.updates == replays
    assert "free replay" in composed.composition()["policy"]
    assert dataclasses.replace(composed, head=Hypersphere()).needs == {ADVERSARIAL}


@pytest.mark.parametrize("replays", [1, 8])
@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"maximiser": Pgd()}, "a training attack of its own"),
        ({"perturbation": WeightPerturbation()}, "a weight perturbation"),
        ({"objective": Trades()}, "clean images or negatives"),
        ({"objective": CrossEntropy(on="clean")}, "clean images or negatives"),
    ],
)
def test_what_one_pass_cannot_serve_is_refused_with_its_reason(parts, reason, replays):
    with pytest.raises(HarnessError, match=f"{reason}.*Choose pgd_at or fast_at"):
        dataclasses.replace(PLAIN, policy=FreeReplay(replays=replays), **parts)
