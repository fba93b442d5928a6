"""Public state dicts in our names: every layout, every refusal, and garbage."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.errors import HarnessError
from harness.models.architectures import ARCHITECTURES
from harness.models.layouts import to_network_layout


class Normalisation(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.5, 0.6, 0.7]).reshape(3, 1, 1))


class Net(nn.Module):
    """The children of our network, with a thin trunk."""

    def __init__(self, architecture="small_preactresnet", classes=10, width=2, normalises=False):
        super().__init__()
        self.trunk = ARCHITECTURES[architecture].build((3, 8, 8), width=width)
        self.head = nn.Linear(self.trunk.features, classes)
        if normalises:
            self.normalisation = Normalisation()


def public(state, classifier="linear"):
    """Our state dict under public names."""
    names = {name: name.removeprefix("trunk.") for name in state}
    return {new.replace("head.", f"{classifier}."): state[old] for old, new in names.items()}


def same(found, expected):
    return list(found) == list(expected) and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.fixture(scope="module")
def ours():
    torch.manual_seed(0)
    return Net().state_dict()


@pytest.fixture(scope="module")
def fresh():
    torch.manual_seed(1)
    return Net().state_dict()


def test_our_own_layout_passes_untouched(ours, fresh):
    assert same(to_network_layout(ours, fresh), ours)


@pytest.mark.parametrize("classifier", ["linear", "fc", "classifier", "head"])
def test_the_classifier_is_found_under_every_public_name(ours, fresh, classifier):
    assert same(to_network_layout(public(ours, classifier), fresh), ours)


@pytest.mark.parametrize("wrapper", ["state_dict", "net", "model_state_dict", "model"])
def test_wrappers_are_opened(ours, fresh, wrapper):
    wrapped = {"epoch": 7, "optimizer": {"lr": 0.1}, wrapper: public(ours)}
    assert same(to_network_layout(wrapped, fresh), ours)
    assert same(to_network_layout({"model": wrapped}, fresh), ours)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module.model.", "_orig_mod.module.", "0.", "1."]
)
@pytest.mark.parametrize("layout", [dict, public])
def test_prefixes_are_taken_off(ours, fresh, prefix, layout):
    prefixed = {prefix + name: tensor for name, tensor in layout(ours).items()}
    assert same(to_network_layout(prefixed, fresh), ours)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ("0.mean", "0.std"),
        ("mean", "std"),
        ("mu", "sigma"),
        ("normalize.mean", "normalize.std"),
        ("module.normalizer.mean", "module.normalizer.std"),
        ("normalisation.mean", "normalisation.std"),
    ],
)
@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)])
def test_the_normalisation_of_the_file_moves_into_the_network(ours, mean, std, shape):
    expected = Net(normalises=True).state_dict()
    values = {mean: torch.tensor([1.0, 2.0, 3.0]), std: torch.tensor([4.0, 5.0, 6.0])}
    file = {f"1.{name}": tensor for name, tensor in public(ours).items()}
    found = to_network_layout(
        {**{name: value.reshape(shape) for name, value in values.items()}, **file}, expected
    )
    assert found["normalisation.mean"].flatten().tolist() == [1, 2, 3]
    assert found["normalisation.std"].flatten().tolist() == [4, 5, 6]
    assert found["normalisation.mean"].shape == expected["normalisation.mean"].shape


def test_a_file_without_normalisation_leaves_that_of_the_network(ours):
    expected = Net(normalises=True).state_dict()
    found = to_network_layout(public(ours), expected)
    assert torch.equal(found["normalisation.std"], expected["normalisation.std"])
    assert torch.equal(found["trunk.conv1.weight"], ours["trunk.conv1.weight"])


def test_half_a_normalisation_is_refused(ours):
    expected = Net(normalises=True).state_dict()
    with pytest.raises(HarnessError, match=r"missing: 'normalisation\.std'"):
        to_network_layout({**public(ours), "mean": torch.zeros(3)}, expected)


def test_a_normalisation_that_the_network_lacks_is_never_dropped(ours, fresh):
    file = {**public(ours), "normalize.mean": torch.zeros(3), "normalize.std": torch.ones(3)}
    with pytest.raises(HarnessError, match="give the network a normalisation"):
        to_network_layout(file, fresh)


def test_the_unused_group_of_the_trades_code_is_dropped():
    torch.manual_seed(0)
    ours = Net("wrn_28_10", width=1).state_dict()
    file = public(ours, "fc")
    copies = {f"sub_{name}": tensor for name, tensor in file.items() if name.startswith("block1.")}
    assert copies
    parallel = {f"module.{name}": tensor for name, tensor in {**file, **copies}.items()}
    assert same(to_network_layout(parallel, Net("wrn_28_10", width=1).state_dict()), ours)


def test_missing_counters_keep_the_networks_value(ours, fresh):
    file = {name: t for name, t in ours.items() if not name.endswith("num_batches_tracked")}
    assert len(file) < len(ours)
    assert same(to_network_layout(file, fresh), ours)


def test_the_result_loads_strictly(ours):
    net = Net()
    net.load_state_dict(to_network_layout(public(ours), net.state_dict()), strict=True)
    assert same(net.state_dict(), ours)


def test_another_number_of_classes_gets_its_own_sentence(ours):
    expected = Net(classes=100).state_dict()
    with pytest.raises(HarnessError, match="tells 10 classes apart but the network 100: choose"):
        to_network_layout(public(ours), expected)


def test_missing_and_unexpected_names_are_counted_and_the_first_shown(ours, fresh):
    file = public(ours)
    del file["conv1.weight"]
    file |= {f"extra{i}.weight": torch.zeros(1) for i in range(5)}
    with pytest.raises(HarnessError) as caught:
        to_network_layout(file, fresh)
    message = str(caught.value)
    assert f"the network of {len(fresh)} tensors" in message
    assert "missing: 'trunk.conv1.weight';" in message
    assert "'trunk.extra2.weight' and 2 more (5 in all)" in message
    assert "extra3" not in message
    assert message.endswith("such as width, that it was trained with.")


def test_another_width_is_told_by_its_shapes(ours):
    with pytest.raises(HarnessError, match=r"'trunk.conv1.weight' is \[2, 3, 3, 3\], expected \[4"):
        to_network_layout(public(ours), Net(width=4).state_dict())


def test_two_tensors_for_one_place_are_refused(ours, fresh):
    file = {**public(ours), "module.conv1.weight": ours["trunk.conv1.weight"]}
    with pytest.raises(HarnessError, match=r"two tensors for 'trunk\.conv1\.weight'"):
        to_network_layout(file, fresh)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ([1, 2], "holds a list"),
        (None, "holds a NoneType"),
        ({}, "holds an empty one"),
        ({"model": {}}, "holds an empty one"),
        ({"model": nn.Identity()}, r"'model' \(Identity\) is not"),
        ({"a": 1, "b": 2, 3: torch.zeros(1), "d": 4}, r"and 1 more \(4 in all\) are not"),
    ],
)
def test_what_is_no_state_dict_is_refused(fresh, file, said):
    with pytest.raises(HarnessError, match=said):
        to_network_layout(file, fresh)


def test_a_dictionary_that_holds_itself_is_refused(fresh):
    endless = {}
    endless["model"] = endless
    with pytest.raises(HarnessError, match=r"'model' \(dict\) is not"):
        to_network_layout(endless, fresh)


def test_names_from_a_file_cannot_reach_the_terminal_raw(ours, fresh):
    with pytest.raises(HarnessError) as caught:
        to_network_layout({**public(ours), "\x1b[2J" + "x" * 500: torch.zeros(1)}, fresh)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


PIECES = st.sampled_from(
    [
        "module.", "model.", "0.", "1.", "trunk.", "head.", "fc.", "weight", "bias", "mean", "mu",
        "conv1.", "sub_block1.", "normalize.", "net", "state_dict", ".num_batches_tracked",
    ]
)  # fmt: skip
KEYS = st.one_of(
    st.text(max_size=8), st.integers(), st.lists(PIECES, min_size=1, max_size=4).map("".join)
)
TENSORS = st.sampled_from([torch.zeros(()), torch.zeros(10, 4), torch.zeros(0), torch.ones(3)])
VALUES = st.recursive(
    st.one_of(TENSORS, st.none(), st.floats(), st.text(max_size=3)),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)
EXPECTED = Net(normalises=True).state_dict()


@settings(max_examples=150)
@given(file=st.one_of(VALUES, st.dictionaries(KEYS, TENSORS, max_size=6)), keeps=st.booleans())
def test_garbage_either_fits_or_is_refused(file, keeps):
    if keeps and isinstance(file, dict):
        file = {**EXPECTED, **file}
    with contextlib.suppress(HarnessError):
        assert list(to_network_layout(file, EXPECTED)) == list(EXPECTED)
