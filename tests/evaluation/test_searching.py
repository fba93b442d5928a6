"""Searches on a copy of the model: faster, but the model as loaded has the last word."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from evaluated_subjects import (
    COUNT,
    convolution,
    job_of,
    labelled_by,
    random_pixels,
    reverse_attention_network,
    run,
    split_of,
    subject_of,
)
from torch import nn

import harness.evaluation.subject as module
from harness.attacks.attack import ATTACKS, attack_spec
from harness.errors import HarnessError, ModelError
from harness.evaluation.handle import Handle
from harness.evaluation.patience import time_limit
from harness.evaluation.searching import NO_AIDS, search_of
from harness.evaluation.subject import precision_of
from harness.heads.linear import Linear
from harness.identity import PRECISIONS, Capabilities
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network

SHAPE = (1, 8, 8)
COPIES = [precision for precision in PRECISIONS if precision != "float32"]
PARTS = [
    ("pgd", {"steps": 10}),
    ("apgd_ce", {"steps": 10}),
    ("apgd_t", {"steps": 8, "targets": 3}),
    ("fab_t", {"steps": 8, "targets": 3}),
    ("square", {"queries": 60}),
    ("apgd_ce", {"steps": 8, "surface": "auxiliary(0)"}),
    ("apgd_ce", {"steps": 8, "surface": "straight_through(1)"}),
    ("autoattack", {"steps": 5, "targets": 2, "queries": 20}),
]


def network_of_digits() -> Network:
    """A plain network with statistics of its own that decides for every class now and then."""
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build(SHAPE, width=8)
    network = Network(trunk, Linear().build(trunk.features, 10))
    with torch.no_grad():
        network.train()(torch.rand(64, *SHAPE))
        network.head.bias -= network.eval()(torch.rand(256, *SHAPE)).logits.mean(0)
    return network


@pytest.fixture(scope="module")
def network():
    return reverse_attention_network()


@pytest.fixture(scope="module")
def data(network):
    pixels = random_pixels(*SHAPE)
    return split_of(pixels, labelled_by(network, pixels))


def attacked(network, data, precision, attack="pgd", batch_size=250, **settings):
    subject = subject_of(network, auxiliary=2, select=True, features=True, strip=True)
    job = replace(job_of(attack, **settings), precision=precision)
    return run(job, subject, data, batch_size=batch_size)


@pytest.mark.parametrize("precision", COPIES)
@pytest.mark.parametrize(("attack", "settings"), PARTS)
def test_a_search_on_a_copy_breaks_what_the_exact_one_breaks(
    network, data, precision, attack, settings
):
    exact = attacked(network, data, "float32", attack, **settings)
    found = attacked(network, data, precision, attack, **settings)

    differ = sum(one != other for one, other in zip(exact.broken, found.broken, strict=True))
    assert 0 < sum(exact.broken) < COUNT
    assert differ <= 4  # of 50, after few steps on an untrained gate: the climbs part ways


@pytest.mark.parametrize("precision", COPIES)
@pytest.mark.parametrize("attack", ["pgd", "apgd_t", "fab_t", "square"])
def test_what_a_copy_finds_does_not_depend_on_the_batch(network, data, precision, attack):
    small = {"steps": 5} if attack != "square" else {"queries": 30}
    whole = attacked(network, data, precision, attack, **small)
    pieces = attacked(network, data, precision, attack, batch_size=7, **small)

    assert whole.broken == pieces.broken
    assert whole.columns == pieces.columns


def test_windows_on_a_copy_break_what_whole_passes_break_whatever_the_batch():
    """Square on a plain network: exact, on the copy by windows, and in batches of another size."""
    network = network_of_digits()
    pixels = random_pixels(*SHAPE)
    data = split_of(pixels, labelled_by(network, pixels))

    def broken(precision, batch_size=250):
        job = replace(job_of("square", queries=150), precision=precision)
        return run(job, subject_of(network), data, batch_size=batch_size)

    exact, whole, pieces = broken("float32"), broken("folded"), broken("folded", 11)
    job = replace(job_of("square"), precision="folded")
    images = data.images[:4].float() / 255
    search = search_of(job, subject_of(network), NO_AIDS, images, data.labels[:4], range(4))

    assert search.nearby(images) is not None
    assert 0 < sum(exact.broken) < COUNT
    assert exact.broken == whole.broken
    assert whole.columns == pieces.columns


def test_windows_are_under_the_time_limit_too():
    network = network_of_digits()
    pixels = random_pixels(*SHAPE)
    data, subject = split_of(pixels, labelled_by(network, pixels)), subject_of(network)
    job = replace(job_of("square"), precision="folded")
    images = data.images[:4].float() / 255
    search = search_of(job, subject, NO_AIDS, images, data.labels[:4], range(4))
    nearby = search.nearby(images)

    windows = torch.arange(4), torch.zeros(4, 2, dtype=torch.int64), 2

    assert nearby.logits(images, *windows).shape == (4, 10)
    with time_limit(1e-9), pytest.raises(ModelError, match="time-limit"):
        nearby.logits(images, *windows)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_colour_images_the_last_word_depends_on_no_batch_mates(precision):
    """Three channels: kernels, and so bits, depend on how the images lie in memory."""
    torch.manual_seed(0)
    trunk = ARCHITECTURES["resnet18"].build((3, 32, 32), width=8)
    network = Network(trunk, Linear().build(trunk.features, 10))
    with torch.no_grad():
        network.train()(torch.rand(64, 3, 32, 32))
        network.head.bias -= network.eval()(torch.rand(256, 3, 32, 32)).logits.mean(0)
    pixels = random_pixels(3, 32, 32, count=24)
    data = split_of(pixels, labelled_by(network, pixels))

    def found(batch_size):
        job = replace(job_of("pgd", steps=2, relative_step=0.05, last=24), precision=precision)
        return run(job, subject_of(network), data, batch_size=batch_size)

    whole = found(250)
    assert 0 < sum(whole.broken) < 24
    for batch_size in (1, 17):
        assert found(batch_size).columns == whole.columns


def test_the_model_as_loaded_sees_the_same_layout_whatever_it_is_given():
    seen = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].is_contiguous()))
    images = torch.rand(20, 3, 2, 2).contiguous(memory_format=torch.channels_last)

    Handle(model, 3)(images)
    Handle(model, 3)(images[:2])

    assert seen == [True, True]


@pytest.mark.parametrize(
    ("facts", "precision"),
    [
        ({}, "folded"),
        ({"kind": "added", "model": "resnet18"}, "folded"),
        ({"kind": "added", "model": "model.py:build"}, "float32"),
        ({"capabilities": Capabilities(10, is_random=True)}, "float32"),
    ],
)
def test_what_has_no_copy_is_recorded_as_searched_as_it_is(facts, precision):
    record = SimpleNamespace(
        **{"kind": "trained", "model": "", "capabilities": Capabilities(10)} | facts
    )
    assert precision_of(record, "folded") == precision


class Confused(nn.Module):
    """A copy that is wrong about everything."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images, *, select=None):
        outputs = self.network(images, select=select)
        return replace(outputs, logits=outputs.logits.roll(1, dims=1))


