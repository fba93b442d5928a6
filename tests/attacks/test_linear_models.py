"""Linear models, where the exact answer is known: epsilon times the dual norm of the weights."""

import pytest
import torch
from attacked_models import Linear, attacked, l2, linf, pictures

from harness.attacks.attack import attack_spec
from harness.outputs import Outputs

COUNT = 60
SIDE = 6


def problem(classes, seed=0, channels=2):
    """A linear model and images far from the box's faces, labelled as the model decides."""
    images = 0.4 + 0.2 * pictures(COUNT, channels, SIDE, SIDE, seed=seed)
    generator = torch.Generator().manual_seed(seed + 100)
    weight = torch.randn(classes, channels * SIDE**2, generator=generator)
    bias = -(images.flatten(1) @ weight.T).mean(0)
    model = Linear(weight, bias)
    return model, images, model(images).logits.argmax(1)


def distances(model, images, labels, norm):
    """[N] float64: how far each image is from its nearest wrong decision."""
    weight, bias = model.weight.double(), model.bias.double()
    logits = images.double().flatten(1) @ weight.T + bias
    margins = logits.gather(1, labels[:, None]) - logits
    dual = (weight[labels][:, None] - weight[None]).norm(p=1 if norm == "linf" else 2, dim=2)
    return (margins / dual).masked_fill(margins == 0, torch.inf).amin(1)


def epsilons(distance):
    """Two epsilons that lie well between two images' distances."""
    ordered = distance.sort().values
    for share in (0.3, 0.7):
        start = int(share * COUNT)
        gaps = ordered[start + 1 : start + 8] - ordered[start : start + 7]
        place = start + int(gaps.argmax())
        yield (ordered[place] + ordered[place + 1]) / 2


EXACT = [
    (2, attack_spec("fgsm")),
    (2, attack_spec("fgsm", loss="margin")),
    (2, attack_spec("pgd")),
    (2, attack_spec("pgd", random_start=False, loss="margin")),
    (2, attack_spec("apgd_ce", steps=30)),
    (2, attack_spec("apgd_ce", steps=30, loss="margin")),
    (3, attack_spec("apgd_dlr", steps=50)),
    (4, attack_spec("apgd_t", steps=30)),
    (10, attack_spec("apgd_t", steps=30)),
]


@pytest.mark.parametrize("threat", [linf, l2])
@pytest.mark.parametrize(("classes", "spec"), EXACT, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_attacks_break_exactly_the_images_nearer_than_epsilon(classes, spec, threat, seed):
    model, images, labels = problem(classes, seed)
    norm = threat("1").norm
    distance = distances(model, images, labels, norm)
    for epsilon in epsilons(distance):
        assert norm == "l2" or float(epsilon) < 0.4, "the box must stay inactive"
        search = attacked(spec, model, images, labels, threat(str(float(epsilon))))
        assert torch.equal(search.broken, distance < epsilon)


@pytest.mark.parametrize("threat", [linf, l2])
@pytest.mark.parametrize("spec", [attack_spec("pgd"), attack_spec("apgd_ce", steps=20)], ids=str)
def test_no_attack_breaks_what_the_dual_norm_proves_standing(threat, spec):
    model, images, labels = problem(10)
    distance = distances(model, images, labels, threat("1").norm)
    for epsilon in epsilons(distance):
        broken = attacked(spec, model, images, labels, threat(str(float(epsilon)))).broken
        assert not broken[distance > epsilon].any()
        assert int(broken.sum()) >= 0.75 * int((distance < epsilon).sum())  # CE climbs all rivals


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_square_comes_close_within_its_budget_and_never_below(seed):
    model, images, labels = problem(2, seed, channels=1)
    distance = distances(model, images, labels, "linf")
    for epsilon in epsilons(distance):
        spec = attack_spec("square", queries=2000)
        broken = attacked(spec, model, images, labels, linf(str(float(epsilon)))).broken
        assert not broken[distance > epsilon].any()
        assert broken[distance < 0.95 * epsilon].all()


@pytest.mark.parametrize(("threat", "step"), [(linf("1/100"), 0.01), (l2("1/100"), None)], ids=str)
def test_the_loss_gained_is_epsilon_times_the_dual_norm(threat, step):
    model, images, labels = problem(2)
    rise = model.weight[1 - labels] - model.weight[labels]
    clean = (images.flatten(1) * rise).sum(1) + model.bias[1 - labels] - model.bias[labels]
    gained = 0.01 * rise.norm(p=1 if threat.norm == "linf" else 2, dim=1)
    for spec in (attack_spec("fgsm", loss="margin"), attack_spec("pgd", loss="margin")):
        search = attacked(spec, model, images, labels, threat, drops_broken=False)
        assert torch.allclose(search.loss_start, clean, atol=1e-4)
        assert torch.allclose(search.loss_best, clean + gained, atol=1e-4)


class Convex:
    """Class 1 when a positive sum of ReLUs passes a threshold."""

    def __init__(self, inner, outer):
        self.inner, self.outer, self.threshold = inner, outer, 0.0

    def score(self, images):
        return torch.relu((images.flatten(1) - 0.5) @ self.inner.T) @ self.outer

    def __call__(self, images, *, select=None):
        score = self.score(images)
        return Outputs(torch.stack([torch.full_like(score, self.threshold), score], 1))


def test_a_relu_network_breaks_exactly_where_some_vertex_of_the_ball_does():
    """All 512 vertices of a nine-pixel ball: a convex score has its maximum at one of them."""
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * pictures(80, 1, 3, 3)
    model = Convex(torch.randn(6, 9, generator=generator), torch.rand(6, generator=generator))
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 9).reshape(512, 1, 3, 3)
    best = torch.stack([model.score(image + 0.1 * signs).max() for image in images])
    model.threshold = float(best.median())
    assert not model(images).logits.argmax(1).any()
    labels = torch.zeros(len(images), dtype=torch.long)
    for spec in (
        attack_spec("apgd_ce", steps=20, restarts=20),
        attack_spec("square", queries=1500),
    ):
        broken = attacked(spec, model, images, labels, linf("1/10")).broken
        assert not broken[best < model.threshold - 1e-5].any()
        assert broken[best > model.threshold + 1e-3].all()
