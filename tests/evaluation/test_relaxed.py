"""Opened models: the same bits forward, the gradient of a stand-in backward."""

import foreign_models as foreign
import pytest
import torch
from foreign_models import Around, pictures, with_features
from torch import nn
from torch.nn import functional

from harness.attacks.losses import LOSSES
from harness.attacks.surface_text import surface_named
from harness.attacks.surfaces import Points
from harness.errors import ModelError
from harness.evaluation.handle import Handle
from harness.evaluation.recording import record
from harness.evaluation.relaxed import Relaxed, Soften
from harness.evaluation.third_party import opened, probe
from harness.models.network import gate_rows
from harness.outputs import Outputs, SoftSelect

TEMPERATURES = [0.1, 1.0]


def softened(answer, images, temperature=1.0, *, opens=True):
    """Gradient of the sum of weighted outputs with every hard operation softened."""
    images = images.clone().requires_grad_()
    with Soften(len(images), temperature, None, opens=opens):
        found = answer(images)
    with torch.no_grad():
        assert torch.equal(found, answer(images.detach()))
    return gradient_of(found, images)


def gradient_of(found, images):
    weights = torch.linspace(-1, 2, found.numel()).view(found.shape)
    (gradient,) = torch.autograd.grad((found * weights).sum(), images)
    return gradient


def plain_gradient(answer, images):
    images = images.clone().requires_grad_()
    return gradient_of(answer(images), images)


VECTORS = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("hard", ["round", "floor", "ceil", "trunc", "round_", "floor_"])
def test_a_rounding_gets_the_gradient_of_doing_nothing(hard):
    found = softened(lambda x: getattr(x * 3, hard)() * x, VECTORS)
    weights = torch.linspace(-1, 2, VECTORS.numel()).view(VECTORS.shape)
    rounded = getattr(VECTORS * 3, hard.strip("_"))()
    torch.testing.assert_close(found, weights * (rounded + 3 * VECTORS))


def test_a_sign_gets_the_clipped_identity():
    found = softened(torch.sign, VECTORS)
    torch.testing.assert_close(found, plain_gradient(lambda x: x.clamp(-1, 1), VECTORS))
    assert 0 < int((found == 0).sum()) < VECTORS.numel()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    "masked",
    [
        lambda x: x * (x > 0.3),
        lambda x: x * (x > 0.3).float(),
        lambda x: torch.where(x > 0.3, x, torch.zeros(())),
        lambda x: x.masked_fill(~(x > 0.3), 0.0),
        lambda x: x.mul(1.0).mul_(x > 0.3),
        lambda x: x * (1 - (x <= 0.3).float()),
        lambda x: x * ((x > 0.3) & (x > -9e9)).to(x.dtype),
    ],
)
def test_every_way_to_write_a_mask_gets_the_same_soft_mask(masked, temperature):
    found = softened(masked, VECTORS, temperature)
    hard = (VECTORS > 0.3).float()

    def closed(x):
        soft = torch.sigmoid((x - 0.3) / temperature)
        return x.detach() * soft + x * hard  # the product rule at the hard values

    torch.testing.assert_close(found, plain_gradient(closed, VECTORS))


def test_a_mask_that_is_written_into_an_array_gets_the_soft_mask_too():
    def masked(x):
        copy = x * 1.0
        copy[x < 0.3] = 0.0
        return copy

    def closed(x):
        return x * (x >= 0.3).float() + x.detach() * (1 - torch.sigmoid(0.3 - x))

    torch.testing.assert_close(softened(masked, VECTORS), plain_gradient(closed, VECTORS))


@pytest.mark.parametrize("masked", [lambda x: (x != 0.3).float(), lambda x: 1 - (x == 0.3).float()])
def test_an_equality_gets_the_exponential_of_the_distance(masked):
    wanted = plain_gradient(lambda x: 1 - torch.exp(-(x - 0.3).abs() / 0.5), VECTORS)
    torch.testing.assert_close(softened(masked, VECTORS, 0.5), wanted)


