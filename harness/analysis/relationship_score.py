"""FRPAT's relationship score: do a test image's neighbours in feature space share its class?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import BLOCK, Exhibit, NotRun, features_of, look, pgd_20
from harness.errors import unknown_name

NEIGHBOURS = (5, 30, 50)
"""k of FRPAT's figure 2d; 30 where one number is asked for."""

METRICS = ("cosine", "euclidean")

_LARGEST_BLOCK = 2**24
"""Similarities in memory at once: 64 MiB of float32, whatever the number of neighbours."""


@analysis(
    "relationship_score",
    title="kNN accuracy in feature space",
    shown=("k", "cosine"),
    source="FRPAT, section 3.1 and figure 2d; `frpat.md` section 6",
)
def relationship_score(exhibit: Exhibit) -> Iterator[Reading]:
    """Accuracy of the k nearest training images, clean and under PGD-20, on penultimate features.

    Every training image votes twice with its true class: as it is and attacked by PGD-20. Queries
    are the test images: clean, under PGD-20 (the paper's "Robust"), and under the worst stored
    attack. The metric is not stated in the paper: cosine as in its loss, Euclidean beside it.

    Values: `k`; `cosine` and `euclidean`, accuracy in [0, 1] per k; `support`, how many features
    voted.
    """
    queries = {view.on: view for view in (exhibit.clean, exhibit.pgd_20, exhibit.attacked)}
    looked = {on: exhibit.features(view) for on, view in queries.items()}
    support, classes = support_set(exhibit)
    counts = [k for k in NEIGHBOURS if k <= len(classes)]
    if not counts:
        raise NotRun(f"{len(classes)} training features are fewer than {NEIGHBOURS[0]} neighbours.")
    for on, features in looked.items():
        accuracies = {
            metric: _accuracies(features, exhibit.labels, support, classes, counts, metric)
            for metric in METRICS
        }
        yield Reading(
            on,
            {"k": counts, **accuracies, "support": (len(classes),)},
            queries[on].note,
        )


def support_set(exhibit: Exhibit) -> tuple[Tensor, Tensor]:
    """Features [2 M, R] of the training images, clean and under PGD-20, with labels [2 M].

    Raises:
        NotRun: no training images here, or no features.
    """
    learnt, device = exhibit.learnt, exhibit.images.device
    features: list[Tensor] = []
    labels: list[Tensor] = []
    for first in range(0, len(learnt.labels), BLOCK):
        chosen = range(first, min(first + BLOCK, len(learnt.labels)))
        images = learnt.images[first : chosen.stop].to(device).float() / 255
        classes = learnt.labels[first : chosen.stop].to(device)
        attacked = pgd_20(
            exhibit.model, images, classes, chosen, exhibit.threat, exhibit.seed, split="train"
        )
        for some in (images, attacked.images):
            features.append(features_of(look(exhibit.model, some), exhibit.record))
            labels.append(classes)
    return torch.cat(features), torch.cat(labels)


def vote(
    queries: Tensor,
    support: Tensor,
    labels: Tensor,
    counts: Sequence[int],
    *,
    metric: str = "cosine",
) -> Tensor:
    """What the k nearest of the support say, for several k at once.

    The class with most votes wins; of classes with as many, the one whose voters are more similar
    in sum (Euclidean: nearer in sum), then the smaller index. Of equally near features those that
    come first in the support vote.

    Args:
        queries: [Q, R].
        support: [S, R].
        labels: [S] int64.
        counts: every k, at most S.
        metric: `cosine` or `euclidean`.

    Returns:
        [len(counts), Q] int64, the predicted classes.

    Raises:
        HarnessError: unknown metric.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    queries, support = _prepared(queries, support, metric)
    size = max(1, _LARGEST_BLOCK // len(support))
    found = []
    for block in torch.split(queries, size):
        similarities = _similarities(block, support, metric)
        values, places = _nearest(similarities, max(counts))
        found.append(torch.stack([_winners(values[:, :k], labels[places[:, :k]]) for k in counts]))
    return torch.cat(found, dim=1)


def _accuracies(
    features: Tensor,
    truth: Tensor,
    support: Tensor,
    labels: Tensor,
    counts: Sequence[int],
    metric: str,
) -> list[float]:
    predicted = vote(features, support, labels, counts, metric=metric)
    return [float(row.eq(truth).double().mean()) for row in predicted]


def _prepared(queries: Tensor, support: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Unit vectors, or vectors around the mean of the support: less is cancelled far from zero."""
    if metric == "cosine":
        return (
            functional.normalize(queries, dim=1, eps=1e-12),
            functional.normalize(support, dim=1, eps=1e-12),
        )
    centre = support.mean(0)
    return queries - centre, support - centre


def _similarities(queries: Tensor, support: Tensor, metric: str) -> Tensor:
    """[Q, S]; more is nearer."""
    products = queries @ support.T
    if metric == "cosine":
        return products
    squares = queries.square().sum(1)[:, None] + support.square().sum(1) - 2 * products
    return -squares.clamp(min=0).sqrt()


def _nearest(similarities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Similarities and places [Q, count], the most similar first, of equal ones the first place."""
    values, places = similarities.topk(count, dim=1)
    torn = (similarities >= values[:, -1:]).sum(1) > count  # topk takes any of those equally near
    if torn.any():
        places[torn] = similarities[torn].argsort(dim=1, descending=True, stable=True)[:, :count]
    places = places.sort(dim=1).values
    values = similarities.gather(1, places)
    order = values.argsort(dim=1, descending=True, stable=True)
    return values.gather(1, order), places.gather(1, order)


def _winners(similarities: Tensor, labels: Tensor) -> Tensor:
    """[Q], the class of each row's voters [Q, k]."""
    classes = int(labels.max()) + 1
    votes = torch.zeros(len(labels), classes, device=labels.device)
    votes.scatter_add_(1, labels, torch.ones_like(similarities))
    sums = torch.zeros(len(labels), classes, dtype=torch.float64, device=labels.device)
    sums.scatter_add_(1, labels, similarities.double())
    return sums.masked_fill(votes < votes.amax(1, keepdim=True), -torch.inf).argmax(1)
