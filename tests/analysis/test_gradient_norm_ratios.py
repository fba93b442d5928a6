from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from tiny_exhibits import Pixels, exhibit_of, images_and_labels, learnt, network_of, record_of
from torch.nn import functional

from harness.analysis.analysis import ANALYSES
from harness.analysis.gradient_norm_ratios import gradient_norm_ratios, gradient_norms, ratios
from harness.batch import Batch, InnerBudget
from harness.catalogue import DEFENSES

RECIPE = {"batch_size": 8, "inner_steps": 2, "relative_step": 0.5, "epochs": 3}


def _exhibit(name, network=None, **recipe):
    network = network or network_of(name)
    defense = DEFENSES[name].compose({})[0]
    record = record_of(recipe={**RECIPE, **recipe})
    return exhibit_of(network, record=record, defense=defense)


def _norms(defense, network, images, labels):
    budget = InnerBudget(record_of().threat, 1, 0.0)
    batch = Batch(
        network,
        images,
        labels,
        budget=budget,
        combine=defense.combine,
        generator=torch.Generator(),
    )
    return gradient_norms(batch, images)


def test_norms_are_those_of_the_training_cross_entropy_with_scale_and_margin():
    network, (images, labels) = network_of("pgd_at_he"), images_and_labels(8)
    defense = DEFENSES["pgd_at_he"].compose({})[0]
    found = _norms(defense, network, images, labels)

    other = copy.deepcopy(network).train().requires_grad_()
    margin = defense.head.margin * functional.one_hot(labels, 3)
    logits = defense.head.scale * (other(images).logits - margin)
    functional.cross_entropy(logits, labels).backward()
    expected = {
        name: float(value.grad.norm())
        for name, value in other.named_parameters()
        if not name.startswith("head")
    }

    assert found == pytest.approx(expected, rel=1e-5)
    assert len(found) > 8


def test_gated_outputs_are_added_up_under_the_gate_of_the_label():
    network, (images, labels) = network_of("trades_ancra"), images_and_labels(8)
    defense = DEFENSES["trades_ancra"].compose({})[0]
    found = _norms(defense, network, images, labels)

    other = copy.deepcopy(network).train().requires_grad_()
    outputs = other(images, select=labels)
    sum(functional.cross_entropy(one, labels) for one in outputs.every_logits()).backward()

    assert found["trunk.conv1.weight"] == pytest.approx(
        float(other.trunk.conv1.weight.grad.norm()), rel=1e-5
    )


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_nothing_of_the_network_moves(mode):
    network = network_of("pgd_at")
    before = copy.deepcopy(network.state_dict())
    list(gradient_norm_ratios(_exhibit("pgd_at", network, attack_bn=mode)))

    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.training
    assert all(value.grad is None for value in network.parameters())


def test_images_that_no_attack_moved_have_the_ratio_one():
    exhibit = _exhibit("pgd_at")
    exhibit.defense = replace(exhibit.defense, maximiser=lambda batch: batch.images.clone())
    (reading,) = gradient_norm_ratios(exhibit)

    assert reading.values["all"] == [1.0, 1.0]
    assert reading.values["batches"] == (3,)
    assert set(map(tuple, list(reading.values.values())[:-2])) == {(1.0, 1.0)}


def test_attacked_training_images_move_the_weights_more():
    (reading,) = gradient_norm_ratios(_exhibit("pgd_at"))

    assert reading.on == "training"
    assert reading.values["trunk.conv1.weight"][0] > 1
    assert reading.values["all"][1] > 1


def test_the_mean_of_ratios_and_the_ratio_of_means_differ():
    clean = [{"a": 1.0, "b": 0.0}, {"a": 4.0, "b": 1.0}]
    attacked = [{"a": 3.0, "b": 1.0}, {"a": 4.0, "b": 1.0}]

    assert ratios(attacked, clean) == {"a": (2.0, pytest.approx(7 / 5))}


def test_a_defense_without_an_attack_gets_that_of_pgd_at_and_says_so():
    (reading,) = gradient_norm_ratios(_exhibit("standard"))

    assert "that of PGD-AT" in reading.note


def test_images_sorted_by_class_are_taken_evenly():
    split = learnt(60)
    order = split.labels.argsort(stable=True)
    seen = []
    exhibit = _exhibit("pgd_at")
    exhibit.training = lambda: split._replace(
        images=split.images[order], labels=split.labels[order]
    )
    exhibit.defense = replace(
        exhibit.defense, maximiser=lambda batch: seen.extend(batch.labels.tolist()) or batch.images
    )
    list(gradient_norm_ratios(exhibit))

    assert sorted(seen) == [0] * 8 + [1] * 8 + [2] * 8


def test_a_model_from_elsewhere_is_not_run_here():
    (reading,) = ANALYSES["gradient_norm_ratios"].read(exhibit_of(Pixels()))

    assert "training loss and its training attack are not known" in reading.note