ROWS = torch.randn(7, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    "chosen",
    [
        lambda x: ROWS[x.argmax(1)],
        lambda x: ROWS[x.max(dim=1).indices],
        lambda x: ROWS[x.topk(1, dim=1)[1][:, 0]],
        lambda x: ROWS[x.sort(dim=1, descending=True)[1]][:, 0],
        lambda x: ROWS[(-x).argmin(1)],
        lambda x: ROWS.index_select(0, x.argmax(dim=-1)),
        lambda x: functional.embedding(x.argmax(1), ROWS),
        lambda x: functional.one_hot(x.argmax(1), 7).float() @ ROWS,
        lambda x: (torch.arange(7) == x.argmax(1)[:, None]).float() @ ROWS,
        lambda x: torch.zeros(5, 7).scatter_(1, x.argmax(1, keepdim=True), 1.0) @ ROWS,
        lambda x: torch.gather(ROWS.T.expand(5, 4, 7), 2, x.argmax(1)[:, None, None].expand(
            5, 4, 1))[:, :, 0],
        lambda x: torch.stack([ROWS[one] for one in x.argmax(1)]),
        lambda x: ROWS.expand(5, 7, 4)[torch.arange(5), x.argmax(1)],
        lambda x: ROWS.T[:, x.argmax(1)].T,
    ],
)  # fmt: skip
def test_every_way_to_use_an_argmax_gets_the_softmax_over_the_classes(chosen, temperature):
    """The closed form is `gate_rows`, our own gate's straight-through."""
    found = softened(chosen, VECTORS, temperature)
    wanted = plain_gradient(lambda x: gate_rows(x, ROWS, SoftSelect(temperature)), VECTORS)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted)


def test_a_scattered_top_k_gets_the_sum_of_its_soft_places():
    def closed(x):
        soft = torch.zeros(5, 7)
        for place in range(2):
            chosen = x.topk(2, dim=1).values[:, place : place + 1]
            soft = soft + torch.softmax(-(x - chosen).abs(), dim=1)
        return soft

    found = softened(lambda x: torch.zeros(5, 7).scatter(1, x.topk(2, dim=1)[1], 1.0), VECTORS)
    torch.testing.assert_close(found, plain_gradient(closed, VECTORS))


def test_values_scattered_over_others_replace_them_by_their_odds():
    ground = torch.linspace(1, 2, 35).view(5, 7)

    def closed(x):
        soft = torch.softmax(x / 0.5, dim=1)
        return ground * (1 - soft) + 3 * soft

    found = softened(lambda x: ground.scatter(1, x.argmax(1, keepdim=True), 3.0), VECTORS, 0.5)
    torch.testing.assert_close(found, plain_gradient(closed, VECTORS))


