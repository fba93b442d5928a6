from __future__ import annotations

import pytest
import torch
from tiny_exhibits import Pixels, exhibit_of, images_and_labels, network_of, record_of

from harness.analysis.analysis import ANALYSES
from harness.analysis.exhibit import View
from harness.analysis.gate_flips import gate_flips
from harness.outputs import Outputs


class Heads(torch.nn.Module):
    """Decides by four pixels, as its two heads do by others: what flips is known beforehand."""

    def forward(self, images):
        pixels = images.flatten(1)
        return Outputs(pixels[:, 0:3], (pixels[:, 3:6], pixels[:, 6:9]))


def picture(*decisions):
    """[1, 1, 8, 8] on which the deployed logits and the two heads decide for these classes."""
    image = torch.zeros(64)
    for place, decided in enumerate(decisions):
        image[3 * place + decided] = 0.04
    return image.reshape(1, 1, 8, 8)


CLEAN = torch.cat([picture(0, 0, 1), picture(1, 1, 1), picture(2, 2, 0), picture(1, 2, 1)])
MOVED = torch.cat([picture(1, 1, 1), picture(1, 1, 0), picture(2, 0, 0), picture(0, 2, 1)])
LABELS = torch.tensor([0, 1, 2, 2])


def heads_of(**changes):
    view = View("fgsm@logits:ce", MOVED, "Seed 0.")
    given = {"images": CLEAN, "labels": LABELS, "indices": range(4), "worst": view}
    return exhibit_of(Heads(), **given | changes)


def test_what_heads_decide_is_counted_per_head():
    clean, attacked = gate_flips(heads_of())

    assert (clean.on, attacked.on) == ("clean", "fgsm@logits:ce")
    assert clean.values == {
        "agreement": (0.75, 0.5),
        "accuracy": (1.0, 0.25),
        "deployed_accuracy": (0.75,),
    }
    assert attacked.values == {
        "agreement": (0.5, 0.25),
        "accuracy": (0.5, 0.0),
        "deployed_accuracy": (0.5,),
        "flips": (0.5, 0.25),
        "deployed_flips": (0.5,),
    }


def test_of_a_model_from_elsewhere_nobody_knows_which_head_selects_a_gate():
    clean, attacked = gate_flips(heads_of())

    assert "selects_gate" not in attacked.values
    assert "gate_flips" not in attacked.values
    assert "is not known of a model from elsewhere" in clean.note
    assert attacked.note == f"Seed 0. {clean.note}"


def test_the_gates_of_reverse_attention_follow_the_heads_of_their_blocks():
    network = network_of("trades_ancra")
    exhibit = exhibit_of(network)
    clean, attacked = gate_flips(exhibit)
    with torch.no_grad():
        before = [one.argmax(1) for one in network(exhibit.images).auxiliary]
        after = [one.argmax(1) for one in network(exhibit.attacked.images).auxiliary]
    flipped = torch.stack([one != other for one, other in zip(before, after, strict=True)])

    assert clean.values["selects_gate"] == attacked.values["selects_gate"] == (1.0, 1.0)
    assert attacked.values["flips"] == pytest.approx(flipped.double().mean(1).tolist())
    assert attacked.values["gate_flips"] == pytest.approx((float(flipped.any(0).double().mean()),))
    assert "gate_flips" not in clean.values
    assert clean.note == "Each head selects the gate of its own block."


def test_the_heads_that_are_said_to_select_a_gate_do_select_it():
    """Told both classes by name, where both heads agree, the network computes the same."""
    network = network_of("trades_ancra")
    images, _ = images_and_labels(64)
    with torch.no_grad():
        deployed = network(images)
        first, second = (one.argmax(1) for one in deployed.auxiliary)
        told = network(images, select=first).logits
        other = network(images, select=(first + 1) % 3).logits
    same = first == second

    assert same.any()
    assert torch.equal(told[same], deployed.logits[same])
    assert not torch.allclose(other[same], deployed.logits[same])


def test_heads_without_a_gate_select_none():
    network = network_of("trades_ancra")
    network.hook.has_gate = False
    clean, attacked = gate_flips(exhibit_of(network))

    assert clean.values["selects_gate"] == (0.0, 0.0)
    assert "gate_flips" not in attacked.values


@pytest.mark.parametrize("module", [Pixels(), network_of("pgd_at_he")])
def test_without_heads_it_is_not_run_and_nothing_is_attacked(module, monkeypatch):
    monkeypatch.setattr("harness.analysis.exhibit.run_attack", None)
    (reading,) = ANALYSES["gate_flips"].read(exhibit_of(module, record=record_of(name="plain")))

    assert reading.values == {}
    assert reading.note.startswith("not run: 'plain' has neither auxiliary outputs")
