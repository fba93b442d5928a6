from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from tiny_exhibits import Constant, Pixels, exhibit_of, images_and_labels

from harness.analysis import feature_map as module
from harness.analysis.analysis import ANALYSES
from harness.analysis.exhibit import PGD_20
from harness.analysis.feature_map import feature_map


def _first(features, seed):
    return features[:, :2].astype(np.float32)


def _last(features, seed):
    return -features[:, -2:].astype(np.float32)


@pytest.fixture
def quick(monkeypatch):
    """Two embeddings that take no time: the first two features, and the last two negated."""
    monkeypatch.setattr(module, "EMBEDDINGS", {"tsne": _first, "umap": _last})
    monkeypatch.setattr(module, "umap_module", lambda: None)


def test_both_forms_are_embedded_together_and_read_apart(quick):
    exhibit = exhibit_of(Pixels())
    clean, attacked = feature_map(exhibit)

    for reading, view in ((clean, exhibit.clean), (attacked, exhibit.attacked)):
        features = exhibit.features(view).double().numpy()
        assert reading.on == view.on
        assert reading.values["tsne_x"] == pytest.approx(features[:, 0], abs=0.0006)
        assert reading.values["tsne_y"] == pytest.approx(features[:, 1], abs=0.0006)
        assert reading.values["umap_x"] == pytest.approx(-features[:, -2], abs=0.0006)
        assert reading.values["umap_y"] == pytest.approx(-features[:, -1], abs=0.0006)
        assert reading.values["classes"] == exhibit.labels.tolist()
    assert attacked.on == PGD_20.label


def test_coordinates_have_three_decimals_and_no_negative_zero(quick, monkeypatch):
    monkeypatch.setitem(module.EMBEDDINGS, "tsne", lambda x, _: np.full((len(x), 2), -0.00012345))
    monkeypatch.setitem(module.EMBEDDINGS, "umap", lambda x, _: np.full((len(x), 2), 12.34567))
    values = next(feature_map(exhibit_of(Pixels()))).values

    assert {*map(repr, values["tsne_x"])} == {"0.0"}
    assert {*values["umap_y"]} == {12.346}


def test_256_images_are_mapped(quick):
    images, labels = images_and_labels(300)
    clean, attacked = feature_map(
        exhibit_of(Pixels(), images=images, labels=labels, indices=range(300))
    )

    assert {len(numbers) for one in (clean, attacked) for numbers in one.values.values()} == {256}
    assert clean.values["classes"] == labels[:256].tolist()


def test_without_umap_there_is_t_sne_and_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    clean, attacked = feature_map(exhibit_of(Pixels()))

    assert {*clean.values} == {*attacked.values} == {"tsne_x", "tsne_y", "classes"}
    assert clean.note == "umap-learn is not installed: there is no UMAP."
    assert attacked.note.endswith(clean.note)
    assert len({*clean.values["tsne_x"]}) > 20


def test_the_same_images_give_the_same_map(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)

    assert [*feature_map(exhibit_of(Pixels()))] == [*feature_map(exhibit_of(Pixels()))]


@pytest.mark.parametrize(
    ("exhibit", "why"),
    [
        (exhibit_of(Constant(1)), "returns no features"),
        (exhibit_of(Pixels(), labels=torch.arange(3), indices=range(3)), "--examples"),
    ],
)
def test_what_cannot_be_mapped_is_said_before_anything_is_attacked(exhibit, why, monkeypatch):
    monkeypatch.setattr("harness.analysis.exhibit.run_attack", None)
    (reading,) = ANALYSES["feature_map"].read(exhibit)

    assert reading.values == {}
    assert why in reading.note
