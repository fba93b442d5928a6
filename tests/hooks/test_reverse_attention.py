"""Reverse attention against `ancra.md` section 8: pooled cases, gates, structure."""

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.heads.linear import Linear
from harness.hooks.reverse_attention import ReverseAttention
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network, gate_rows
from harness.models.trunk import Trunk
from harness.outputs import SoftSelect, Stripped

TRUNKS = [
    ("small_resnet", (1, 8, 8), 3),
    ("resnet18", (3, 32, 32), 2),
    ("preactresnet18", (3, 64, 64), 2),
    ("wrn_28_10", (3, 16, 16), 1),
    ("wrn_34_10", (3, 16, 16), 1),
]
NORMALISED = TRUNKS[2:]


class OneBlock(Trunk):
    """The maps are the features: one block that changes nothing, 1x1 maps."""

    def __init__(self, channels):
        super().__init__((channels, 1, 1), channels=channels, halvings=0, window=None)
        self.block = nn.Identity()

    @property
    def blocks(self):
        return (self.block,)

    def _before_last_stage(self, images):
        return images


def pooled(weight, bias):
    weight = torch.tensor(weight, dtype=torch.float64)
    trunk, head = OneBlock(weight.shape[1]), Linear().build(*weight.T.shape).double()
    head.weight.data.copy_(weight)
    head.bias.data.copy_(torch.tensor(bias))
    return Network(trunk, head, ReverseAttention(blocks=1).build(trunk)).eval()


def answer(network, z, select=None):
    images = torch.tensor(z, dtype=torch.float64).reshape(1, -1, 1, 1)
    gate = None if select is None else torch.tensor([select])
    outputs = network(images, select=gate)
    return outputs.auxiliary[0][0].tolist(), outputs.logits[0].tolist()


RA_W, RA_B = [[1, 0, 2], [0, 1, 1]], [0.5, -0.5]
WRONG_WAY = [[-2, 0, 1], [0, -2, 1]]


@pytest.mark.parametrize(
    ("z", "select", "p", "final"),
    [
        ([0.5, 0.1, 1], None, [3.0, 0.6], [5.0, 1.5]),
        ([0.5, 0.1, 1], 1, [3.0, 0.6], [2.5, 0.6]),
        ([1, 2, 0], 1, [1.5, 1.5], [0.5, 1.5]),
    ],
    ids=["RA-1", "RA-2", "RA-3"],
)
def test_pooled_outputs_are_those_of_the_check_cases(z, select, p, final):
    found_p, found_final = answer(pooled(RA_W, RA_B), z, select)
    assert found_p == pytest.approx(p, abs=1e-12)
    assert found_final == pytest.approx(final, abs=1e-12)


@pytest.mark.parametrize(
    ("z", "p", "final", "prediction"),
    [
        ([0.4, 0.5, 1], [0.2, 0], [2.6, 1.0], 0),
        ([0.6, 0.5, 1], [-0.2, 0], [1.0, 3.0], 1),
        ([0.6, 0.3, 1], [-0.2, 0.4], [1.0, 2.2], 1),
    ],
)
def test_the_wrong_way_attack_repairs_what_it_attacks(z, p, final, prediction):
    found_p, found_final = answer(pooled(WRONG_WAY, [0.0, 0.0]), z)
    assert found_p == pytest.approx(p, abs=1e-12)
    assert found_final == pytest.approx(final, abs=1e-12)
    assert int(found_final[1] > found_final[0]) == prediction


@pytest.mark.parametrize(
    ("z", "signs"),
    [([0.4, 0.5, 1.0], [1, 0]), ([0.6, 0.5, 1.0], [0, -1]), ([0.6, 0.3, 1.0], [0, -1])],
)
def test_ascent_on_the_final_logits_climbs_another_function_than_the_decision(z, signs):
    network = pooled(WRONG_WAY, [0.0, 0.0])
    label = torch.tensor([1])
    gradients = []
    for k in (0, 1):
        images = torch.tensor(z, dtype=torch.float64).reshape(1, 3, 1, 1).requires_grad_()
        loss = nn.functional.cross_entropy(network(images).every_logits()[k], label)
        gradients.append(torch.autograd.grad(loss, images)[0].flatten())
    assert gradients[0][:2].sign().tolist() == signs
    assert gradients[1][:2].sign().tolist() == [-1, 1]


