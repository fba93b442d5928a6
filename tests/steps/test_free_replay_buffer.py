"""Free training's perturbation (`baselines.md` sections 9 and 17)."""

import pytest
import torch

from harness.batch import Batch, InnerBudget, Memory, PerHead
from harness.errors import HarnessError
from harness.steps.free_replay import FreeReplay
from harness.threat import ThreatModel

UNIT = 1 / 255
GRAY = torch.full((1, 3, 1, 1), 0.5)


def replay(slopes, *, replays=1, memory=None, images=GRAY, relative_step=1.0):
    """One batch whose loss has these slopes; the images that every update saw, and the memory."""
    memory = memory or Memory(torch.zeros(1, dtype=torch.int64))
    batch = Batch(
        torch.nn.Identity(),
        images,
        torch.zeros(len(images), dtype=torch.int64),
        budget=InnerBudget(ThreatModel.parse("linf", "4/255"), 1, 0.0),
        combine=PerHead(),
        generator=torch.Generator(),
        memory=memory,
    )
    seen = []

    def update(batch):
        seen.append(batch.adversarial_images.detach().clone())
        loss = (batch.adversarial_images * slopes).sum()
        loss.backward()
        return loss.detach()

    FreeReplay(replays=replays, relative_step=relative_step)(batch, update)
    return seen, memory


def buffer_of(memory):
    return next(iter(memory.values.values()))


def test_the_perturbation_moves_as_in_the_check_case():
    slopes = torch.tensor([1.0, 1.0, -1.0]).reshape(1, 3, 1, 1)
    _, memory = replay(slopes)
    (name,) = memory.values
    memory.put(name, UNIT * torch.tensor([0.0, 3, -4]).reshape(1, 3, 1, 1))
    _, memory = replay(slopes, memory=memory)
    assert (buffer_of(memory) / UNIT).flatten().tolist() == pytest.approx([4, 4, -4], abs=1e-4)


def test_every_update_sees_the_perturbation_that_the_one_before_it_left():
    slopes = torch.tensor([1.0, -1.0, 0.0]).reshape(1, 3, 1, 1)
    seen, _ = replay(slopes, replays=4, relative_step=0.375)
    moved = torch.stack([(images - GRAY).flatten() / UNIT for images in seen])
    expected = torch.tensor([[0.0, 0, 0], [1.5, -1.5, 0], [3, -3, 0], [4, -4, 0]])
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


def test_the_perturbation_belongs_to_places_and_survives_the_batch():
    slopes = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    images = GRAY.expand(2, 3, 1, 1)
    _, memory = replay(slopes, images=images)
    seen, _ = replay(torch.zeros(1), images=images.flip(0) - 0.1, memory=memory)
    moved = (seen[0] - 0.4)[:, 0].flatten() / UNIT
    assert moved.tolist() == pytest.approx([4, -4], abs=1e-4)


def test_a_smaller_batch_leaves_the_other_places_alone():
    _, memory = replay(torch.ones(1), images=GRAY.expand(2, 3, 1, 1))
    _, memory = replay(-torch.ones(1), memory=memory)
    moved = buffer_of(memory)[:, 0].flatten() / UNIT
    assert moved.tolist() == pytest.approx([0, 4], abs=1e-4)


def test_images_stay_in_the_box():
    images = torch.tensor([0.0, 1.0, 0.5]).reshape(1, 3, 1, 1)
    slopes = torch.tensor([-1.0, 1.0, 1.0]).reshape(1, 3, 1, 1)
    seen, _ = replay(slopes, replays=3, images=images)
    assert all(((one >= 0) & (one <= 1)).all() for one in seen)
    assert all(one[0, :2].flatten().tolist() == [0.0, 1.0] for one in seen)


@pytest.mark.parametrize("replays", [0, -3, 1001])
def test_impossible_numbers_of_replays_are_refused(replays):
    with pytest.raises(HarnessError, match=rf"replays must lie in \[1, 1000\] but is {replays}"):
        FreeReplay(replays=replays)
