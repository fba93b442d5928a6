"""NES and SPSA: the estimator against exact enumeration, its probes, and what they reach."""

import itertools
import math

import pytest
import torch
from attacked_models import Always, Linear, attacked, l2, linf, pictures, search_on
from test_linear_models import distances, epsilons, problem

from harness.attacks.attack import ATTACKS, attack_spec, most_passes, run_attack
from harness.attacks.finite_differences import Adam, Climb, weighted_sum
from harness.attacks.losses import LOSSES
from harness.attacks.surfaces import Logits, Surrogate
from harness.errors import HarnessError
from harness.outputs import Outputs

SLOPE = torch.tensor([3.0, -1.0], dtype=torch.float64)
SIGNS = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)), dtype=torch.float64)


def estimates(directions):
    """One-pair estimates of the gradient of <SLOPE, x> at a point, [m, 2]."""
    sigma, point = 0.25, torch.tensor([0.7, 0.1], dtype=torch.float64)
    values = torch.stack(
        [(point + sigma * directions) @ SLOPE, (point - sigma * directions) @ SLOPE], 1
    )
    return weighted_sum(values, directions[:, None, :, None, None], sigma).flatten(1)


def test_sign_vectors_estimate_a_linear_slope_without_bias_and_with_the_variance_of_the_others():
    found = estimates(SIGNS)
    expected = torch.tensor([[2, 2], [4, -4], [4, -4], [2, 2]], dtype=torch.float64)
    assert torch.allclose(found, expected)
    assert torch.allclose(found.mean(0), SLOPE)
    assert torch.allclose(found.var(0, correction=0), SLOPE.square().sum() - SLOPE**2)


def test_gaussian_directions_estimate_a_linear_slope_without_bias_and_with_more_variance():
    """Three-point Gauss-Hermite quadrature: exact for the fourth moments that are needed."""
    nodes = torch.tensor(list(itertools.product([-math.sqrt(3), 0, math.sqrt(3)], repeat=2)))
    weights = torch.tensor(list(itertools.product([1 / 6, 2 / 3, 1 / 6], repeat=2))).prod(1)
    found, weights = estimates(nodes.double()), weights.double()[:, None]
    mean = (weights * found).sum(0)
    assert torch.allclose(mean, SLOPE, atol=1e-6)
    variance = (weights * (found - mean) ** 2).sum(0)
    assert torch.allclose(variance, torch.tensor([19.0, 11.0], dtype=torch.float64), atol=1e-5)


def climb(draw, pairs, **settings):
    defaults = {"steps": 1, "sigma": 0.01, "optimiser": "sign"}
    return Climb(
        draw, pairs=pairs, relative_step=0.25, learning_rate=0.01, **{**defaults, **settings}
    )


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_all_sign_vectors_together_give_each_image_its_exact_slope(pixels):
    """With 4 pixels there are 16 directions, more than are drawn at once."""
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=pixels)))
    given = []

    def draw(positions, shape, *, restart, purpose):
        start = sum(given)
        given.append(shape[0])
        return every[start : start + shape[0]].view(1, *shape).repeat(len(positions), 1, 1, 1, 1)

    generator = torch.Generator().manual_seed(0)
    model = Linear(torch.randn(3, pixels, generator=generator), torch.zeros(3))
    images = 0.3 + 0.4 * torch.rand(5, 1, 1, pixels, generator=generator)
    logits = model(images).logits
    labels, rivals = logits.argmax(1), logits.argsort(1)[:, -2]
    search = search_on(model, images, labels, linf("1/1000"))
    gradient, left = climb(draw, 2**pixels, sigma=1e-4).estimate(
        search, torch.arange(5), images, LOSSES["margin"], 0
    )
    assert left.tolist() == [0, 1, 2, 3, 4]
    slopes = model.weight[rivals] - model.weight[labels]
    assert torch.allclose(gradient.flatten(1), slopes, atol=2e-2)
    assert search.forwards.tolist() == [2 * 2**pixels] * 5


