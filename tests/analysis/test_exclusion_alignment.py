from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_exhibits import Pixels, exhibit_of

from harness.analysis.analysis import ANALYSES
from harness.analysis.exclusion_alignment import exclusion_alignment
from harness.analysis.exhibit import View


def _by_numpy(first, second, metric):
    first, second = first[:, None].astype(float), second[None].astype(float)
    if metric == "l2":
        return np.sqrt(((first - second) ** 2).sum(-1))
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return (first * second).sum(-1) / norms


@pytest.fixture(scope="module")
def seen():
    exhibit = exhibit_of(Pixels())
    return exhibit, *exclusion_alignment(exhibit)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_histograms_means_and_medians_are_those_of_numpy(seen, metric):
    exhibit, clean, attacked = seen
    labels = exhibit.labels.numpy()
    before, after = (exhibit.features(view).numpy() for view in (exhibit.clean, exhibit.attacked))
    edges = np.array(clean.values[f"{metric}_edges"])
    for reading, others in ((clean, before), (attacked, after)):
        for place, c in enumerate(reading.values["classes"]):
            pairs = _by_numpy(before[labels == c], others[labels != c], metric).ravel()
            values = reading.values
            counts = values[f"exclusion_{metric}_counts_{c}"]
            assert sum(counts) == len(pairs) == 8 * 16
            assert np.abs(np.array(counts) - np.histogram(pairs, edges)[0]).sum() <= 2  # rounding
            assert values[f"exclusion_{metric}_mean"][place] == pytest.approx(pairs.mean(), 1e-5)
            median = values[f"exclusion_{metric}_median"][place]
            assert median == pytest.approx(np.median(pairs), 1e-5)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_alignment_pairs_each_image_with_its_own_copy(seen, metric):
    exhibit, clean, attacked = seen
    labels = exhibit.labels.numpy()
    before, after = (exhibit.features(view).numpy() for view in (exhibit.clean, exhibit.attacked))
    own = np.diag(_by_numpy(before, after, metric))
    expected = [own[labels == c].mean() for c in range(3)]

    assert f"alignment_{metric}" not in clean.values
    assert attacked.values[f"alignment_{metric}_mean"] == pytest.approx(expected, 1e-5)
    assert attacked.values[f"alignment_{metric}"] == pytest.approx([np.mean(expected)], 1e-5)
    assert sum(attacked.values[f"alignment_{metric}_counts_1"]) == 8


def test_both_readings_share_edges_that_hold_every_distance(seen):
    _, clean, attacked = seen

    assert clean.values["l2_edges"] == attacked.values["l2_edges"]
    assert clean.values["cosine_edges"][0] == -1.0
    assert clean.values["cosine_edges"][-1] == 1.0
    filled = [
        values[-1] for r in (clean, attacked) for n, values in r.values.items() if "l2_counts" in n
    ]
    assert max(filled) >= 1  # the largest distance is in the last bin


def test_images_that_no_attack_moved_are_aligned_with_themselves():
    exhibit = exhibit_of(Pixels())
    exhibit.worst = View("nothing", exhibit.images, "told")
    _, still = exclusion_alignment(exhibit)

    assert still.note == "told"
    assert still.values["alignment_cosine"] == pytest.approx([1.0], abs=1e-6)
    assert still.values["alignment_l2"] == (0.0,)


def test_one_class_alone_is_not_run():
    one = exhibit_of(Pixels(), labels=torch.zeros(24).long())
    (reading,) = ANALYSES["exclusion_alignment"].read(one)

    assert reading.values == {}
    assert "all of one class" in reading.note
