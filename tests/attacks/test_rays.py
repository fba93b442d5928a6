"""RayS: the published search query by query, labels alone, and the distance it finds."""

import math

import pytest
import torch
from attacked_models import Linear, attacked, linf, pictures, search_on, small_convolution
from test_linear_models import distances, epsilons, problem

from harness.attacks.attack import ATTACKS, attack_spec, run_attack
from harness.attacks.rays import rays, tolerance
from harness.attacks.surfaces import Logits
from harness.evaluation.handle import Handle


class Watched(Logits):
    def __init__(self, model):
        super().__init__(model)
        object.__setattr__(self, "seen", [])

    def __call__(self, candidates, points, loss):
        self.seen.append(candidates.clone())
        return super().__call__(candidates, points, loss)


def test_bisection_is_as_fine_as_the_published_one():
    assert math.sqrt(3072) == pytest.approx(55.4256, abs=1e-4)
    assert tolerance(3072) == pytest.approx(1.804e-5, abs=1e-8)


def plainly(is_wrong, image, queries):
    """The algorithm for one image, as the paper tells it, in units along the unit vector."""
    pixels, asked = image.numel(), []
    root = math.sqrt(pixels)
    signs, radius, level = torch.ones(pixels).double(), math.inf, 0

    def ask(ray, length):
        if len(asked) == queries:
            raise StopIteration
        moved = image.flatten().double() + length * ray / root
        asked.append(moved.clamp(0, 1).float().view_as(image))
        return is_wrong(asked[-1])

    try:
        while True:
            size = math.ceil(pixels / 2**level)
            for first in range(0, pixels, size):
                ray = signs.clone()
                ray[first : first + size] *= -1
                if not ask(ray, radius):
                    continue
                low, high = 0.0, min(radius, root)
                while True:
                    middle = (low + high) / 2
                    if ask(ray, middle):
                        high = middle
                    else:
                        low = middle
                    if high - low <= 1e-3:
                        break
                if high < radius:
                    signs, radius = ray, high
            level += 1
    except StopIteration:
        return asked, radius


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 5, 7)])  # 105 pixels: blocks do not divide them
def test_every_query_is_the_one_that_the_paper_makes(shape):
    torch.manual_seed(0)
    images = pictures(3, *shape, seed=5)
    weight = torch.randn(4, images[0].numel())
    model = Linear(weight, -(pictures(64, *shape).flatten(1) @ weight.T).mean(0))
    labels = model(images).logits.argmax(1)
    surface = Watched(model)
    search = search_on(model, images, labels, linf("1/100000"), surface=surface)
    run_attack(attack_spec("rays", queries=400), search)
    seen = torch.stack(surface.seen[1:])
    for number in range(3):
        asked, radius = plainly(
            lambda image, number=number: int(model(image[None]).logits.argmax()) != labels[number],
            images[number],
            399,
        )
        assert radius < math.inf
        assert torch.allclose(seen[:, number], torch.stack(asked), atol=2e-6)
        assert float(search.nearest[number]) <= radius / math.sqrt(images[0].numel()) + 1e-6


@pytest.mark.parametrize("seed", [0, 1])
def test_on_linear_models_it_comes_close_within_its_budget_and_never_below(seed):
    model, images, labels = problem(2, seed, channels=1)
    distance = distances(model, images, labels, "linf")
    for epsilon in epsilons(distance):
        spec = attack_spec("rays", queries=600)
        broken = attacked(spec, model, images, labels, linf(str(float(epsilon)))).broken
        assert not broken[distance > epsilon].any()
        assert broken[distance < 0.97 * epsilon].all()


def test_the_distance_of_images_that_stay_is_close_to_the_exact_one():
    model, images, labels = problem(2, channels=1)
    distance = distances(model, images, labels, "linf")
    spec = attack_spec("rays", queries=1200)
    found = attacked(spec, model, images, labels, linf("1/4"), drops_broken=False).nearest
    assert (found >= distance - 1e-6).all()
    assert (found <= 1.02 * distance + 2 * tolerance(36)).all()  # no nearer ray is looked for


def test_an_image_leaves_with_the_query_that_first_came_within_epsilon():
    model, images, labels = problem(2, channels=1)
    epsilon = next(epsilons(distances(model, images, labels, "linf")))
    search = attacked(
        attack_spec("rays", queries=500), model, images, labels, linf(str(float(epsilon)))
    )
    broken = search.broken
    assert 0 < int(broken.sum()) < len(broken)
    assert torch.equal(search.forwards[broken], search.first_success[broken] + 1)
    assert search.forwards[~broken].eq(500).all()
    assert (search.nearest[broken] <= epsilon).all()
    assert (search.nearest[~broken] > epsilon).all()
    reached = (search.adversarial - images).flatten(1).abs().amax(1)
    assert torch.allclose(reached[broken].double(), search.nearest[broken])


def test_only_the_decision_steers_it():
    model, images = Handle(small_convolution(), 10), pictures(20, 3, 8, 8)
    labels = model(images).logits.argmax(1)
    found = []
    for value in (0.0, torch.nan):
        search = search_on(model, images, labels, linf("4/255"))
        rays(search, loss=lambda logits, *_, value=value: logits[:, 0] * 0 + value, queries=120)
        found.append(search)
    assert found[0].broken.any()
    for name in ("broken", "first_success", "nearest", "last", "forwards"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name
    assert ATTACKS["rays"].knowledge == "decision"


def test_a_query_at_exactly_epsilon_counts_however_its_pixels_round():
    """Bisection halves from 1, so a boundary somewhat below 1/8 is first crossed at 1/8."""
    images = (torch.arange(97, 127) / 255).view(-1, 1, 1, 1).repeat(1, 1, 1, 2)
    model = Linear(torch.tensor([[0.0, 0.0], [1.0, -1.0]]), torch.tensor([0.0, -0.24]))
    labels = torch.zeros(30, dtype=torch.long)
    search = attacked(attack_spec("rays", queries=7), model, images, labels, linf("1/8"))
    assert search.broken.all()
    assert search.first_success.eq(6).all()  # clean, two other rays, then 1, 1/2, 1/4, 1/8
    assert (images.double() - search.adversarial.double()).abs().max() <= 0.125


def test_an_image_that_is_wrong_as_it_is_has_distance_zero():
    model, images, labels = problem(2, channels=1)
    search = attacked(attack_spec("rays", queries=5), model, images, 1 - labels, linf("1/100"))
    assert not search.nearest.any()
    assert search.forwards.eq(1).all()
