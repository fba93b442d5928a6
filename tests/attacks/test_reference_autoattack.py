"""Agreement with the reference: pyautoattack, which is fra31/auto-attack as a package.

Both sides get the same images and the same random starts, so that what is left to differ is the
search. Until the first look-back both must walk the same path. After it, three repairs of ours
(`_examine`) and dropping of broken images let paths part, so outcomes agree on nearly all images
and neither side may be clearly stronger.
"""

import logging

import pytest
import torch
from attacked_models import attacked, linf, pictures, search_on
from torch import nn

from harness.attacks.attack import attack_spec
from harness.evaluation.handle import Handle

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
