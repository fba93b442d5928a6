"""Agreement with the reference: pyautoattack, which is fra31/auto-attack as a package.

Both sides get the same images and the same random starts, so that what is left to differ is the
search. Until the first look-back both must walk the same path. After it, three repairs of ours
(`_examine`) and dropping of broken images let paths part, so outcomes agree on nearly all images
and neither side may be clearly stronger. With `parity` nothing may differ at all: the second half
of this file compares point by point and image by image.
"""

import logging

import pytest
import torch
from attacked_models import attacked, l2, linf, pictures, search_on
from sklearn.datasets import load_digits
from torch import nn

from harness.attacks.attack import attack_spec
from harness.attacks.geometry import Ball
from harness.attacks.losses import LOSSES
from harness.attacks.parity import _fab_step, reference_fab_t, reference_square
from harness.attacks.search import Slopes
from harness.evaluation.handle import Handle
from harness.verification import check_inside

COUNT = 32


def curved():
    """Large random weights and smooth activations: a loss with curvature and local maxima."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(c, 16, 3, stride=2, padding=1) for c in (3, 16, 16)]
    body = [part for layer in layers for part in (layer, nn.SiLU())]
    module = nn.Sequential(*body, nn.Flatten(), nn.Linear(256, 10)).eval()
    with torch.no_grad():
        for layer in (*layers, module[-1]):
            layer.weight *= 6
        module[-1].bias -= module(pictures(256, 3, 32, 32, seed=99)).mean(0)
    return module


NET = curved()


def problem():
    images = pictures(COUNT, 3, 32, 32)
    with torch.no_grad():
        return images, NET(images).argmax(1)


def starts(images, labels, threat):
    """The points from which our first restart starts, by the same streams."""
    search = search_on(Handle(NET, 10), images, labels, threat)
    everyone = torch.arange(COUNT)
    shape = images.shape[1:]
    uniform = search.streams.uniform(everyone, shape, restart=0, purpose="start")
    return search.ball.surface_start(uniform)


def theirs(loss, threat, steps, model=None):
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        model or NET,
        n_iter=steps,
        eps=float(threat.epsilon),
        loss=loss,
        device=torch.device("cpu"),
        logger=logging.getLogger("reference"),
    )
    attack.norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    images, labels = problem()
    attack.init_hyperparam(images)
    start = starts(images, labels, threat)
    best, is_right, best_loss, _ = attack.attack_single_run(images, labels, x_init=start)
    assert (best - images).abs().max() <= float(threat.epsilon) + 1e-6
    return ~is_right, best_loss


@pytest.mark.parametrize("epsilon", ["1/1000", "1/400"])
@pytest.mark.parametrize(("loss", "name"), [("ce", "apgd_ce"), ("dlr", "apgd_dlr")])
def test_auto_pgd_breaks_what_the_reference_breaks(loss, name, epsilon):
    images, labels = problem()
    threat = linf(epsilon)
    broken, best_loss = theirs(loss, threat, steps=30)
    assert 4 <= int(broken.sum()) <= COUNT - 4, "the comparison must not be trivial"
    search = attacked(
        attack_spec(name, steps=30), Handle(NET, 10), images, labels, threat, drops_broken=False
    )
    # one of 32 may fall on the other side: paths part after the first look-back
    assert int((search.broken ^ broken).sum()) <= 1
    assert int(search.broken.sum()) >= int(broken.sum()) - 1
    standing = ~search.broken & ~broken  # the ratio has no upper bound on broken images
    torch.testing.assert_close(
        search.loss_best[standing], best_loss[standing], rtol=0.02, atol=0.02
    )


class Recorded(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return NET(images)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_auto_pgd_walks_the_path_of_the_reference_until_the_first_look_back(loss):
    images, labels = problem()
    threat, first_check = linf("1/400"), 11  # 22 % of 50 steps
    ours, reference = Recorded(), Recorded()
    theirs(loss, threat, steps=50, model=reference)
    spec = attack_spec(f"apgd_{loss}", steps=50)
    attacked(spec, Handle(ours, 10), images, labels, threat, drops_broken=False)
    assert torch.equal(ours.seen[0], images)
    for step in range(first_check + 1):
        difference = (ours.seen[1 + step] - reference.seen[step]).abs()
        # rounding turns the sign of a gradient that is nearly 0 and never of one that counts
        assert float((difference > 1e-6).double().mean()) < 0.002, step


def test_the_whole_reference_ensemble_finds_no_more_than_our_standard_attacks():
    from pyautoattack import AutoAttack

    images, labels = problem()
    threat = linf("1/400")
    reference = AutoAttack(
        NET,
        norm="Linf",
        eps=float(threat.epsilon),
        seed=0,
        version="custom",
        attacks=["apgd-ce", "apgd-t", "fab-t", "square"],
    )
    reference.apgd.n_restarts = 1
    reference.apgd.n_iter = reference.apgd_targeted.n_iter = reference.fab.n_iter = 20
    reference.fab.n_target_classes = reference.apgd_targeted.n_target_classes = 9
    reference.square.n_queries = 100
    adversarial, _ = reference.run_standard_evaluation(images, labels, batch_size=COUNT)
    with torch.no_grad():
        broken = NET(adversarial).argmax(1) != labels
    union = torch.zeros(COUNT, dtype=torch.bool)
    for spec in (
        attack_spec("apgd_ce", steps=20),
        attack_spec("apgd_t", steps=20),
        attack_spec("square", queries=100),
    ):
        union |= attacked(spec, Handle(NET, 10), images, labels, threat).broken
    assert 4 <= int(broken.sum()) <= COUNT - 4
    assert int((broken & ~union).sum()) <= 1
    assert int(union.sum()) >= int(broken.sum()) - 1


@pytest.mark.parametrize("threat", [linf("1/400"), l2("1/8")], ids=str)
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_with_parity_every_point_of_auto_pgd_is_the_reference_s_to_the_bit(loss, threat):
    from pyautoattack.autopgd_base import APGDAttack

    images, labels = problem()
    ours, reference = Recorded(), Recorded()
    attack = APGDAttack(
        reference,
        n_iter=50,
        eps=float(threat.epsilon),
        norm={"linf": "Linf", "l2": "L2"}[threat.norm],
        loss=loss,
        seed=7,
        device=torch.device("cpu"),
        logger=logging.getLogger("reference"),
    )
    attack.perturb(images, labels)
    spec = attack_spec(f"apgd_{loss}", steps=50, parity=True)
    search = attacked(spec, Handle(ours, 10), images, labels, threat, seed=7)
    assert search.broken.any()
    for step in range(1 + 1 + 50):  # the clean images, the start and every step
        assert torch.equal(ours.seen[step], reference.seen[step]), step


DIGITS = 80


@pytest.fixture(scope="module")
def trained():
    """A small network trained on digits, and test images of it; a few are misclassified."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    optimiser = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(4):
        for rows in torch.arange(1400).split(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(images[rows]), labels[rows]).backward()
            optimiser.step()
    module.eval().requires_grad_(False)
    return module, images[1400 : 1400 + DIGITS], labels[1400 : 1400 + DIGITS]


