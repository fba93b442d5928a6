"""One recorded pass: what is hard or hidden is found, what is ordinary is not."""

import random

import foreign_models as foreign
import numpy as np
import pytest
import torch
from foreign_models import CLASSES, Around, Labelled, pictures, plain, with_features
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from harness.evaluation.recording import SIGNS, Recording, record, seeded
from harness.evaluation.relaxed import Relaxed
from harness.heads.linear import Linear
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network, Normalisation
from harness.outputs import SoftSelect

CLEAN = Recording()


def test_an_ordinary_convolutional_network_shows_nothing():
    assert record(plain(), pictures()) == CLEAN


SMALL = {"width": 1}


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_no_architecture_of_our_own_shows_anything(name):
    entry = ARCHITECTURES[name]
    settings = SMALL if "width" in entry.settings else {}
    trunk = entry.build((3, 16, 16), **settings)
    normalisation = Normalisation(torch.full((3,), 0.5), torch.full((3,), 0.2))
    network = Network(trunk, Linear().build(trunk.features, 10), None, normalisation)
    assert record(network, pictures(2, 16)) == CLEAN


class Public(nn.Module):
    """A residual network in the style of public CIFAR code, its normalisation inside."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.shortcut, self.linear = nn.Conv2d(4, 8, 1, 2, bias=False), nn.Linear(8, 10)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))

    def forward(self, x):
        assert x.min() >= 0
        if x.max() > 1:
            raise ValueError("pixels")
        out = (x - self.mean) / 0.25
        out = functional.relu(self.bn1(self.conv1(out)))
        out = functional.relu(self.bn2(self.conv2(out)) + self.shortcut(out))
        out = functional.avg_pool2d(out, 4)
        return self.linear(out.view(out.size(0), -1))


def relu_by_hand(self, images):
    features = self.net(images)
    return features.clamp(min=0) @ self.weight.T - features.abs().amax(1, keepdim=True)


def unused_choices(self, images):
    logits = self.net(images)
    self.seen = logits.argmax(1).tolist(), logits.detach().round().sum().item()
    return logits


@pytest.mark.parametrize(
    "model",
    [
        Public(),
        nn.Sequential(nn.Flatten(), nn.Linear(192, 10), nn.Tanh(), nn.Linear(10, 10)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm([4, 8, 8]), nn.GELU(), nn.Flatten(),
                      nn.Linear(256, 10)),
        nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)), nn.LeakyReLU(), nn.Flatten(),
                      weight_norm(nn.Linear(144, 10))),
        Around(unused_choices),
        with_features(relu_by_hand),
        nn.DataParallel(plain()),
    ],
    ids=["resnet", "mlp", "layer_norm", "weight_norm", "unused", "by_hand", "parallel"],
)  # fmt: skip
def test_other_ordinary_networks_show_nothing(model):
    found = record(model, pictures())
    if isinstance(model, Around) and model.answer is unused_choices:
        assert found.hard == ("argmax",)  # it left as Python integers, which cannot be followed
        return
    assert found == CLEAN


class Transformer(nn.Module):
    """Patches, a class token, positions by index, attention."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Embedding(5, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.layer(x + self.positions(torch.arange(5)))[:, 0])


def test_a_vision_transformer_shows_nothing():
    torch.manual_seed(0)
    assert record(Transformer(), pictures()) == CLEAN


