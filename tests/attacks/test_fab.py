"""FAB: closed forms on linear models, the reference's path, and what it owes outside the ball."""

import pytest
import torch
from attacked_models import (
    Always,
    Linear,
    PixelGate,
    attacked,
    l2,
    linf,
    pictures,
    search_on,
    small_convolution,
)
from test_linear_models import distances, epsilons
from test_linear_models import problem as linear_problem
from test_reference_autoattack import NET as CURVED
from test_reference_autoattack import problem as curved_problem
from torch import nn

from harness.attacks.attack import attack_spec, most_passes, run_attack
from harness.attacks.surfaces import (
    Auxiliary,
    Gate,
    Logits,
    LogSoftmaxMean,
    Repeated,
    Smallest,
    StraightThrough,
    Sum,
    Training,
    TrainingLoss,
    TwoPhase,
    Weighted,
)
from harness.errors import HarnessError
from harness.evaluation.handle import Handle
from harness.outputs import Outputs

THREATS = pytest.mark.parametrize("threat", [linf, l2])


class Recorded:
    """A model, or a module for the reference, that keeps every batch of images it is shown."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, images, **how):
        self.seen.append(images.detach().clone())
        return self.model(images, **how)


def share_of_distance(steps, overshoot=1.05, alpha_max=0.1, pull_back=0.9):
    """The nearest wrong point on a line whose boundary is at 1.

    All points lie between the clean image (0) and its projection, so numbers replace images.
    """
    position, nearest = 0.0, float("inf")
    for _ in range(steps):
        here, home = 1 - position, 1.0
        share = min(abs(here) / (abs(here) + home), alpha_max)
        position = (position + overshoot * here) * (1 - share) + overshoot * home * share
        if position > 1:
            nearest = min(nearest, position)
            position *= pull_back
    return nearest


@THREATS
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"overshoot": 1.2, "pull_back": 0.8},
        {"alpha_max": 0.02, "pull_back": 0.5},
        {"alpha_max": 1.0, "pull_back": 0.95},
    ],
    ids=str,
)
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
@pytest.mark.parametrize(("name", "classes"), [("fab", 2), ("fab_t", 2), ("fab", 5)])
def test_on_a_linear_model_the_distance_follows_the_recursion_on_a_line(
    name, classes, steps, changes, threat
):
    model, images, labels = linear_problem(classes)
    exact = distances(model, images, labels, threat("1").norm)
    usable = exact < 0.3  # the box stays inactive
    assert int(usable.sum()) > 20
    spec = attack_spec(name, steps=steps, **changes)
    search = attacked(spec, model, images, labels, threat("0"), drops_broken=False)
    found, expected = search.nearest / exact, share_of_distance(steps, **changes)
    if classes == 2:
        torch.testing.assert_close(
            found[usable], torch.full_like(found, expected)[usable], rtol=2e-3, atol=0
        )
    assert bool((found[usable] > 1).all())
    assert bool((found[usable] < expected + 2e-3).all())


def test_a_point_that_is_pulled_back_is_judged_too():
    """On a line: 1.2 at the first look, 1.08 after the pull, in units of the distance."""
    model, images, labels = linear_problem(2)
    images, labels = images[:1], labels[:1]
    distance = float(distances(model, images, labels, "linf"))
    spec = attack_spec("fab", steps=2, overshoot=1.2)
    for factor, look in ((1.25, 1), (1.1, 2), (0.99, -1)):
        search = attacked(spec, model, images, labels, linf(str(factor * distance)))
        assert search.first_success.tolist() == [look]


EXACT = [
    (2, attack_spec("fab", steps=10, overshoot=1.005)),
    (10, attack_spec("fab", steps=10, overshoot=1.005)),
    (2, attack_spec("fab_t", steps=10, overshoot=1.005)),
    (4, attack_spec("fab_t", steps=10, overshoot=1.005)),
    (10, attack_spec("fab_t", steps=10, overshoot=1.005)),
    (10, attack_spec("fab_t", steps=10, overshoot=1.005, restarts=2)),
]


@THREATS
@pytest.mark.parametrize(("classes", "spec"), EXACT, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fab_breaks_exactly_the_images_nearer_than_epsilon(classes, spec, threat, seed):
    model, images, labels = linear_problem(classes, seed)
    distance = distances(model, images, labels, threat("1").norm)
    for epsilon in epsilons(distance):
        search = attacked(spec, model, images, labels, threat(str(float(epsilon))))
        assert torch.equal(search.broken, distance < epsilon)


@THREATS
def test_the_default_comes_within_a_hundredth_of_the_exact_distance(threat):
    model, images, labels = linear_problem(10)
    distance = distances(model, images, labels, threat("1").norm)
    for spec in (attack_spec("fab", steps=10), attack_spec("fab_t", steps=10)):
        search = attacked(spec, model, images, labels, threat("0"), drops_broken=False)
        assert bool((search.nearest >= distance * (1 - 1e-6)).all())
        assert bool((search.nearest <= distance * 1.01).all())


def reference(module, threat, steps, is_targeted):
    from pyautoattack.fab_pt import FABAttack_PT

    return FABAttack_PT(
        module,
        norm={"linf": "Linf", "l2": "L2"}[threat.norm],
        n_iter=steps,
        eps=float(threat.epsilon),
        targeted=is_targeted,
        device=torch.device("cpu"),
    )


def reference_distances(module, images, labels, threat, steps, targets):
    """[N], the smallest distance over `targets` runs of the reference; one untargeted for 0."""
    attack = reference(module, threat, steps, targets > 0)
    best = torch.full((len(images),), torch.inf, dtype=torch.float64)
    for number in range(max(targets, 1)):
        attack.target_class = 2 + number
        with torch.no_grad():
            found = attack.attack_single_run(images, labels, is_targeted=targets > 0)
        difference = (found.double() - images.double()).flatten(1)
        length = difference.abs().amax(1) if threat.norm == "linf" else difference.norm(dim=1)
        best = torch.minimum(best, length.where(length > 0, torch.inf))
    return best


def near_and_far(kind):
    """Images near their boundary on curved logits, and far from it with the box in the way."""
    if kind == "curved":
        return (CURVED, *curved_problem())
    module, images = small_convolution(), pictures(32, 3, 8, 8)
    with torch.no_grad():
        return module, images, module(images).argmax(1)


@pytest.mark.parametrize("kind", ["curved", "far"])
@pytest.mark.parametrize("targets", [0, 2])
@THREATS
def test_fab_finds_the_distances_of_the_reference(threat, targets, kind):
    module, images, labels = near_and_far(kind)
    steps = 10
    theirs = reference_distances(module, images, labels, threat("1/400"), steps, targets)
    own = {"targets": targets} if targets else {}
    spec = attack_spec("fab_t" if targets else "fab", steps=steps, **own)
    model = Handle(module, 10)
    ours = attacked(spec, model, images, labels, threat("1/400"), drops_broken=False).nearest
    assert bool(torch.isfinite(theirs).all())
    # we also judge what is pulled back, so we may be nearer, but hardly ever farther away
    assert bool((ours <= theirs * 1.001).all())
    assert int(((ours / theirs - 1).abs() < 1e-3).sum()) >= len(images) - 4
    assert bool((ours >= theirs * 0.9).all())
    epsilon = float(theirs.median()) * 1.001
    broken = attacked(spec, model, images, labels, threat(str(epsilon))).broken
    assert 8 <= int(broken.sum()) <= 24
    assert int((broken ^ (theirs <= epsilon)).sum()) <= 1


@THREATS
def test_fab_walks_the_path_of_the_reference(threat):
    images, labels = curved_problem()
    ours, theirs, steps = Recorded(Handle(CURVED, 10)), Recorded(CURVED), 12
    attack = reference(theirs, threat("1/400"), steps, True)
    attack.target_class = 2
    with torch.no_grad():
        attack.attack_single_run(images, labels, is_targeted=True)
    spec = attack_spec("fab_t", targets=1, steps=steps)
    attacked(spec, ours, images, labels, threat("1/400"), drops_broken=False)
    ahead, behind = ours.seen[1:], theirs.seen[2:]  # clean images: ours once, theirs twice
    assert len(ahead) == len(behind) == 2 * steps
    for step, (one, other) in enumerate(zip(ahead, behind, strict=True)):
        difference = (one - other).abs()
        # rounding turns the sign of a weight that is nearly 0 and never of one that counts
        assert float((difference > 1e-6).double().mean()) < 0.005, step


@pytest.mark.parametrize("name", ["fab", "fab_t"])
@THREATS
def test_a_wrong_decision_outside_the_ball_is_remembered_but_breaks_nothing(threat, name):
    module, images, labels = near_and_far("far")
    search = attacked(attack_spec(name, steps=5), Handle(module, 10), images, labels, threat("0"))
    assert not search.broken.any()
    assert bool((search.nearest > 0).all())
    assert bool(torch.isfinite(search.nearest).all())


def test_without_dropping_the_search_goes_on_to_smaller_distances():
    module, images, labels = near_and_far("far")
    model, threat, spec = Handle(module, 10), linf("1/2"), attack_spec("fab", steps=20)
    dropped = attacked(spec, model, images, labels, threat)
    kept = attacked(spec, model, images, labels, threat, drops_broken=False)
    assert dropped.broken.all()
    assert set(kept.forwards.tolist()) == {41}
    assert bool((dropped.forwards < 41).all())
    assert bool((kept.nearest <= dropped.nearest).all())
    assert int((kept.nearest < 0.99 * dropped.nearest).sum()) > 16


@pytest.mark.parametrize("name", ["fab", "fab_t"])
@THREATS
def test_later_restarts_start_halfway_to_epsilon_or_to_the_best_so_far(threat, name):
    module, images, _ = near_and_far("far")
    images = 0.4 + 0.2 * images  # no start is cut by the box
    recorded, epsilon = Recorded(Handle(module, 10)), 0.002
    labels = recorded(images).logits.argmax(1)
    search = search_on(recorded, images, labels, threat(str(epsilon)), drops_broken=False)
    once = search_on(recorded, images, labels, threat(str(epsilon)), drops_broken=False)
    own = {"targets": 1} if name == "fab_t" else {}
    run_attack(attack_spec(name, steps=3, **own), once)
    recorded.seen.clear()
    run_attack(attack_spec(name, steps=3, restarts=2, **own), search)
    start = recorded.seen[1 + 2 * 3]
    radius = 0.5 * once.nearest.clamp(max=epsilon)
    assert 0 < int((once.nearest < epsilon).sum()) < len(images)
    assert torch.equal(recorded.seen[1], images)
    torch.testing.assert_close(search.ball.distance(start), radius, rtol=1e-4, atol=1e-7)
    directions = (start - images).flatten(1).sign()
    assert float((directions[0] == directions[1]).double().mean()) < 0.8


def test_every_target_and_restart_draws_its_own_start():
    images = torch.full((2, 3, 4, 4), 0.5)
    model = Recorded(Always())
    labels = torch.zeros(2, dtype=torch.long)
    spec = attack_spec("fab_t", steps=1, targets=3, restarts=3)
    attacked(spec, model, images, labels, linf("1/10"))
    looks = torch.stack(model.seen[1::2])[:9]  # of each run the look at its start
    assert len(looks.unique(dim=0)) == 1 + 3 * 2  # the clean one, and two random ones per target


class Wild(nn.Module):
    """Correct on grey images; not finite logits or slopes all around."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, images):
        shift = images.flatten(1).sub(0.5)
        total = shift.sum(1)
        if self.kind == "root":  # infinite slope at 0
            total = shift.abs().sqrt().sum(1)
        if self.kind == "logarithm":  # not a number where it is misclassified
            total = (total + 1e-3).log() + 7
        if self.kind == "steep":
            total = 1e38 * total
        if self.kind == "flat":
            total = 0 * total
        return torch.stack([torch.full_like(total, 1e-3), -total, total - 9], 1)