def test_adam_moves_as_the_textbook_says():
    """Kingma and Ba, algorithm 1, in float64 and with powers."""
    state, first, second = Adam.start(torch.zeros(2, 1, 3, 3)), 0, 0
    for step in range(1, 13):
        gradient = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(step))
        exact = gradient.double()
        first, second = 0.9 * first + 0.1 * exact, 0.999 * second + 0.001 * exact**2
        scaled = (second / (1 - 0.999**step)).sqrt() + 1e-8
        move, state = state.step(gradient)
        assert torch.allclose(move.double(), first / (1 - 0.9**step) / scaled, atol=1e-4), step


@pytest.mark.parametrize("name", ["nes", "spsa"])
@pytest.mark.parametrize("threat", [linf, l2])
def test_on_linear_models_they_come_close_and_never_below_the_dual_norm(name, threat):
    model, images, labels = problem(2, channels=1)
    distance = distances(model, images, labels, threat("1").norm)
    for epsilon in epsilons(distance):
        spec = attack_spec(name, pairs=64)
        broken = attacked(spec, model, images, labels, threat(str(float(epsilon)))).broken
        assert not broken[distance > epsilon].any()
        assert broken[distance < 0.9 * epsilon].all()


@pytest.mark.parametrize("name", ["nes", "spsa"])
def test_the_strong_tier_loses_next_to_nothing_on_a_linear_model(name):
    model, images, labels = problem(2, channels=1)
    distance = distances(model, images, labels, "linf")
    epsilon = next(epsilons(distance))
    spec = attack_spec(name, optimiser="adam", sigma=0.01, pairs=64, steps=25)
    broken = attacked(spec, model, images, labels, linf(str(float(epsilon)))).broken
    assert not broken[distance > epsilon].any()
    assert broken[distance < 0.98 * epsilon].all()


@pytest.mark.parametrize("name", ["nes", "spsa"])
@pytest.mark.parametrize(("steps", "probes"), [(20, 5120), (50, 12_800), (80, 20_480)])
def test_queries_are_the_published_ones_and_a_look_at_every_iterate(name, steps, probes):
    assert most_passes(attack_spec(name, steps=steps)) == (probes + steps + 1, 0)


class Watched(Logits):
    def __init__(self, model):
        super().__init__(model)
        object.__setattr__(self, "seen", [])

    def __call__(self, candidates, points, loss):
        self.seen.append((candidates.clone(), points.clean))
        return super().__call__(candidates, points, loss)


def probes_of(name, **settings):
    images = torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)])
    surface = Watched(Always())
    labels = torch.zeros(2, dtype=torch.long)
    search = search_on(Always(), images, labels, linf("1/10"), surface=surface)
    run_attack(attack_spec(name, steps=1, **settings), search)
    return torch.cat([seen - clean for seen, clean in surface.seen[1:-1]])


def test_probes_are_symmetric_at_the_distance_sigma_and_may_leave_the_box():
    moves = probes_of("spsa", pairs=12, sigma=0.01)
    assert torch.allclose(moves.abs(), torch.tensor(0.01), atol=1e-6)
    assert len(moves) == 2 * 24  # every probe, of both images
    assert torch.allclose(moves.sum(0), torch.zeros(1, 4, 4), atol=1e-5)
    assert len(moves.round(decimals=4).unique(dim=0)) > 40  # each image has its own
    gaussian = probes_of("nes", pairs=500, sigma=0.01)
    assert abs(float(gaussian.std()) - 0.01) < 2e-4
    assert abs(float((gaussian / 0.01).pow(4).mean()) - 3) < 0.15


def test_directions_change_from_step_to_step():
    images = torch.full((1, 1, 4, 4), 0.5)
    surface = Watched(Always())
    search = search_on(Always(), images, torch.tensor([0]), linf("1/10"), surface=surface)
    run_attack(attack_spec("spsa", steps=3, pairs=4), search)
    first, second = (surface.seen[number][0] for number in (1, 3))
    assert len(first) == len(second) == 8
    assert not torch.equal(first, second)


class Bright:
    """Class 1 where the mean pixel passes a threshold."""

    def __init__(self, threshold):
        self.threshold = threshold

    def __call__(self, images, *, select=None):
        mean = images.mean(dim=(1, 2, 3))
        return Outputs(torch.stack([torch.full_like(mean, self.threshold), mean], 1))