@pytest.mark.parametrize("attack", ["pgd", "fab_t", "square"])
def test_a_wrong_decision_of_the_copy_alone_breaks_nothing(monkeypatch, network, data, attack):
    """Each image stays where it is in a ball of nothing, so only the copy can be wrong."""
    monkeypatch.setattr(module, "prove_equal", lambda *_: None)
    monkeypatch.setattr(module, "folded", lambda original: Confused(original).eval())
    small = {"steps": 3} if attack != "square" else {"queries": 5}
    nothing = replace(job_of().threat, epsilon=job_of().threat.epsilon / 10**9)

    found = attacked(network, data, "folded", attack, threat=nothing, **small)

    assert not any(found.broken)
    assert all(found.attacked)


def test_a_copy_that_is_another_function_is_never_searched(monkeypatch, network, data):
    monkeypatch.setattr(
        "harness.models.prepared.folded", lambda original: Confused(deepcopy(original)).eval()
    )
    with pytest.raises(HarnessError, match="--precision float32"):
        attacked(network, data, "folded")


def test_only_attacks_that_tolerate_bfloat16_see_it(network, data):
    images = data.images[:4].float() / 255
    job = replace(job_of(), precision="mixed")

    def search(**capabilities):
        subject = subject_of(network, auxiliary=2, **capabilities)
        return search_of(job, subject, NO_AIDS, images, data.labels[:4], range(4))

    assert search().rough is not None
    assert search().surface.model is not search().rough.model
    assert search(select=True).rough is None
    tolerant = {name for name in ATTACKS if ATTACKS[name].tolerates_bfloat16}
    assert tolerant >= {"pgd", "apgd_ce", "apgd_t"}
    assert not tolerant & {"fab", "fab_t", "square", "rays", "apgd_dlr"}


def test_the_proof_is_made_once(monkeypatch, network, data):
    calls = []
    monkeypatch.setattr(module, "prove_equal", lambda *given: calls.append(given))
    subject = subject_of(network, auxiliary=2, select=True)
    for attack in ("fgsm", "pgd"):
        run(replace(job_of(attack_spec(attack)), precision="mixed"), subject, data)

    assert len(calls) == 1


@pytest.mark.parametrize("precision", COPIES)
def test_a_model_from_elsewhere_is_searched_as_it_is(precision):
    model = convolution()
    pixels = random_pixels(3, 16, 16)
    data, subject = split_of(pixels, labelled_by(model, pixels)), subject_of(model)

    exact, found = (
        run(replace(job_of("pgd", steps=5), precision=one), subject, data)
        for one in ("float32", precision)
    )

    assert exact.broken == found.broken
    assert exact.columns == found.columns


def test_the_training_loss_is_climbed_on_the_copy(network):
    from harness.attacks.surfaces import TrainingLoss
    from harness.evaluation.subject import Subject, searched

    torch.manual_seed(0)
    plain = subject_of(network, auxiliary=2, select=True, training_loss=True)
    climb = module._Climb(None, network, None)
    subject = Subject(plain.model, plain.capabilities, TrainingLoss(climb, 2))

    found = searched(subject, "folded", torch.rand(4, *SHAPE))

    assert isinstance(found.training_loss.value, module._Climb)
    assert found.training_loss.value.network is found.model.module
    assert found.training_loss.forwards == 2
