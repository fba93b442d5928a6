"""Maps of feature space as numbers: t-SNE and UMAP coordinates, clean beside attacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import Exhibit
from harness.analysis.pictures import EMBEDDINGS, Points, side_by_side, umap_module
from harness.errors import HarnessError

IMAGES = 256
DIGITS = 3
"""Decimals of a coordinate: a map is a few hundred pixels wide."""


@analysis(
    "feature_map",
    title="Coordinates of t-SNE and UMAP",
    shown=(),
    source="FRPAT, section 5.4; `frpat.md` section 7",
)
def feature_map(exhibit: Exhibit) -> Iterator[Reading]:
    """Where t-SNE and UMAP put the first 256 images of ten classes, clean and attacked.

    Both forms are embedded together by cosine distance, so that a place means the same in either.
    Distances between far groups, and the axes, mean nothing.

    Values: `tsne_x`, `tsne_y`, and where umap-learn is installed `umap_x`, `umap_y`, one number
    per image; `classes`, the true class of each.
    """
    joined = side_by_side(exhibit, IMAGES)
    names, note = _embeddings()
    values: tuple[dict[str, Sequence[float]], ...] = ({}, {})
    for name in names:
        points = EMBEDDINGS[name](joined.features, exhibit.seed)
        for half, found in zip(np.split(points, 2), values, strict=True):
            found |= {f"{name}_x": _rounded(half[:, 0]), f"{name}_y": _rounded(half[:, 1])}
    for view, found in zip(joined.views, values, strict=True):
        found["classes"] = joined.labels.tolist()
        yield Reading(view.on, found, " ".join(filter(None, (view.note, note))))


def _embeddings() -> tuple[list[str], str]:
    """Those that can be made here, and a sentence about one that cannot."""
    try:
        umap_module()
    except HarnessError:
        names = [name for name in EMBEDDINGS if name != "umap"]
        return names, "umap-learn is not installed: there is no UMAP."
    return list(EMBEDDINGS), ""


def _rounded(numbers: Points) -> list[float]:
    return [round(float(number), DIGITS) + 0.0 for number in numbers]  # no -0.0