def test_a_wrong_probe_breaks_its_image_only_inside_the_ball_and_the_first_is_kept():
    images = torch.full((3, 1, 2, 2), 0.5)
    search = search_on(Bright(0.55), images, torch.zeros(3, dtype=torch.long), linf("1/10"))
    search.judge_clean(LOSSES["margin"])
    levels = torch.tensor([[0.5, 0.61, 0.52], [0.54, 0.58, 0.57], [0.5, 0.4, 0.3]])
    candidates = levels[:, :, None, None, None].expand(3, 3, 1, 2, 2)
    values, kept = search.probe(torch.arange(3), candidates, LOSSES["margin"])
    assert torch.allclose(values, levels - 0.55)
    assert kept.tolist() == [True, False, True]
    assert search.broken.tolist() == [False, True, False]
    assert torch.equal(search.adversarial[1], candidates[1, 1])
    assert search.first_success.tolist() == [-1, 2, -1]
    assert search.forwards.tolist() == search.looks.tolist() == [4, 4, 4]
    assert torch.equal(search.last, images)
    assert torch.isinf(search.nearest).all()


def test_probes_count_the_passes_of_their_surface_and_keep_an_earlier_success():
    images = torch.full((2, 1, 2, 2), 0.5)
    surface = Surrogate(Bright(0.45), Bright(0.7))
    labels = torch.zeros(2, dtype=torch.long)
    search = search_on(
        surface.model, images, labels, linf("1/10"), surface=surface, drops_broken=False
    )
    search.judge_clean(LOSSES["margin"])
    _, kept = search.probe(torch.arange(2), images[:, None] + 0.01, LOSSES["margin"])
    assert kept.all()  # diagnostics keep what is broken
    assert search.first_success.tolist() == [0, 0]
    assert search.looks.tolist() == [2, 2]
    assert search.forwards.tolist() == [4, 4]
    assert torch.equal(search.adversarial, images)


def test_a_probe_without_a_majority_of_votes_breaks_nothing():
    images = torch.full((2, 1, 2, 2), 0.5)
    search = search_on(Bright(0.55), images, torch.zeros(2, dtype=torch.long), linf("1/10"))
    asked = []

    def votes(candidates):
        asked.append(len(candidates))
        return torch.tensor([[1.0, 0.0]]).repeat(len(candidates), 1)

    search.confirm = votes
    search.judge_clean(LOSSES["margin"])
    candidates = torch.full((2, 3, 1, 2, 2), 0.59)
    candidates[:, 0] = 0.7
    search.probe(torch.arange(2), candidates, LOSSES["margin"])
    assert not search.broken.any()
    assert asked == [4]  # the probes outside the ball need no votes


def test_values_that_are_not_finite_say_nothing_about_the_slope():
    values = torch.tensor([[torch.nan, 2.0, 1.0, torch.inf, 1.0, 1.0]])
    directions = torch.ones(1, 3, 1, 1, 1)
    assert weighted_sum(values, directions, 0.5).tolist() == [[[[1.0]]]]


def test_an_unknown_optimiser_is_refused_before_anything_runs():
    with pytest.raises(
        HarnessError, match=r"no optimiser of nes named 'adan'\. Did you mean 'adam'"
    ):
        attack_spec("nes", optimiser="adan")
    assert ATTACKS["spsa"].knowledge == "query"


def test_the_optimisers_move_differently():
    model, images, labels = problem(2, channels=1)
    sign, adam = (
        attacked(
            attack_spec("spsa", steps=1, pairs=64, optimiser=optimiser, learning_rate=0.02),
            model,
            images,
            labels,
            linf("1/10"),
            drops_broken=False,
        )
        for optimiser in ("sign", "adam")
    )
    assert torch.allclose((sign.last - images).abs(), torch.tensor(0.025), atol=1e-6)
    assert torch.allclose((adam.last - images).abs(), torch.tensor(0.02), atol=1e-6)


def test_an_image_finds_the_same_alone_as_among_others():
    model, _, _ = problem(3, channels=1)
    images = 0.4 + 0.2 * pictures(7, 1, 6, 6, seed=3)
    labels = model(images).logits.argmax(1)
    spec = attack_spec("nes", steps=2, pairs=20)
    whole = attacked(spec, model, images, labels, linf("1/1000"))
    alone = attacked(spec, model, images[4:5], labels[4:5], linf("1/1000"), indices=[4])
    assert torch.equal(alone.last[0], whole.last[4])
