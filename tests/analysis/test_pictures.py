from __future__ import annotations

import sys
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from tiny_exhibits import Pixels, exhibit_of

from harness.analysis import pictures as module
from harness.analysis.exhibit import NotRun
from harness.analysis.pictures import drawn, pictures, subset, tsne, umap, umap_module
from harness.errors import HarnessError


def _flat(features, seed):
    return features[:, :2].astype(np.float32)


def test_a_picture_is_an_svg_with_every_image_twice(monkeypatch):
    monkeypatch.setattr(module, "EMBEDDINGS", {"flat": _flat})
    found = pictures(exhibit_of(Pixels()))
    root = ET.fromstring(found["flat"])  # noqa: S314 - our own file
    points = [one for one in root.iter() if one.tag.endswith("}use") and "style" in one.attrib]

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(points) >= 2 * 24


def test_the_same_points_give_the_same_bytes():
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    labels = np.arange(10)

    assert drawn(points, labels, ("a", "b")) == drawn(points, labels, ("a", "b"))


def test_both_halves_are_embedded_together_clean_first(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "EMBEDDINGS", {"flat": lambda x, s: seen.append(x) or _flat(x, s)})
    exhibit = exhibit_of(Pixels())
    pictures(exhibit)

    assert torch.equal(torch.from_numpy(seen[0][:24]), exhibit.features(exhibit.clean))
    assert torch.equal(torch.from_numpy(seen[0][24:]), exhibit.features(exhibit.attacked))


def test_512_images_of_ten_classes_are_chosen():
    labels = torch.arange(3000) % 20
    chosen = subset(labels)

    assert len(chosen) == 512
    assert labels[chosen].unique().tolist() == list(range(10))
    assert chosen[:11].tolist() == [*range(10), 20]


def test_t_sne_keeps_two_far_clusters_apart():
    draws = np.random.default_rng(0)
    centres = np.repeat(np.eye(2, 16) * 10, 20, axis=0)
    points = tsne((centres + draws.normal(size=(40, 16))).astype(np.float32), 0)
    first, second = points[:20], points[20:]
    spread = max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max())

    assert np.linalg.norm(first.mean(0) - second.mean(0)) > spread / 2


def test_without_umap_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)

    with pytest.raises(HarnessError, match=r"pip install 'robust-harness\[analysis\]'"):
        umap_module()


def test_too_few_images_make_no_picture():
    exhibit = exhibit_of(Pixels(), labels=torch.arange(3), indices=range(3))
    exhibit.images = exhibit.images[:3]

    with pytest.raises(NotRun, match="--examples"):
        pictures(exhibit)


@pytest.mark.slow
def test_umap_runs_without_a_warning_and_repeats_itself():
    features = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = umap(features, 0), umap(features, 0)

    assert first.shape == (60, 2)
    assert np.array_equal(first, second)
