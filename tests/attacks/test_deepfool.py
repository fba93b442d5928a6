"""DeepFool: closed forms on linear models, and a plain second implementation on curved ones."""

import pytest
import torch
from attacked_models import Always, Linear, attacked, l2, linf, pictures, small_convolution
from test_linear_models import distances, epsilons
from test_linear_models import problem as linear_problem
from torch import nn

from harness.attacks.attack import attack_spec
from harness.evaluation.handle import Handle

THREATS = pytest.mark.parametrize("threat", [linf, l2])
BEYOND = 1e-4


@THREATS
@pytest.mark.parametrize("overshoot", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("classes", [2, 10])
def test_one_step_lands_on_the_plane_of_a_linear_model(classes, overshoot, threat):
    """Exactly `(1 + overshoot) (|difference| + 0.0001)` over the dual norm (13.9)."""
    model, images, labels = linear_problem(classes)
    norm = threat("1").norm
    exact = distances(model, images, labels, norm)
    usable = exact < 0.2  # the box stays inactive
    assert int(usable.sum()) > 20
    spec = attack_spec("deepfool", steps=1, overshoot=overshoot)
    search = attacked(spec, model, images, labels, threat("0"), drops_broken=False)
    logits = model(search.last).logits.double()
    crossed = logits.argmax(1) != labels
    assert bool(crossed[usable & (exact > 1e-3)].all())
    lengths = search.ball.distance(search.last)[usable]
    weights = (model.weight[labels][:, None] - model.weight[None]).double()
    smallest = (
        weights.norm(p=1 if norm == "linf" else 2, dim=2) + 1e9 * (weights == 0).all(2)
    ).amin()
    least = (1 + overshoot) * exact[usable]
    assert bool((lengths >= least * (1 - 1e-4)).all())
    assert bool((lengths <= least + (1 + overshoot) * BEYOND / smallest + 1e-6).all())
    if overshoot == 0:
        best = logits.masked_fill(nn.functional.one_hot(labels, classes).bool(), -torch.inf)
        margin = best.amax(1) - logits.gather(1, labels[:, None])[:, 0]
        torch.testing.assert_close(
            margin[usable], torch.full_like(margin[usable], BEYOND), atol=3e-5, rtol=0
        )


@THREATS
@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (2, 1), (3, 2), (10, 0), (10, 1)])
def test_deepfool_breaks_exactly_the_images_nearer_than_epsilon(classes, seed, threat):
    model, images, labels = linear_problem(classes, seed)
    distance = distances(model, images, labels, threat("1").norm)
    spec = attack_spec("deepfool", overshoot=0.001)
    for epsilon in epsilons(distance):
        search = attacked(spec, model, images, labels, threat(str(float(epsilon))))
        assert torch.equal(search.broken, distance < epsilon)


def plain_deepfool(module, image, label, norm, steps, overshoot):
    """One image, one class at a time, as in the specification."""
    start, point, total = image, image, torch.zeros_like(image)
    for _ in range(steps):
        point = point.clone().requires_grad_()
        logits = module(point[None])[0]
        if int(logits.argmax()) != label:
            break
        ways = []
        for other in range(len(logits)):
            if other == label:
                continue
            difference = logits[other] - logits[label]
            (slope,) = torch.autograd.grad(difference, point, retain_graph=True)
            size = float(slope.abs().sum() if norm == "linf" else slope.norm())
            length = (abs(float(difference.detach())) + BEYOND) / size
            ways.append((length, slope.sign() if norm == "linf" else slope / size))
        length, direction = min(ways, key=lambda way: way[0])
        step = length * direction
        total = total + step
        point = point.detach()
        moved = start + (1 + overshoot) * total if norm == "l2" else point + (1 + overshoot) * step
        point = moved.clamp(0, 1)
    return point.detach()


