from __future__ import annotations

import math

import pytest
import torch
from tiny_exhibits import Pixels, exhibit_of, network_of

from harness.analysis.analysis import ANALYSES
from harness.analysis.angular_margins import angular_margins, margins

Z = torch.tensor([[3.0, 4.0]])
W = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
THETA = (0.927295, 0.643501, 2.214297)


@pytest.mark.parametrize(("label", "nearest"), [(0, 1), (1, 0), (2, 1)])
def test_margins_are_those_of_the_published_angles(label, nearest):
    margin, own = margins(Z, W, torch.tensor([label]))

    assert float(own) == pytest.approx(THETA[label], abs=1e-6)
    assert float(margin) == pytest.approx(THETA[label] - THETA[nearest], abs=1e-6)


def test_lengths_change_no_angle():
    label = torch.tensor([0])
    lengths = torch.tensor([[2.0], [5.0], [0.1]])

    assert torch.allclose(margins(7 * Z, lengths * W, label)[0], margins(Z, W, label)[0])


def test_opposite_and_equal_directions_give_finite_angles():
    margin, own = margins(torch.tensor([[1.0, 0.0]]), W, torch.tensor([2]))

    assert float(own) == pytest.approx(math.pi)
    assert float(margin) == pytest.approx(math.pi)


@pytest.mark.parametrize("defense", ["pgd_at_he", "trades_ancra"])
def test_a_margin_is_negative_where_cosines_of_what_the_head_sees_decide_rightly(defense):
    network = network_of(defense)
    exhibit = exhibit_of(network)
    clean, attacked = angular_margins(exhibit)
    with torch.no_grad():
        outputs = network(exhibit.images)
        seen = outputs.features if outputs.gated is None else outputs.gated
        cosines = torch.nn.functional.cosine_similarity(
            seen[:, None], network.head.rows[None], dim=2
        )
    right = cosines.argmax(1) == exhibit.labels

    mean = float(margins(seen, network.head.rows, exhibit.labels)[0].mean())
    assert clean.values["mean"] == (pytest.approx(mean, abs=1e-6),)
    assert clean.values["share_negative"] == (pytest.approx(float(right.double().mean())),)
    assert clean.values["quantiles"] == sorted(clean.values["quantiles"])
    assert clean.values["quantiles"][0] < clean.values["mean"][0] < clean.values["quantiles"][-1]
    assert attacked.values["mean"][0] > clean.values["mean"][0]


def test_a_model_from_elsewhere_is_not_run():
    (reading,) = ANALYSES["angular_margins"].read(exhibit_of(Pixels()))

    assert reading.values == {}
    assert "not trained here" in reading.note
