"""Pictures of feature space: t-SNE and UMAP of test images, clean beside attacked."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.analysis.exhibit import Exhibit, NotRun, View
from harness.errors import HarnessError

IMAGES = 512
CLASSES = 10
"""What FRPAT's picture of the feature space holds (`frpat.md` section 7)."""

FEWEST = 8
"""Images below which no picture says anything."""

Points = NDArray[np.float32]


def umap_module() -> Any:
    """The module `umap`, imported here alone: it compiles for seconds.

    Raises:
        HarnessError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # it warns that one of its classes, which nobody asked for, would need TensorFlow
            warnings.simplefilter("ignore", ImportWarning)
            import umap  # noqa: PLC0415
    except ImportError as error:
        raise HarnessError(
            f"UMAP pictures need umap-learn ({error}): pip install 'robust-harness[analysis]', "
            "or leave out --pictures."
        ) from error
    return umap


def tsne(features: Points, seed: int) -> Points:
    """[N, R] -> [N, 2], by cosine distance."""
    from sklearn.manifold import TSNE  # noqa: PLC0415 - takes a while to import

    perplexity = min(30.0, (len(features) - 1) / 3)
    embedding = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed)
    return np.asarray(embedding.fit_transform(features), dtype=np.float32)


def umap(features: Points, seed: int) -> Points:
    """[N, R] -> [N, 2], by cosine distance; one thread, so that a seed gives one picture.

    Raises:
        HarnessError: umap-learn is not installed.
    """
    neighbours = min(15, len(features) - 1)
    embedding = umap_module().UMAP(
        n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1
    )
    return np.asarray(embedding.fit_transform(features), dtype=np.float32)


EMBEDDINGS: dict[str, Callable[[Points, int], Points]] = {"tsne": tsne, "umap": umap}


def pictures(exhibit: Exhibit) -> dict[str, bytes]:
    """One SVG per embedding: the first images of ten classes, clean on the left, attacked right.

    Both halves are embedded together, so that a point means the same in either.

    Raises:
        NotRun: the model returns no features, or there are too few images.
        HarnessError: umap-learn is not installed.
    """
    joined = side_by_side(exhibit)
    clean, attacked = joined.views
    found = {}
    for name, embed in EMBEDDINGS.items():
        points = embed(joined.features, exhibit.seed)
        found[name] = drawn(points, joined.labels, (clean.on, attacked.on))
    return found


class SideBySide(NamedTuple):
    """Features of some images in two forms, to be embedded together.

    Args:
        features: [2 n, R], the clean ones first.
        labels: [n].
        views: the images, clean and attacked.
    """

    features: Points
    labels: NDArray[np.int64]
    views: tuple[View, View]


def side_by_side(exhibit: Exhibit, most: int = IMAGES) -> SideBySide:
    """Features of the first `most` images of ten classes, clean and attacked.

    Raises:
        NotRun: the model returns no features, or there are too few images.
    """
    chosen = subset(exhibit.labels, most)
    if len(chosen) < FEWEST:
        raise NotRun(f"a picture needs {FEWEST} images at least: look at more with --examples.")
    clean = exhibit.features(exhibit.clean)[chosen]  # first: an attack costs more than to ask
    attacked = exhibit.features(exhibit.attacked)[chosen]
    return SideBySide(
        torch.cat([clean, attacked]).cpu().numpy(),
        exhibit.labels[chosen].cpu().numpy(),
        (exhibit.clean, exhibit.attacked),
    )


def subset(labels: Tensor, most: int = IMAGES) -> Tensor:
    """Positions of the first `most` images of the ten smallest classes that there are."""
    classes = torch.unique(labels)[:CLASSES]
    return torch.isin(labels, classes).nonzero()[:most, 0]


def drawn(points: Points, labels: NDArray[np.int64], titles: tuple[str, str]) -> bytes:
    """An SVG of two panels with the same axes, a colour per class.

    Args:
        points: [2 N, 2], the clean ones first.
        labels: [N].
        titles: of the panels.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes a while to import
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "robust-harness"}):  # else its ids are random
        figure = Figure(figsize=(10, 5), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        halves = np.split(points, 2)
        for panel, half, title in zip(panels, halves, titles, strict=True):
            for c in np.unique(labels):
                ours = half[labels == c]
                panel.scatter(ours[:, 0], ours[:, 1], s=6, color=f"C{c % 10}", label=str(c))
            panel.set(title=title, xticks=[], yticks=[])
        panels[1].legend(title="class", loc="center left", bbox_to_anchor=(1.0, 0.5))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