@THREATS
@pytest.mark.parametrize(("steps", "overshoot"), [(1, 0.3), (2, 0.0), (30, 0.02), (30, 0.3)])
def test_deepfool_ends_where_a_plain_implementation_ends(steps, overshoot, threat):
    module, images = small_convolution(), pictures(24, 3, 8, 8)
    with torch.no_grad():
        labels = module(images).argmax(1)
    spec = attack_spec("deepfool", steps=steps, overshoot=overshoot)
    search = attacked(spec, Handle(module, 10), images, labels, threat("0"), drops_broken=False)
    norm = threat("1").norm
    ends = torch.stack(
        [
            plain_deepfool(module, image, int(label), norm, steps, overshoot)
            for image, label in zip(images, labels, strict=True)
        ]
    )
    torch.testing.assert_close(search.last, ends, atol=2e-6, rtol=0)
    if steps == 30:
        assert torch.equal(search.nearest, search.ball.distance(search.last))


class Bent(nn.Module):
    """Class 1 where the square root of the mean pixel less 0.25 exceeds 0.5: several steps."""

    def forward(self, images):
        total = images.flatten(1).sum(1) / images[0].numel()
        rise = (total - 0.25).clamp(min=1e-9).sqrt() - 0.5
        return torch.stack([torch.zeros_like(rise), rise], 1)


@THREATS
def test_an_image_stops_at_its_first_wrong_decision_in_the_ball_or_outside(threat):
    images = torch.stack([torch.full((1, 2, 2), 0.251), torch.full((1, 2, 2), 0.4)])
    labels = torch.zeros(2, dtype=torch.long)
    spec = attack_spec("deepfool", steps=50)
    for epsilon, broken in ((0, False), (1, True)):
        model = Handle(Bent(), 2)
        for drops in (True, False):
            search = attacked(spec, model, images, labels, threat(epsilon), drops_broken=drops)
            assert search.broken.tolist() == [broken, broken]
            assert bool((model(search.last).logits.argmax(1) == 1).all())
            assert bool((search.backwards == search.looks).all())
            assert bool((search.looks < 20).all())
            assert bool(torch.isfinite(search.nearest).all())


@THREATS
def test_an_image_that_is_wrong_as_it_is_never_moves_in_diagnostics(threat):
    images, labels = torch.full((1, 1, 2, 2), 0.9), torch.zeros(1, dtype=torch.long)
    search = attacked(
        "deepfool", Handle(Bent(), 2), images, labels, threat("1/10"), drops_broken=False
    )
    assert search.looks.tolist() == [1]
    assert search.nearest.tolist() == [0.0]
    assert torch.equal(search.last, images)


@THREATS
def test_only_the_distance_of_the_end_decides_whether_an_image_is_broken(threat):
    module, images = small_convolution(), pictures(40, 3, 8, 8)
    model = Handle(module, 10)
    labels = model(images).logits.argmax(1)
    free = attacked("deepfool", model, images, labels, threat("0"))
    epsilon = float(free.nearest.median()) * (1 + 1e-9)
    search = attacked("deepfool", model, images, labels, threat(str(epsilon)))
    assert torch.equal(search.broken, free.nearest <= epsilon)
    assert torch.equal(search.nearest, free.nearest)
    assert 10 < int(search.broken.sum()) < 30


@pytest.mark.parametrize(("classes", "per_step"), [(2, 1), (20, 19), (21, 4)])
def test_deepfool_looks_at_all_rivals_up_to_twenty_classes_and_then_at_the_best(classes, per_step):
    images, labels = pictures(3, 1, 2, 2), torch.zeros(3, dtype=torch.long)
    spec = attack_spec("deepfool", steps=2, rivals=4)
    search = attacked(spec, Always(classes), images, labels, linf("1/10"))
    assert search.backwards.tolist() == [2 * per_step] * 3
    assert search.forwards.tolist() == [4] * 3


@THREATS
def test_a_step_that_hits_the_box_goes_on_along_the_free_pixels(threat):
    """The first pixel is at its face at once; the second has to go the whole way."""
    weight = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    model = Linear(weight, torch.tensor([0.0, -1.4]))
    images = torch.tensor([[[[1.0, 0.1]]]])
    search = attacked("deepfool", model, images, torch.tensor([0]), threat("1"))
    assert search.broken.all()
    assert float(search.last[0, 0, 0, 0]) == 1.0
    assert 0.4 < float(search.last[0, 0, 0, 1]) < 0.5