@pytest.mark.parametrize("name", ["fab", "fab_t", "deepfool"])
@pytest.mark.parametrize("kind", ["root", "logarithm", "steep", "flat"])
@THREATS
def test_no_candidate_is_ever_not_a_number_or_outside_the_box(threat, kind, name):
    images = torch.full((3, 1, 4, 4), 0.5)
    model = Recorded(Handle(Wild(kind), 3))
    labels = torch.zeros(3, dtype=torch.long)
    spec = attack_spec(name, steps=6)
    attacked(spec, model, images, labels, threat("1/1000"), drops_broken=False)
    seen = torch.cat(model.seen)
    assert bool(((seen >= 0) & (seen <= 1)).all())
    assert bool((seen == 0.5).all()) == (kind != "logarithm")  # no direction, or too short a step


@pytest.mark.parametrize(("classes", "per_step"), [(2, 1), (20, 19), (21, 4)])
def test_fab_differentiates_all_rivals_up_to_twenty_classes_and_then_the_best(classes, per_step):
    images = pictures(3, 1, 2, 2)
    spec = attack_spec("fab", steps=2, rivals=4)
    labels = torch.zeros(3, dtype=torch.long)
    search = attacked(spec, Always(classes), images, labels, linf("1/10"))
    assert search.backwards.tolist() == [2 * per_step] * 3
    assert search.forwards.tolist() == [5] * 3