@pytest.mark.parametrize(
    "outside",
    [
        lambda x: torch.from_numpy((x * 255).detach().numpy().round()) / 255,
        lambda x: torch.tensor((x * 255).detach().cpu().tolist()).round() / 255,
        lambda x: (x * 255).to(torch.uint8).float() / 255,
        lambda x: (x * 255).byte().div(255),
        lambda x: torch.from_numpy((x * 255).byte().numpy()).float() / 255,
        lambda x: (x.detach() * 255 // 1) / 255,
        lambda x: torch.no_grad()(lambda y: (y * 255).round_())(x) / 255,
        lambda x: x.data * 1.0,
    ],
)
def test_what_leaves_the_graph_comes_back_as_the_identity(outside):
    images = pictures(2)
    found = softened(lambda x: outside(x) * 3, images)
    torch.testing.assert_close(found, plain_gradient(lambda x: x * 3, images))


def test_infinite_and_signed_zero_values_stay_as_they_are():
    values = torch.tensor([[float("inf"), -0.2, 0.4, -float("inf")]]).requires_grad_()
    with Soften(1, 1.0, None, opens=True):
        found = values.round()
    assert found.tolist() == [[float("inf"), 0.0, 0.0, -float("inf")]]
    assert torch.signbit(found).tolist() == [[False, True, False, True]]


MODELS = {
    "gated": with_features(foreign.gated),
    "k_winners": with_features(foreign.k_winners),
    "scattered": with_features(foreign.k_winners_scattered),
    "quantised": Around(foreign.quantised),
    "signed": with_features(foreign.signed),
    "numpy": Around(foreign.through_numpy),
    "bytes": Around(foreign.through_bytes),
    "threshold": with_features(foreign.thresholded),
    "inner": Around(foreign.inner_step),
    "probabilities": Around(lambda self, images: self.net(images).softmax(1)),
}


def handle_of(model):
    capabilities = probe(model, pictures(), 10)
    return Handle(opened(model, capabilities), 10, has_gate=True), capabilities


@pytest.mark.parametrize("name", list(MODELS))
def test_an_opened_model_decides_bit_by_bit_as_it_did(name):
    handle, capabilities = handle_of(MODELS[name])
    assert capabilities.needs_adaptive
    images = pictures(16)
    with torch.no_grad():
        plain = MODELS[name](images)
        assert torch.equal(handle(images).logits, plain)
    for select in (None, SoftSelect(0.1), SoftSelect(1.0)):
        found = handle(images.clone().requires_grad_(), select=select)
        assert torch.equal(found.logits.detach(), plain)
        assert len(found.auxiliary) == capabilities.auxiliary


@pytest.mark.parametrize("name", ["quantised", "numpy", "bytes"])
def test_a_shattered_input_gets_a_gradient_again(name):
    handle, capabilities = handle_of(MODELS[name])
    images, labels = pictures(3), torch.tensor([1, 2, 3])
    straight_through = surface_named("straight_through(1)", handle, capabilities)
    value, deployed = straight_through(
        images.requires_grad_(), Points(images, labels), LOSSES["ce"]
    )
    (gradient,) = torch.autograd.grad(value.sum(), images)
    assert gradient.abs().flatten(1).amax(1).min() > 0
    assert torch.equal(deployed, handle(images).logits)


def test_the_hidden_gate_is_a_head_with_the_scores_and_their_gradient():
    handle, capabilities = handle_of(MODELS["gated"])
    assert (capabilities.auxiliary, capabilities.select) == (1, True)
    images, model = pictures(3).requires_grad_(), MODELS["gated"]
    head = handle(images).auxiliary[0]
    scores = model.net(images).relu() @ model.weight.T
    torch.testing.assert_close(head, scores)
    torch.testing.assert_close(gradient_of(head, images), gradient_of(scores, images))


def test_a_model_that_differentiates_inside_can_still_do_so_when_softened():
    def purified(self, images):
        with torch.enable_grad():
            start = images.detach()
            start.requires_grad_()
            self.net(start).logsumexp(1).sum().backward()
        return self.net((images - 0.1 * start.grad).mul(15).round().div(15))

    handle, capabilities = handle_of(Around(purified))
    assert "inference_gradient" in capabilities.signs
    images = pictures(2).requires_grad_()
    found = gradient_of(handle(images, select=SoftSelect(1.0)).logits, images)
    assert found.abs().flatten(1).amax(1).min() > 0


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_straight_through_gradient_of_a_hidden_gate_is_the_closed_form(temperature):
    handle, _ = handle_of(MODELS["gated"])
    model, images = MODELS["gated"], pictures(3).requires_grad_()
    found = handle(images, select=SoftSelect(temperature)).logits
    features = model.net(images).relu()
    rows = gate_rows(features @ model.weight.T, model.weight, SoftSelect(temperature))
    wanted = gradient_of((rows * features) @ model.weight.T, images)
    torch.testing.assert_close(gradient_of(found, images), wanted)
    hard = gradient_of(handle(images).logits, images)
    assert not torch.allclose(hard, wanted, rtol=1e-3)


def test_labels_force_the_hidden_gate():
    handle, _ = handle_of(MODELS["gated"])
    model, images, labels = MODELS["gated"], pictures(4), torch.tensor([3, 0, 9, 4])
    with torch.no_grad():
        features = model.net(images).relu()
        wanted = (model.weight[labels] * features) @ model.weight.T
        torch.testing.assert_close(handle(images, select=labels).logits, wanted)
        own = handle(images).auxiliary[0].argmax(1)
        assert torch.equal(handle(images, select=own).logits, handle(images).logits)


def test_scores_that_were_computed_without_gradients_are_heads_with_gradients():
    def choose(self, images):
        with torch.no_grad():
            scores = self.other(images)
        return (self.weight[scores.argmax(1)] * self.net(images)) @ self.weight.T

    model = with_features(choose)
    handle, capabilities = handle_of(model)
    images = pictures(3).requires_grad_()
    assert (capabilities.auxiliary, capabilities.select) == (1, True)
    found = gradient_of(handle(images).auxiliary[0], images)
    torch.testing.assert_close(found, gradient_of(model.other(images), images))


def test_probabilities_give_their_logits_as_a_head():
    handle, _ = handle_of(MODELS["probabilities"])
    images = pictures(3)
    with torch.no_grad():
        torch.testing.assert_close(handle(images).auxiliary[0], MODELS["probabilities"].net(images))


def test_distances_count_with_the_other_sign():
    def nearest(self, images):
        distances = torch.cdist(self.net(images), self.weight)
        return self.weight[distances.argmin(1)] @ self.weight.T

    model = with_features(nearest)
    handle, capabilities = handle_of(model)
    images = pictures(16)
    assert (capabilities.hard, capabilities.auxiliary) == (("argmin",), 1)
    with torch.no_grad():
        head = handle(images).auxiliary[0]
        assert torch.equal(head, -torch.cdist(model.net(images), model.weight))


def test_a_pass_that_reads_other_heads_than_when_it_was_added_is_refused():
    model = Relaxed(MODELS["gated"], 2)
    with pytest.raises(ModelError, match="read 1 hidden heads but 2 when it was added"):
        Handle(model, 10, has_gate=True)(pictures(2))


def test_a_model_that_exposes_its_heads_is_left_alone_and_only_gains_signs():
    class Native(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = MODELS["gated"]

        def forward(self, images):
            features = self.inner.net(functional.interpolate(images, 12)).relu()
            scores = features @ self.inner.weight.T
            gate = self.inner.weight[scores.argmax(1)]
            return Outputs((gate * features) @ self.inner.weight.T, (scores,))

    native = Native()
    capabilities = probe(native, pictures(), 10)
    assert (capabilities.auxiliary, capabilities.hard, capabilities.select) == (1, (), False)
    assert capabilities.signs == ("input_transformation",)
    assert opened(native, capabilities) is native


def test_a_plain_model_is_not_wrapped():
    model = foreign.plain()
    assert opened(model, probe(model, pictures(), 10)) is model


@pytest.mark.parametrize(
    "answer",
    [
        lambda self, x: torch.no_grad()(self.net)(x),
        lambda self, x: self.net(x.detach()),
        lambda self, x: functional.one_hot(self.net(x).argmax(1), 10).float(),
    ],
    ids=["no_grad", "detach", "one_hot"],
)
def test_logits_that_no_gradient_reaches_have_a_gradient_of_zero(answer):
    """Else the first attack on them would end the row before the softened ones ran."""
    module, images = Around(answer), pictures().requires_grad_()
    relaxed = opened(module, probe(module, pictures(), 10))
    assert isinstance(relaxed, Relaxed)
    found = relaxed(images).logits
    with torch.no_grad():
        assert torch.equal(found, module(images))
    assert (gradient_of(found, images) == 0).all()
    softened = relaxed(images, select=SoftSelect(1.0)).logits
    assert (gradient_of(softened, images) != 0).any()


def test_softening_leaves_no_trace_after_the_pass():
    model = MODELS["gated"]
    images = pictures(3).requires_grad_()
    before = gradient_of(model(images), images)
    handle_of(model)[0](images, select=SoftSelect(1.0))
    assert torch.equal(gradient_of(model(images), images), before)
    assert record(model, pictures()).heads == 1
