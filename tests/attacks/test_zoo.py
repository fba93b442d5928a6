"""ZOO: one pixel per update, its slope exact on linear models, its queries counted."""

import pytest
import torch
from attacked_models import Always, Linear, attacked, l2, linf, pictures, search_on
from test_linear_models import distances, epsilons, problem

from harness.attacks.attack import attack_spec, most_passes, run_attack
from harness.attacks.surfaces import Logits


class Watched(Logits):
    def __init__(self, model):
        super().__init__(model)
        object.__setattr__(self, "seen", [])

    def __call__(self, candidates, points, loss):
        self.seen.append(candidates.clone())
        return super().__call__(candidates, points, loss)


def standing(count=6):
    images = 0.4 + 0.2 * pictures(count, 1, 5, 5)
    weight = torch.randn(2, 25, generator=torch.Generator().manual_seed(0))
    model = Linear(weight, torch.tensor([1000.0, 0.0]))
    return model, images, torch.zeros(count, dtype=torch.long)


def test_each_update_probes_one_pixel_up_and_down_and_moves_it_alone():
    model, images, labels = standing()
    surface = Watched(model)
    search = search_on(model, images, labels, linf("1/10"), surface=surface)
    run_attack(attack_spec("zoo", queries=60), search)
    clean, *probes, last = surface.seen
    assert torch.equal(clean, images)
    assert len(probes) == 29
    centre, pixels = images, []
    for pair in probes:
        up, down = (pair.view(6, 2, 25)[:, side] - centre.flatten(1) for side in (0, 1))
        moved = (up - down).abs() > 1e-4
        assert moved.sum(1).eq(1).all()
        assert torch.allclose((up - down)[moved], torch.tensor(2e-4), atol=2e-7)
        pixels.append(moved.int().argmax(1))
        centre = ((pair[0::2] + pair[1::2]) / 2).view_as(images)
    assert len(torch.stack(pixels).unique(dim=1)[0]) == 6  # each image draws its own pixels
    assert torch.stack(pixels).unique().numel() == 25
    assert ((last - images).abs() > 1e-3).flatten(1).sum(1).gt(10).all()


def test_the_first_move_of_a_pixel_is_the_learning_rate_along_its_slope():
    model, images, labels = standing()
    spec = attack_spec("zoo", queries=4, learning_rate=0.02, sigma=0.01)
    search = attacked(spec, model, images, labels, linf("1/10"))
    moved = (search.last - images).flatten(1)
    slope = (model.weight[1] - model.weight[0]).expand_as(moved)
    is_moved = moved.abs() > 1e-6
    assert is_moved.sum(1).eq(1).all()
    assert torch.allclose(moved[is_moved], 0.02 * slope[is_moved].sign(), atol=1e-5)


def test_only_the_pixel_in_turn_ages_its_moments():
    """Constant slopes: Adam with the right count steps by the learning rate at every visit."""
    model, images, labels = standing(3)
    spec = attack_spec("zoo", queries=202, learning_rate=0.001, sigma=0.01)
    search = attacked(spec, model, images, labels, linf("1/2"))
    steps = (search.last - images).flatten(1).abs() / 0.001
    assert torch.allclose(steps, steps.round(), atol=0.02)
    assert torch.allclose(steps.sum(1), torch.tensor(100.0), atol=0.2)


@pytest.mark.parametrize("threat", [linf, l2])
def test_on_linear_models_it_comes_close_and_never_below_the_dual_norm(threat):
    model, images, labels = problem(2, channels=1)
    distance = distances(model, images, labels, threat("1").norm)
    epsilon = next(epsilons(distance))
    spec = attack_spec("zoo", queries=800, learning_rate=0.005, sigma=0.01)
    broken = attacked(spec, model, images, labels, threat(str(float(epsilon)))).broken
    assert not broken[distance > epsilon].any()
    reach = 0.98 if threat is linf else 0.75  # Adam moves steep and flat pixels equally fast
    assert broken[distance < reach * epsilon].all()


@pytest.mark.parametrize(("queries", "used"), [(4, 4), (7, 6), (20_000, 20_000)])
def test_queries_never_exceed_the_limit(queries, used):
    assert most_passes(attack_spec("zoo", queries=queries)) == (used, 0)


def test_the_fraction_of_differences_that_cancelled_is_reported():
    images, labels = 0.4 + 0.2 * pictures(3, 1, 5, 5), torch.zeros(3, dtype=torch.long)
    blind = attacked(attack_spec("zoo", queries=20), Always(), images, labels, linf("1/10"))
    assert blind.notes["zero_differences"].tolist() == [1.0, 1.0, 1.0]
    model = Linear(torch.cat([torch.zeros(1, 25), torch.ones(1, 25)]), torch.tensor([900.0, 0.0]))
    model.weight[1, :10] = 0  # no slope in 10 of 25 pixels
    spec = attack_spec("zoo", queries=1000, sigma=0.01)
    found = attacked(spec, model, images, labels, linf("1/1000")).notes["zero_differences"]
    assert torch.allclose(found, torch.tensor(0.4), atol=0.1)