def test_targets_are_the_best_wrong_classes_and_no_more_than_there_are():
    weight = torch.eye(4)
    model = Linear(weight, torch.tensor([0.9, 0.0, 0.4, 0.2]))
    images, seen = torch.full((1, 1, 2, 2), 0.5), []

    class Watched(Logits):
        def __call__(self, candidates, points, loss):
            seen.append(points.targets.tolist())  # of the runs that share the pass
            return super().__call__(candidates, points, loss)

    labels = torch.tensor([0])
    for targets, expected in ((2, [2, 3]), (9, [2, 3, 1])):
        seen.clear()
        search = search_on(model, images, labels, linf("1/1000"), surface=Watched(model))
        run_attack(attack_spec("fab_t", steps=1, targets=targets), search)
        assert seen == [expected, expected]


def test_the_standard_setting_costs_two_forwards_and_one_backward_per_iteration():
    assert most_passes(attack_spec("fab_t")) == (1801, 900)
    assert most_passes(attack_spec("fab_t", targets=50)) == (1801, 900)
    assert most_passes(attack_spec("fab")) == (201, 900)


def gate_model():
    return PixelGate([[2, 1, 0.5, 1], [1, 2, 1, 0.3], [0.2, 0.7, 1, 2]], [0.0, 0.1, -0.1])


