"""ANCRA's histograms: how near is a class to its adversarial copies, and to other classes?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import Exhibit, NotRun

BINS = 40


@analysis(
    "exclusion_alignment",
    title="Distances within and between classes",
    shown=("exclusion_cosine", "alignment_cosine", "exclusion_l2", "alignment_l2"),
    source="ANCRA, figures 1, 4 and 8",
)
def exclusion_alignment(exhibit: Exhibit) -> Iterator[Reading]:
    """Cosine and Euclidean distance of each class to other classes and to its attacked copies.

    On clean images: exclusion, every image of a class against every image of the others. Under an
    attack: exclusion, every clean image of a class against every attacked image of the others;
    alignment, every clean image against its own attacked copy. `cosine` is the similarity, in
    [-1, 1]; `l2` the distance of the features as they are. The paper draws classes 0, 1, 3 and 7
    under PGD-10; here every class, under the worst stored attack.

    Values: `classes`, those that have images; `PAIR_METRIC_mean` and `PAIR_METRIC_median`, one
    number per class; `PAIR_METRIC`, the mean of the classes' means; per class c
    `PAIR_METRIC_counts_c`, the histogram over `cosine_edges` or `l2_edges`, which both readings
    share.
    """
    clean, labels = exhibit.features(exhibit.clean), exhibit.labels
    seen = exhibit.attacked
    attacked = exhibit.features(seen)
    classes = _classes(labels)
    edges = {"cosine": _edges(-1.0, 1.0), "l2": _edges(0.0, _furthest(clean, attacked, labels))}
    for view, others in ((exhibit.clean, clean), (seen, attacked)):
        values: dict[str, Sequence[float]] = {"classes": classes}
        values |= {f"{metric}_edges": bounds.tolist() for metric, bounds in edges.items()}
        for metric, between in METRICS.items():
            values |= _numbers(
                "exclusion",
                metric,
                edges[metric],
                {c: between(clean[labels == c], others[labels != c]).flatten() for c in classes},
            )
            if others is not clean:
                own = _matching(metric, clean, others)
                pairs = {c: own[labels == c] for c in classes}
                values |= _numbers("alignment", metric, edges[metric], pairs)
        yield Reading(view.on, values, view.note)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """[n, R], [m, R] -> [n, m], in [-1, 1]."""
    return (_unit(first) @ _unit(second).T).clamp(-1, 1)


def distances(first: Tensor, second: Tensor) -> Tensor:
    """[n, R], [m, R] -> [n, m], Euclidean."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": cosines, "l2": distances}


def _matching(metric: str, first: Tensor, second: Tensor) -> Tensor:
    """[n], of each row to the row of the same place."""
    if metric == "cosine":
        return (_unit(first) * _unit(second)).sum(1).clamp(-1, 1)
    return (first - second).square().sum(1).sqrt()


def _unit(features: Tensor) -> Tensor:
    return functional.normalize(features, dim=1, eps=1e-12)


def _classes(labels: Tensor) -> list[int]:
    found: list[int] = torch.unique(labels).tolist()
    if len(found) < 2:
        raise NotRun("the images are all of one class: look at more with --examples.")
    return found


def _edges(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, BINS + 1, dtype=torch.float64)


def _furthest(clean: Tensor, attacked: Tensor, labels: Tensor) -> float:
    """The largest distance that any histogram has to hold."""
    found = [
        distances(clean[labels == c], others[labels != c]).max()
        for c in _classes(labels)
        for others in (clean, attacked)
    ]
    return float(torch.stack([_matching("l2", clean, attacked).max(), *found]).max()) or 1.0


def _numbers(
    pair: str, metric: str, edges: Tensor, by_class: dict[int, Tensor]
) -> dict[str, Sequence[float]]:
    """Mean and median per class, and one histogram each."""
    means = [float(one.double().mean()) for one in by_class.values()]
    found: dict[str, Sequence[float]] = {
        f"{pair}_{metric}": (sum(means) / len(means),),
        f"{pair}_{metric}_mean": means,
        f"{pair}_{metric}_median": [_median(one) for one in by_class.values()],
    }
    for c, values in by_class.items():
        inside = values.double().cpu().clamp(float(edges[0]), float(edges[-1]))
        found[f"{pair}_{metric}_counts_{c}"] = torch.histogram(inside, edges).hist.tolist()
    return found


def _median(values: Tensor) -> float:
    """The mean of the two middle ones where their number is even."""
    ordered = values.sort().values.double()
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