def test_a_supplied_label_is_echoed():
    p, final = answer(pooled(WRONG_WAY, [0.0, 0.0]), [0.6, 0.5, 1], select=0)
    assert p[1] > p[0]
    assert final == pytest.approx([3.4, 1.0], abs=1e-12)


def test_the_gradient_reaches_the_weights_as_classifier_and_as_gate():
    network = pooled(RA_W, RA_B)
    images = torch.tensor([0.5, 0.1, 1], dtype=torch.float64).reshape(1, 3, 1, 1)
    network(images, select=torch.tensor([0])).logits[0, 1].backward()
    z, w = torch.tensor([0.5, 0.1, 1.0]).double(), torch.tensor(RA_W).double()
    torch.testing.assert_close(network.head.weight.grad[1], z * w[0])  # d/dW[1]: the classifier
    torch.testing.assert_close(network.head.weight.grad[0], z * w[1])  # d/dW[0]: the gate


def hooked(name, shape, width, blocks=2, **settings):
    torch.manual_seed(0)
    trunk = ARCHITECTURES[name].build(shape, width=width)
    head = Linear().build(trunk.features, 5)
    return Network(trunk, head, ReverseAttention(blocks, **settings).build(trunk)).double().eval()


@pytest.mark.parametrize(("name", "shape", "width"), TRUNKS)
def test_the_final_logits_classify_the_gated_features(name, shape, width):
    """Weighting the map before pooling equals weighting the features after it."""
    network = hooked(name, shape, width)
    labels = torch.tensor([3, 0, 4])
    with torch.no_grad():
        outputs = network(torch.rand(3, *shape, dtype=torch.float64), select=labels)
        gated = outputs.features * network.head.weight[labels]
        torch.testing.assert_close(outputs.logits, network.head(gated))
        torch.testing.assert_close(outputs.auxiliary[-1], network.head(outputs.features))


