"""MIM: the running sum of normalised gradients."""

import pytest
import torch
from attacked_models import Always, Linear, attacked, l2, linf, pictures, small_convolution

from harness.attacks.attack import attack_spec
from harness.attacks.mim import accumulated
from harness.evaluation.handle import Handle
from harness.outputs import Outputs


def column(*values):
    return torch.tensor(values).reshape(1, 1, 1, -1)


def test_the_sum_has_the_values_worked_out_by_hand():
    first = accumulated(column(0.0, 0.0), column(3.0, -1.0), 1.0)
    assert first.flatten().tolist() == [0.75, -0.25]
    second = accumulated(first, column(-1.0, -1.0), 1.0)
    assert second.flatten().tolist() == [0.25, -0.75]
    assert second.sign().flatten().tolist() == [1.0, -1.0]
    halved = accumulated(first, column(-1.0, -1.0), 0.5)
    assert halved.flatten().tolist() == [-0.125, -0.625]


def test_a_zero_gradient_adds_zero_and_the_sum_goes_on():
    before = column(0.75, -0.25)
    assert torch.equal(accumulated(before, column(0.0, 0.0), 1.0), before)
    assert not accumulated(column(0.0, 0.0), column(0.0, 0.0), 1.0).any()


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1.0, 1e20, 1e38])
def test_gradients_of_any_size_count_the_same(scale):
    gradient = column(2.0, -1.0, 1.0) * scale
    found = accumulated(torch.zeros_like(gradient), gradient, 1.0)
    assert found.flatten().tolist() == pytest.approx([0.5, -0.25, 0.25], rel=1e-4)


def test_images_do_not_share_their_norms():
    gradients = torch.cat([column(3.0, -1.0), column(0.0, 0.0), column(1.0, 1.0)])
    together = accumulated(torch.zeros_like(gradients), gradients, 1.0)
    alone = [accumulated(torch.zeros_like(g[None]), g[None], 1.0) for g in gradients]
    assert torch.equal(together, torch.cat(alone))


class Turning:
    """Class 0 always; at its first look the margin's gradient is (3, -1), then (-1, -1)."""

    def __init__(self):
        self.seen = []

    def __call__(self, images, *, select=None):
        self.seen.append(images.detach().clone())
        weight = torch.tensor([3.0, -1.0] if len(self.seen) <= 2 else [-1.0, -1.0])
        rival = images.flatten(1) @ weight
        return Outputs(torch.stack([0 * rival, rival - 99], 1))


@pytest.mark.parametrize(
    ("threat", "moved"),
    [
        (linf("1/10"), ([0.02, -0.02], [0.04, -0.04])),
        (l2("1/10"), ([0.02 * 0.9486833, -0.02 * 0.3162278], [0.0252982, -0.0252982])),
    ],
    ids=str,
)
def test_steps_go_along_the_sum_by_sign_or_by_its_euclidean_direction(threat, moved):
    model = Turning()
    spec = attack_spec("mim", steps=2, relative_step=0.2, loss="margin")
    attacked(spec, model, column(0.5, 0.5), torch.tensor([0]), threat)
    for number, expected in enumerate(moved):  # looks: clean, clean again, two steps
        step = (model.seen[2 + number] - 0.5).flatten().tolist()
        assert step == pytest.approx(expected, abs=1e-6)


def test_without_momentum_it_is_bim_to_the_bit():
    model, images = Handle(small_convolution(), 10), pictures(20, 3, 8, 8)
    labels = model(images).logits.argmax(1)
    found = [
        attacked(spec, model, images, labels, linf("3/255")).adversarial
        for spec in (
            attack_spec("mim", steps=6, momentum=0.0),
            attack_spec("bim", steps=6),
            attack_spec("mim", steps=6),
        )
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("threat", [linf("1/10"), l2("1/10")], ids=str)
def test_a_model_without_slope_is_left_at_the_clean_image(threat):
    images = pictures(3, 3, 4, 4)
    search = attacked("mim", Always(), images, torch.zeros(3, dtype=torch.long), threat)
    torch.testing.assert_close(search.last, images)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mim_and_bim_match_the_closed_form_on_a_linear_model(seed):
    generator = torch.Generator().manual_seed(seed)
    images = 0.4 + 0.2 * pictures(60, 1, 6, 6, seed=seed)
    weight = torch.randn(2, 36, generator=generator)
    model = Linear(weight, -(images.flatten(1) @ weight.T).mean(0))
    logits = model(images).logits
    labels = logits.argmax(1)
    distance = (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).abs().sum()
    ordered = distance.sort().values
    epsilon = float(ordered[29] + ordered[30]) / 2
    for name in ("mim", "bim"):
        broken = attacked(attack_spec(name), model, images, labels, linf(str(epsilon))).broken
        assert torch.equal(broken, distance < epsilon)