SEVERAL = [
    Logits,
    lambda model: Auxiliary(model, 0),
    Sum,
    Smallest,
    LogSoftmaxMean,
    Gate,
    StraightThrough,
    lambda model: Weighted(model, (1.0, 0.5)),
    lambda model: Repeated(Sum(model), 3),
]


@pytest.mark.parametrize("make", SEVERAL)
def test_slopes_of_several_classes_are_those_of_each_class_in_one_pass(make):
    model = gate_model()
    images, labels = pictures(6, 1, 2, 2), torch.tensor([0, 1, 2] * 2)
    targets = torch.tensor([[1, 2], [0, 2], [0, 1]] * 2)
    everyone = torch.arange(6)
    search = search_on(model, images, labels, linf("1/10"), surface=make(model))
    together = search.slopes(everyone, images, targets)
    assert search.forwards.tolist() == [len(model.selects)] * 6
    assert search.backwards.tolist() == [2 * search.surface.backwards] * 6
    for number in range(2):
        alone = search.slopes(everyone, images, targets[:, number : number + 1])
        torch.testing.assert_close(alone.differences[:, 0], together.differences[:, number])
        torch.testing.assert_close(alone.gradients[:, 0], together.gradients[:, number])


def test_the_two_phase_surface_chooses_its_phase_per_image_for_several_classes():
    model = gate_model()
    images, labels = pictures(30, 1, 2, 2), torch.zeros(30, dtype=torch.long)
    targets = torch.tensor([[1, 2]]).expand(30, 2)
    outputs = model(images)
    flipped = outputs.auxiliary[0].argmax(1) != 0
    assert flipped.any()
    assert not flipped.all()
    search = search_on(model, images, labels, linf("1/10"), surface=TwoPhase(model))
    found = search.slopes(torch.arange(30), images, targets).differences
    view = torch.where(flipped[:, None], outputs.logits, outputs.auxiliary[0])
    torch.testing.assert_close(found, view[:, 1:] - view[:, :1])


def test_a_surface_without_logits_is_refused_in_words():
    model = Always(3)
    loss = TrainingLoss(lambda candidate, points: candidate.flatten(1).sum(1), 1)
    images, labels = pictures(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    search = search_on(model, images, labels, linf("1/10"), surface=Training(model, loss))
    with pytest.raises(HarnessError, match=r"every class.*Training"):
        run_attack(attack_spec("fab", steps=1), search)


class Mirror:
    """Auxiliary logits that flip where the deployed ones do not."""

    def __call__(self, images, *, select=None):
        total = images.flatten(1).sum(1)
        deployed = torch.stack([total * 0 + 1, total * 0], 1)
        return Outputs(deployed, (torch.stack([total * 0, total - 2.1], 1),))


def test_a_flip_of_an_auxiliary_head_alone_breaks_nothing():
    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    search = search_on(Mirror(), images, labels, linf("1/2"), surface=Auxiliary(Mirror(), 0))
    run_attack(attack_spec("fab", steps=4), search)
    assert not search.broken.any()
    assert bool(torch.isinf(search.nearest).all())
    assert bool((search.loss_best > 0).all())