FOUND = {
    "gate": (
        with_features(foreign.gated), Recording(("argmax",), 1, True, False, ("hidden_heads",))
    ),
    "quantiser": (
        Around(foreign.quantised), Recording(("round",), signs=("input_transformation",))
    ),
    "bytes": (
        Around(foreign.through_bytes), Recording(("integer_cast",), signs=("input_transformation",))
    ),
    "numpy": (
        Around(foreign.through_numpy),
        Recording(("detach", "numpy"), signs=("input_transformation",)),
    ),
    "sign": (with_features(foreign.signed), Recording(("sign",), signs=("several_networks",))),
    "k_winners": (with_features(foreign.k_winners), Recording(("topk", "ge"))),
    "scattered": (with_features(foreign.k_winners_scattered), Recording(("topk",))),
    "threshold": (with_features(foreign.thresholded), Recording(("gt",))),
    "probabilities": (
        Around(lambda self, images: self.net(images).softmax(1)),
        Recording((), 1, signs=("softmax_output", "hidden_heads")),
    ),
    "cosines": (with_features(foreign.cosines), Recording(signs=("bounded_logits",))),
    "tanh": (
        Around(lambda self, images: 5 * self.net(images).tanh()),
        Recording(signs=("bounded_logits",)),
    ),
    "two": (
        Around(lambda self, images: (self.net(images) + self.other(images)) / 2),
        Recording(signs=("several_networks",)),
    ),
    "noise": (
        Around(lambda self, images: self.net(images + 0.1 * torch.randn_like(images))),
        Recording(is_random=True),
    ),
    "coin": (
        Around(lambda self, images: random.choice((self.net, self.other))(images)),  # noqa: S311
        Recording(is_random=True),
    ),
    "numpy_noise": (
        Around(lambda self, images: self.net(images * float(np.random.rand()))),
        Recording(is_random=True),
    ),
    "dropout": (
        Around(lambda self, images: functional.dropout(self.net(images), 0.5, training=True)),
        Recording(is_random=True),
    ),
    "resize": (
        Around(lambda self, images: self.net(functional.interpolate(images, 12))),
        Recording(signs=("input_transformation",)),
    ),
    "blur": (
        Around(lambda self, images: self.net(
            functional.conv2d(images, torch.full((3, 1, 3, 3), 1 / 9), groups=3))),
        Recording(signs=("input_transformation",)),
    ),
    "nothing_or_not_a_number": (
        Around(lambda self, images: self.net(images) * random.choice((0.0, torch.nan))),  # noqa: S311
        Recording(is_random=True),
    ),
    "not_a_number": (Around(lambda self, images: self.net(images) * torch.nan), Recording()),
    "labels": (Labelled(), Recording(signs=("label_input",))),
    "no_grad": (
        Around(lambda self, images: torch.no_grad()(self.net)(images)), Recording(("no_grad",))
    ),
    "nearest": (
        with_features(lambda self, images: self.other(images) * functional.one_hot(
            torch.cdist(self.net(images), self.weight).argmin(1), 10)),
        Recording(("argmin", "one_hot"), 1, True, signs=("hidden_heads", "several_networks")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FOUND))
def test_what_standard_attacks_would_not_see_is_found(name):
    model, wanted = FOUND[name]
    found = record(model, pictures())
    if name in {"sign", "nearest"}:  # whether two bodies of it count depends on their widths
        wanted, found = (Recording(r.hard, r.heads, r.select, r.is_random) for r in (wanted, found))
    assert found == wanted


def test_a_gradient_inside_the_pass_is_found():
    for answer in (foreign.inner_step, with_backward):
        assert "inference_gradient" in record(Around(answer), pictures()).signs


def test_a_gradient_taken_only_where_gradients_are_on_is_found():
    def hides(self, images):
        if not torch.is_grad_enabled():
            return self.net(images)
        (slope,) = torch.autograd.grad(self.net(images).logsumexp(1).sum(), images)
        return self.net(images - 0.1 * slope)

    assert "inference_gradient" in record(Around(hides), pictures()).signs


def test_what_rounding_leaves_is_a_hard_operation_that_straight_through_opens():
    steps = {
        "remainder": lambda x: x - x % 0.1,
        "fmod": lambda x: x - torch.fmod(x, 0.1),
        "frac": lambda x: (x * 10 - (x * 10).frac()) / 10,
    }
    for name, step in steps.items():
        model = Around(lambda self, images, step=step: self.net(step(images)))
        found = record(model, pictures())
        assert (found.hard, found.signs) == ((name,), ("input_transformation",))
        images = pictures().requires_grad_()
        plain, soft = model.eval()(images), Relaxed(model, 0)(images, select=SoftSelect(1)).logits
        assert torch.equal(plain, soft)
        assert not torch.autograd.grad(plain.sum(), images)[0].any()
        assert torch.autograd.grad(soft.sum(), images)[0].any()


def in_numpy(self, images):
    features = self.net(images).relu()
    chosen = (features @ self.weight.T).detach().numpy().argmax(1)
    return (self.weight[torch.as_tensor(chosen)] * features) @ self.weight.T


def image_by_image(self, images):
    features = self.net(images).relu()
    scores = features @ self.weight.T
    rows = [self.weight[int(scores[i].argmax())] for i in range(len(images))]
    return (torch.stack(rows) * features) @ self.weight.T


@pytest.mark.parametrize(
    ("gate", "hard"), [(in_numpy, ("detach", "numpy")), (image_by_image, ("argmax",))]
)
def test_a_gate_chosen_outside_or_image_by_image_is_a_hidden_head(gate, hard):
    found = record(with_features(gate), pictures())
    assert (found.hard, found.heads, found.signs) == (hard, 1, ("hidden_heads",))


def test_numbers_that_only_leave_for_a_log_are_no_hard_operation():
    def logs(self, images):
        self.log = images.mean((2, 3)).numpy(force=True)
        return self.net(images) * torch.ones(CLASSES)

    assert record(Around(logs), pictures()) == CLEAN


def test_logits_of_one_length_are_bounded():
    def normalised(self, images):
        return functional.layer_norm(self.net(images), (CLASSES,))

    assert record(Around(normalised), pictures()).signs == ("bounded_logits",)


def with_backward(self, images):
    with torch.enable_grad():
        start = images.detach().clone().requires_grad_()
        self.net(start).logsumexp(1).sum().backward()
    return self.net(images - 0.1 * start.grad)


class _Shattered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


def test_a_gradient_that_was_replaced_is_found():
    model = Around(lambda self, images: self.net(_Shattered.apply(images)))
    assert "custom_gradient" in record(model, pictures()).signs


def test_composed_functions_are_looked_into():
    def trimmed(self, images):
        features = self.net(images)
        return (features - features.quantile(0.3, dim=1, keepdim=True)).relu() @ self.weight.T

    assert record(with_features(trimmed), pictures()).hard == ("ceil", "sort")


@pytest.mark.slow  # tracing imports the compiler
def test_compiled_code_is_looked_into():
    class Rounds(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.round(x * 4) / 4

    with pytest.warns(FutureWarning):  # torch says so of every traced module
        compiled = torch.jit.trace(Rounds(), pictures())
    assert record(Around(lambda self, x: self.net(compiled(x))), pictures()).hard == ("round",)


def test_a_detached_score_and_probabilities_are_traced_back_to_the_logits():
    def choose(self, images):
        scores = self.net(images)
        chosen = scores.detach().softmax(1).max(dim=1).indices
        return self.other(images) * functional.one_hot(chosen, 10)

    found = record(Around(choose), pictures())
    assert (found.heads, found.select) == (1, True)


def test_logits_that_are_read_twice_are_one_head_and_the_answer_is_none():
    def choose(self, images):
        scores = self.net(images)
        chosen = self.weight[scores.argmax(1)].sum(1) + self.weight[scores.topk(2)[1][:, 1]].sum(1)
        answer = self.other(images) + chosen[:, None]
        self.confidence = answer.max(1)
        return answer

    assert record(Around(choose), pictures()).heads == 1


def test_recording_leaves_generators_and_weights_as_they_were():
    model = FOUND["noise"][0]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    wanted = torch.rand(1), np.random.rand(), random.getrandbits(32)
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    record(model, pictures())
    assert (torch.rand(1), np.random.rand(), random.getrandbits(32)) == wanted
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_equal_seeds_repeat_every_global_generator():
    def drawn(seed):
        with seeded(seed):
            return torch.rand(1).item(), np.random.rand(), random.getrandbits(32)

    assert drawn(1) == drawn(1)
    assert all(one != other for one, other in zip(drawn(1), drawn(2), strict=True))


def test_every_sign_says_what_answers_it():
    assert all(len(text) > 20 for text in SIGNS.values())