@pytest.mark.parametrize(("name", "shape", "width"), TRUNKS)
def test_a_plain_state_dict_fits_without_missing_or_unexpected_keys(name, shape, width):
    network = hooked(name, shape, width)
    plain = Network(network.trunk, network.head)
    found = network.load_state_dict(plain.state_dict())
    assert (found.missing_keys, found.unexpected_keys) == ([], [])
    assert list(network.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize(("name", "shape", "width"), TRUNKS)
def test_the_first_auxiliary_output_is_the_plain_classifier_after_that_block(name, shape, width):
    network = hooked(name, shape, width)
    trunk, images = network.trunk, torch.rand(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        maps = trunk.stem(images)
        for block in trunk.blocks[:-1]:
            maps = block(maps)
        expected = network.head(trunk.pool(trunk.finish(maps)))
        first = network(images).auxiliary[0]
        assert torch.equal(first, expected)
        assert torch.equal(first, network(images, select=torch.tensor([1, 2])).auxiliary[0])


@pytest.mark.parametrize(("name", "shape", "width"), TRUNKS)
def test_each_block_is_gated_by_its_own_argmax_when_deployed(name, shape, width):
    network = hooked(name, shape, width)
    images = torch.rand(6, *shape, dtype=torch.float64)
    with torch.no_grad():
        deployed = network(images)
        trunk, head = network.trunk, network.head
        maps = trunk.stem(images)
        for block in trunk.blocks[:-2]:
            maps = block(maps)
        for block, auxiliary in zip(trunk.blocks[-2:], deployed.auxiliary, strict=True):
            maps = trunk.finish(block(maps))
            torch.testing.assert_close(auxiliary, head(trunk.pool(maps)))
            maps = maps * trunk.spread(head.weight[auxiliary.argmax(1)], maps)
        torch.testing.assert_close(deployed.logits, head(trunk.pool(maps)))


def test_train_mode_does_not_change_which_class_selects():
    network = hooked("small_resnet", (1, 8, 8), 3)
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images)  # running statistics become those of this batch
        batch_gate = network(images).auxiliary[0].argmax(1)
        by_label = network(images, select=batch_gate)
        assert torch.equal(by_label.auxiliary[1], network(images).auxiliary[1])


def test_a_single_hooked_block_leaves_the_first_one_plain():
    network = hooked("small_resnet", (1, 8, 8), 3, blocks=1)
    plain = Network(network.trunk, network.head).eval()
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        outputs = network(images)
        assert len(outputs.auxiliary) == 1
        torch.testing.assert_close(outputs.auxiliary[0], plain(images).logits)
        torch.testing.assert_close(outputs.features, plain(images).features)


@pytest.mark.parametrize(("name", "shape", "width"), TRUNKS)
def test_every_auxiliary_output_classifies_its_vector_and_the_final_one_the_gated(
    name, shape, width
):
    network = hooked(name, shape, width)
    with torch.no_grad():
        outputs = network(torch.rand(3, *shape, dtype=torch.float64))
        assert len(outputs.vectors) == len(outputs.auxiliary) == 2
        for vectors, auxiliary in zip(outputs.vectors, outputs.auxiliary, strict=True):
            assert torch.equal(network.head(vectors), auxiliary)
        assert torch.equal(outputs.vectors[-1], outputs.features)
        assert torch.equal(network.head(outputs.gated), outputs.logits)
        rows = network.head.weight[outputs.auxiliary[-1].argmax(1)]
        torch.testing.assert_close(outputs.gated, outputs.features * rows)


def test_pooled_vectors_are_those_of_the_check_case():
    network = pooled(RA_W, RA_B)
    outputs = network(torch.tensor([0.5, 0.1, 1], dtype=torch.float64).reshape(1, 3, 1, 1))
    assert outputs.vectors[0].tolist()[0] == pytest.approx([0.5, 0.1, 1.0])
    assert outputs.gated.tolist()[0] == pytest.approx([0.5, 0.0, 2.0])


@pytest.mark.parametrize(("name", "shape", "width"), TRUNKS)
def test_stripped_it_is_the_plain_network_bit_by_bit(name, shape, width):
    network = hooked(name, shape, width)
    plain = Network(network.trunk, network.head).eval()
    images = torch.rand(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        stripped, expected = network(images, select=Stripped()), plain(images)
        assert torch.equal(stripped.logits, expected.logits)
        assert torch.equal(stripped.features, expected.features)
        assert (stripped.auxiliary, stripped.vectors, stripped.gated) == ((), (), None)
        assert not torch.allclose(stripped.logits, network(images).logits)


def test_a_soft_gate_is_hard_forward_and_soft_backward():
    auxiliary = torch.tensor([[1.0, 0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 4.0]], dtype=torch.float64)
    rows = gate_rows(auxiliary, weight, SoftSelect(temperature=0.5))
    torch.testing.assert_close(rows, weight[:1])
    (gradient,) = torch.autograd.grad(rows.sum(), auxiliary)
    soft = torch.softmax(auxiliary / 0.5, 1) @ weight
    (expected,) = torch.autograd.grad(soft.sum(), auxiliary)
    torch.testing.assert_close(gradient, expected)
    assert gradient.abs().max() > 0.1
    assert not gate_rows(auxiliary, weight, None).requires_grad  # argmax has no gradient


def test_a_mask_over_two_by_two_cells_is_the_row_upsampled_to_the_nearest():
    network = hooked("preactresnet18", (3, 64, 64), 2)
    trunk, row = network.trunk, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    with torch.no_grad():
        network.head.weight.copy_(row.repeat(16).expand(5, -1))
        images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
        first = trunk.finish(trunk.blocks[0](trunk.stem(images)))
        up = nn.functional.interpolate(row.reshape(1, 1, 2, 2), scale_factor=4, mode="nearest")
        second = trunk.finish(trunk.blocks[1](first * up))
        expected = network.head(trunk.pool(second * up))
        torch.testing.assert_close(network(images).logits, expected)


def test_a_detached_mask_gives_the_classifier_s_gradient_alone():
    network = pooled(RA_W, RA_B)
    network.hook.detach_mask = True
    images = torch.tensor([0.5, 0.1, 1], dtype=torch.float64).reshape(1, 3, 1, 1)
    outputs = network(images, select=torch.tensor([0]))
    assert outputs.logits[0].tolist() == pytest.approx([5.0, 1.5])  # RA-1: the value stays
    outputs.logits[0, 1].backward()
    z, w = torch.tensor([0.5, 0.1, 1.0]).double(), torch.tensor(RA_W).double()
    torch.testing.assert_close(network.head.weight.grad[1], z * w[0])
    assert torch.count_nonzero(network.head.weight.grad[0]) == 0


def test_a_detached_mask_still_lets_a_soft_gate_s_gradient_through():
    network = hooked("small_resnet", (1, 8, 8), 3, detach_mask=True)
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    gradients = [
        torch.autograd.grad(network(images, select=select).logits.sum(), images)[0]
        for select in (None, SoftSelect())
    ]
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize(("name", "shape", "width"), NORMALISED)
def test_at_first_a_normalisation_per_block_computes_what_the_shared_one_does(name, shape, width):
    images = torch.rand(3, *shape, dtype=torch.float64)
    both = [hooked(name, shape, width, final_bn=mode) for mode in ("shared", "per_block")]
    with torch.no_grad():
        first, second = (network(images) for network in both)
    for one, other in zip(first.every_logits(), second.every_logits(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "shape", "width"), NORMALISED)
def test_every_hooked_block_is_normalised_by_its_own_once_per_pass(name, shape, width):
    network = hooked(name, shape, width, final_bn="per_block").train()
    images = torch.rand(4, *shape, dtype=torch.float64)
    outputs = network(images)
    norms = [network.hook.norms[0], network.trunk.final_norm]
    assert [int(norm.num_batches_tracked) for norm in norms] == [1, 1]
    assert not torch.equal(norms[0].running_mean, norms[1].running_mean)
    gradients = torch.autograd.grad(
        outputs.auxiliary[0].sum(), [norm.weight for norm in norms], allow_unused=True
    )
    assert gradients[0].abs().max() > 0
    assert gradients[1] is None  # the last block comes after
    shared = hooked(name, shape, width).train()
    shared(images)
    assert int(shared.trunk.final_norm.num_batches_tracked) == 2


@pytest.mark.parametrize(("name", "shape", "width"), NORMALISED)
def test_normalisations_per_block_are_saved_and_loaded(name, shape, width):
    trained = hooked(name, shape, width, final_bn="per_block").train()
    images = torch.rand(4, *shape, dtype=torch.float64)
    with torch.no_grad():
        trained(images)
        trained.hook.norms[0].weight += 0.5
    again = hooked(name, shape, width, final_bn="per_block")
    again.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images).logits, trained.eval()(images).logits)
    plain = Network(trained.trunk, trained.head)
    extra = set(trained.state_dict()) - set(plain.state_dict())
    assert {name.rpartition(".")[0] for name in extra} == {"hook.norms.0"}


@pytest.mark.parametrize(("name", "shape", "width"), NORMALISED)
def test_stripped_of_a_normalisation_per_block_the_last_block_s_is_used(name, shape, width):
    network = hooked(name, shape, width, final_bn="per_block")
    images = torch.rand(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        before = network(images, select=Stripped()).logits
        network.hook.norms[0].weight += 0.5
        assert torch.equal(network(images, select=Stripped()).logits, before)
        network.trunk.final_norm.weight += 0.5
        assert not torch.allclose(network(images, select=Stripped()).logits, before)
        plain = Network(network.trunk, network.head).eval()
        assert torch.equal(network(images, select=Stripped()).logits, plain(images).logits)


@pytest.mark.parametrize("name", ["resnet18", "small_resnet"])
def test_a_normalisation_per_block_is_refused_where_none_follows_the_blocks(name):
    with pytest.raises(HarnessError, match="choose final_bn=shared, or a pre-activation net"):
        hooked(name, (1, 8, 8), 2, final_bn="per_block")


def test_an_unknown_final_normalisation_is_refused():
    with pytest.raises(HarnessError, match="no mode of the final normalisation named 'own'"):
        ReverseAttention(final_bn="own")
