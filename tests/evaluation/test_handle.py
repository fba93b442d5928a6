"""The handle: frozen, padded, and every misbehaviour a model error with one word for the store."""

import pytest
import torch
from evaluated_subjects import convolution, reverse_attention_network
from torch import nn

from harness.catalogue import DEFENSES
from harness.defense import Build
from harness.errors import ModelError
from harness.evaluation.handle import PADDING, Handle, as_outputs, pad
from harness.evaluation.randomised import RandomHandle
from harness.heads.linear import Linear
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.models.prepared import folded, rough
from harness.outputs import Outputs, SoftSelect


class Answers(nn.Module):
    """Returns what a function makes of the images, and records what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.given, self.selects = answer, [], []

    def forward(self, images, *, select=None):
        self.given.append(images)
        self.selects.append(select)
        return self.answer(images)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_batches_are_padded_to_the_next_multiple_with_the_first_image(count):
    images = torch.rand(count, 3, 4, 4)
    module = Answers(lambda batch: batch.flatten(1)[:, :5])
    outputs = Handle(module, 5)(images)
    (given,) = module.given
    assert len(given) % PADDING == 0
    assert 0 <= len(given) - count < PADDING
    assert torch.equal(given[:count], images)
    assert torch.equal(given[count:], images[:1].expand(len(given) - count, 3, 4, 4))
    assert torch.equal(outputs.logits, images.flatten(1)[:, :5])


def test_a_multiple_is_not_copied():
    images = torch.rand(2 * PADDING, 1, 2, 2)
    assert pad(images) is images


def look(model, batch):
    """Logits and the gradient of something that depends on all of them."""
    batch = batch.clone().requires_grad_()
    logits = model(batch).logits
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), batch)
    return logits.detach(), gradient


@pytest.mark.parametrize("module", [convolution(), reverse_attention_network()], ids=["conv", "ra"])
def test_logits_and_gradients_of_an_image_are_the_same_bits_in_any_batch(module):
    shape = (3, 16, 16) if isinstance(module, nn.Sequential) else (1, 8, 8)
    images = torch.rand(70, *shape, generator=torch.Generator().manual_seed(0))
    model = Handle(module, 10)

    whole = look(model, images)
    for size in (1, 5, 17, 50):
        parts = [look(model, images[first : first + size]) for first in range(0, 70, size)]
        for found, expected in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(found), expected)


@pytest.mark.parametrize("copy", [lambda net: net, folded, lambda net: rough(folded(net))])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_our_own_networks_need_a_smallest_batch_and_no_multiple_of_it(architecture, copy):
    torch.manual_seed(0)
    width = 1 if architecture.startswith("wrn") else 4
    trunk = ARCHITECTURES[architecture].build((3, 16, 16), width=width)
    network = Network(trunk, Linear().build(trunk.features, 10)).eval()
    model, images = Handle(copy(network), 10), torch.rand(61, 3, 16, 16)
    passes = []
    model.module.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))

    whole = look(model, images)
    for first, count in ((0, 1), (3, 7), (5, 16), (1, 17), (20, 19), (2, 23), (10, 31), (4, 50)):
        some = slice(first, first + count)
        for found, expected in zip(look(model, images[some]), whole, strict=True):
            assert torch.equal(found, expected[some])
    assert passes == [61, 16, 16, 16, 17, 19, 23, 31, 50]


@pytest.mark.parametrize("copy", [lambda net: net, folded, lambda net: rough(folded(net))])
@pytest.mark.parametrize("defense", ["pgd_at", "pgd_at_he", "pgd_at_mhe", "trades_ancra"])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_without_a_gradient_few_images_of_our_own_networks_are_judged_as_many(
    classes, defense, copy
):
    built, _ = DEFENSES[defense].compose({})
    network = built.build(Build((3, 16, 16), classes, "small_preactresnet", {}, seed=0)).network
    model = Handle(copy(network.eval()), classes, has_gate=True)
    images, labels = torch.rand(40, 3, 16, 16), torch.arange(40) % classes
    passes = []
    model.module.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))

    for select in (None, labels):
        with torch.no_grad():
            whole = model(images, select=select)
            for first, count in ((0, 1), (3, 3), (5, 5), (9, 7), (1, 12), (8, 15), (2, 17)):
                some = slice(first, first + count)
                found = model(images[some], select=None if select is None else select[some])
                for one, expected in zip(found.every_logits(), whole.every_logits(), strict=True):
                    assert torch.equal(one, expected[some])
    assert passes == 2 * [40, 4, 4, 8, 8, 12, 16, 17]


def test_a_gradient_is_never_taken_of_fewer_images_than_a_padding():
    trunk = ARCHITECTURES["small_resnet"].build((1, 8, 8), width=4)
    network = Network(trunk, Linear().build(trunk.features, 10))
    model, passes = Handle(network, 10), []
    network.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))

    images = torch.rand(3, 1, 8, 8)
    model(images)
    model(images.requires_grad_())
    with torch.no_grad():
        model(images)
    assert passes == [4, PADDING, 4]


def test_a_network_that_switches_itself_to_training_is_refused_and_switched_back():
    trunk = ARCHITECTURES["small_resnet"].build((1, 8, 8), width=4)
    network = Network(trunk, Linear().build(trunk.features, 10))
    model = Handle(network, 10)
    network.trunk.layer2[0].register_forward_hook(lambda block, *_: block.bn1.train() and None)

    with pytest.raises(ModelError, match="training mode"):
        model(torch.rand(2, 1, 8, 8))
    assert not any(part.training for part in network.modules())


def test_padding_adds_nothing_to_the_gradient_of_the_first_image():
    images = torch.rand(1, 1, 2, 2).requires_grad_()
    logits = Handle(Answers(lambda batch: batch.flatten(1) ** 2), 4)(images).logits
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(gradient, 2 * images.detach())


def test_everything_that_a_model_returns_is_cut_to_the_images():
    def answer(batch):
        flat = batch.flatten(1)
        return Outputs(flat[:, :3], (flat[:, 1:4], flat[:, 2:5]), flat, 15.0)

    images = torch.rand(5, 2, 2, 2)
    found = Handle(Answers(answer), 3)(images)
    assert [len(logits) for logits in found.every_logits()] == [5, 5, 5]
    assert torch.equal(found.features, images.flatten(1))
    assert torch.equal(found.auxiliary[1], images.flatten(1)[:, 2:5])
    assert found.logit_scale == 15.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_logits_of_another_precision_are_judged_as_float32(dtype):
    found = Handle(Answers(lambda batch: batch.flatten(1).to(dtype)), 4)(torch.rand(3, 1, 2, 2))
    assert found.logits.dtype == torch.float32


def test_the_module_is_frozen_and_in_evaluation_mode():
    module = convolution().train()
    Handle(module, 10)
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_select_reaches_only_models_with_a_gate_and_is_padded_like_the_images():
    module = Answers(lambda batch: batch.flatten(1))
    images, labels = torch.rand(3, 1, 2, 2), torch.tensor([2, 0, 1])
    Handle(module, 4)(images, select=labels)
    gated = Handle(module, 4, has_gate=True)
    gated(images, select=labels)
    gated(images, select=SoftSelect(0.1))
    gated(images)
    assert module.selects[0] is None
    assert module.selects[1].tolist() == [2, 0, 1] + 13 * [2]
    assert module.selects[2] == SoftSelect(0.1)
    assert module.selects[3] is None


def raises(_):
    raise IndexError("first line\nsecond line")


@pytest.mark.parametrize(
    ("answer", "status", "sentence"),
    [
        (lambda batch: batch.flatten(1)[:, :3], "wrong_shape", "expected .16, 4. floating point"),
        (lambda batch: batch.flatten(1)[:2], "wrong_shape", "returned .2, 4."),
        (lambda batch: batch, "wrong_shape", "one logit per class"),
        (lambda batch: batch.flatten(1).argmax(1), "wrong_shape", "int64"),
        (lambda batch: batch.flatten(1).long(), "wrong_shape", "int64"),
        (lambda batch: Outputs(batch.flatten(1), (batch,)), "wrong_shape", "one logit per class"),
        (lambda batch: (batch.flatten(1), batch), "wrong_type", "returned a tuple"),
        (lambda batch: None, "wrong_type", "returned a NoneType"),
        (lambda batch: batch.flatten(1).tolist(), "wrong_type", "returned a list"),
        (lambda batch: Outputs(batch.flatten(1).numpy()), "wrong_type", "returned a ndarray"),
        (lambda batch: Outputs(batch.flatten(1), (None,)), "wrong_type", "returned a NoneType"),
        (raises, "raised", "the model raised IndexError: first line$"),
    ],
)
def test_a_model_that_misbehaves_is_a_model_error(answer, status, sentence):
    with pytest.raises(ModelError, match=sentence) as caught:
        Handle(Answers(answer), 4)(torch.rand(3, 1, 2, 2))
    assert caught.value.status == status


def test_a_tensor_is_outputs_without_anything_else():
    logits = torch.rand(2, 3)
    found = as_outputs(logits)
    assert found.logits is logits
    assert (found.auxiliary, found.features, found.logit_scale) == ((), None, 1.0)


def test_a_random_network_of_our_own_passes_no_more_rows_than_its_draws_need():
    trunk = ARCHITECTURES["small_resnet"].build((1, 8, 8), width=4)
    network = Network(trunk, Linear().build(trunk.features, 10))
    model, passes = RandomHandle(network, 10), []
    network.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    model.reseed("key")

    image = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        model(image)
    model(image.requires_grad_())
    assert set(passes) == {2}
