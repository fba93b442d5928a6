"""Random noise: where its points lie, and how they are spread."""

import pytest
import torch
from attacked_models import Always, attacked, l2, linf, search_on

from harness.attacks.attack import ATTACKS, attack_spec, most_passes, run_attack
from harness.attacks.surfaces import Logits

COUNT, SHAPE = 40, (1, 2, 2)


def moves(threat, **settings):
    """[queries, N, 4]: what was added to grey images far from the box, in units of epsilon."""
    images, seen = torch.full((COUNT, *SHAPE), 0.5), []

    class Watched(Logits):
        def __call__(self, candidates, points, loss):
            seen.append(candidates - points.clean)
            return super().__call__(candidates, points, loss)

    search = search_on(
        Always(), images, torch.zeros(COUNT, dtype=torch.long), threat, surface=Watched(Always())
    )
    run_attack(attack_spec("uniform_noise", **settings), search)
    return torch.stack(seen).flatten(2) / float(threat.epsilon)


def test_it_tries_the_clean_image_then_points_then_vertices():
    found = moves(linf("1/10"), draws=3, vertices=2)
    assert not found[0].any()
    assert found[1:4].abs().amax(2).lt(1).all()
    assert torch.allclose(found[4:].abs(), torch.ones(2, COUNT, 4), atol=1e-5)
    assert len(found) == 6
    assert most_passes(attack_spec("uniform_noise")) == (201, 0)
    assert ATTACKS["uniform_noise"].knowledge == "none"


def test_points_are_uniform_in_the_cube_and_each_its_own():
    found = moves(linf("1/10"), draws=50, vertices=0)[1:].flatten()
    assert float(found.mean()) == pytest.approx(0, abs=0.02)
    assert float(found.square().mean()) == pytest.approx(1 / 3, abs=0.015)
    assert len(found.unique()) > 0.99 * len(found)


def test_vertices_are_drawn_evenly():
    found = moves(linf("1/10"), draws=0, vertices=50)[1:].flatten(0, 1).sign()
    assert len(found.unique(dim=0)) == 16
    assert float(found.mean(0).abs().max()) < 0.08


def test_points_are_uniform_in_the_euclidean_ball():
    found = moves(l2("1/4"), draws=50, vertices=0)[1:].flatten(0, 1)
    volume = found.norm(dim=1) ** 4  # uniform in [0, 1] if the points are uniform in 4 dimensions
    assert float(volume.max()) <= 1 + 1e-5
    assert float(volume.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(volume.square().mean()) == pytest.approx(1 / 3, abs=0.02)
    unit = found / found.norm(dim=1, keepdim=True)
    assert torch.allclose(unit.T @ unit / len(unit), torch.eye(4) / 4, atol=0.02)


def test_in_l2_the_outermost_points_lie_on_the_sphere_in_every_direction():
    found = moves(l2("1/4"), draws=0, vertices=50)[1:].flatten(0, 1)
    assert torch.allclose(found.norm(dim=1), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(found.T @ found / len(found), torch.eye(4) / 4, atol=0.02)
    assert found.pow(4).mean() == pytest.approx(3 / 24, abs=0.01)  # 3 / (d (d + 2)) on the sphere


def test_the_box_cuts_points_and_vertices():
    images = torch.cat([torch.zeros(3, *SHAPE), torch.ones(3, *SHAPE)])
    labels = torch.zeros(6, dtype=torch.long)
    search = attacked(
        attack_spec("uniform_noise", draws=0, vertices=3), Always(), images, labels, linf("1/10")
    )
    moved = (search.last - images).abs().flatten()
    assert {round(value, 4) for value in moved.tolist()} == {0.0, 0.1}
    assert search.ball.contains(search.last).all()