STEPS, QUERIES = 15, 100


def reference_broken(trained, threat, seed, attacks):
    """[N] bool of the package, with fewer iterations, all images as one batch."""
    from pyautoattack import AutoAttack

    module, images, labels = trained
    reference = AutoAttack(
        module,
        norm={"linf": "Linf", "l2": "L2"}[threat.norm],
        eps=float(threat.epsilon),
        seed=seed,
        version="custom",
        attacks=attacks,
    )
    for attack in (reference.apgd, reference.apgd_targeted):
        attack.n_restarts, attack.n_iter = 1, STEPS
        attack.n_iter_2, attack.n_iter_min, attack.size_decr = (
            max(int(share * STEPS), 1) for share in (0.22, 0.06, 0.03)
        )
    reference.fab.n_restarts, reference.fab.n_iter = 1, STEPS
    reference.square.n_queries = QUERIES
    adversarial, _ = reference.run_standard_evaluation(images, labels, batch_size=len(images))
    return module(adversarial).argmax(1) != labels


HALF = [linf("1/10"), l2("1/2")]


@pytest.mark.parametrize("threat", HALF, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_with_parity_every_image_has_the_outcome_of_the_reference(trained, threat, seed):
    module, images, labels = trained
    broken = reference_broken(trained, threat, seed, ["apgd-ce", "apgd-t", "fab-t", "square"])
    spec = attack_spec("autoattack", steps=STEPS, queries=QUERIES, parity=True)
    search = attacked(spec, Handle(module, 10), images, labels, threat, seed=seed)
    assert 0.3 < float(broken.double().mean()) < 0.7
    assert torch.equal(search.broken, broken)
    check_inside(images, search.adversarial, threat)
    assert torch.equal(module(search.adversarial).argmax(1) != labels, broken)


def replayed(name, trained, threat, seed):
    module, images, labels = trained
    search = search_on(Handle(module, 10), images, labels, threat, seed=seed)
    search.judge_clean(LOSSES["ce"])
    if name == "fab-t":
        reference_fab_t(search, STEPS, 9)
    else:
        reference_square(search, QUERIES)
    return search.broken


@pytest.mark.parametrize("threat", HALF, ids=str)
@pytest.mark.parametrize("name", ["fab-t", "square"])
def test_fab_and_square_alone_have_the_outcomes_of_the_reference(trained, threat, name):
    broken = reference_broken(trained, threat, 3, [name])
    assert torch.equal(replayed(name, trained, threat, 3), broken)
    if name == "square":  # the agreement is one of draws, not of images that break anyhow
        assert not torch.equal(replayed(name, trained, threat, 4), broken)


@pytest.mark.parametrize("threat", HALF, ids=str)
def test_fab_steps_to_the_points_of_the_reference(trained, threat):
    """Its way to the plane is exact, the reference's is rounded: near, not equal."""
    from pyautoattack.fab_pt import FABAttack_PT

    module, images, labels = trained
    chosen = module(images).argmax(1) == labels
    images, labels = images[chosen], labels[chosen]
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    walks = {"ours": [], "reference": []}

    def recorder(name, wrapped):
        def call(candidates, **_):
            if not torch.equal(candidates.detach(), images):
                walks[name].append(candidates.detach().clone())
            return wrapped(candidates)

        return call

    fab = FABAttack_PT(
        recorder("reference", module),
        norm=norm,
        n_iter=4,
        eps=float(threat.epsilon),
        targeted=True,
        n_target_classes=1,
        device=torch.device("cpu"),
    )
    fab.perturb(images, labels)
    search = search_on(recorder("ours", Handle(module, 10)), images, labels, threat)
    reference_fab_t(search, steps=4, targets=1)
    for ours, theirs in zip(walks["ours"][:7], walks["reference"][:7], strict=True):
        assert (ours - images).abs().max() > 0.05
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_fab_weighs_the_way_from_the_clean_image_by_a_tenth_at_most():
    """By hand: the plane at 0.7 is 0.1 away from here and 0.2 from the clean image."""
    point = torch.full((1, 1, 1, 1), 0.6)
    ball = Ball.around(point - 0.1, linf("1/2"))
    one, yes = torch.ones(1, 1, 1, 1, 1), torch.ones(1, dtype=torch.bool)
    found = _fab_step(ball, point, Slopes(torch.tensor([[-0.1]]), one, yes, ~yes))
    expected = 0.9 * (0.6 + 1.05 * 0.1) + 0.1 * (0.5 + 1.05 * 0.2)  # a third without the bound
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_without_parity_outcomes_differ_on_few_images_and_ours_is_no_weaker(trained):
    module, images, labels = trained
    threat = HALF[0]
    broken = reference_broken(trained, threat, 0, ["apgd-ce", "apgd-t", "fab-t", "square"])
    spec = attack_spec("autoattack", steps=STEPS, queries=QUERIES)
    search = attacked(spec, Handle(module, 10), images, labels, threat)
    assert int((search.broken ^ broken).sum()) <= 1
    assert int(search.broken.sum()) >= int(broken.sum()) - 1
