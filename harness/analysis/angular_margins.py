"""HE's angular margins: how much nearer in angle is the own class than the next?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import Exhibit, NotRun, View, features_of

LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@analysis(
    "angular_margins",
    title="Angle to the own class minus the smallest other",
    shown=("mean", "share_negative"),
    source="HE, section 3.2; `he.md` section 1",
)
def angular_margins(exhibit: Exhibit) -> Iterator[Reading]:
    """Per image, the angle to its class's weights minus the smallest angle to another class's.

    In radians; negative is right in angle, which is the decision of a hypersphere head and close
    to that of a linear one, whose norms and biases also count. Behind a gate the angle is that of
    the gated features, which the head sees.

    Values: `levels` and `quantiles` of the margin, `mean`, `share_negative` in [0, 1],
    `own_quantiles` of the angle to the own class.
    """
    if exhibit.network is None:
        raise NotRun(
            f"'{exhibit.record.name}' was not trained here, and which weights belong to which "
            "class is not known of it."
        )
    rows = exhibit.network.head.rows.detach()
    for view in (exhibit.clean, exhibit.attacked):
        margin, own = margins(_seen_by_head(exhibit, view), rows, exhibit.labels)
        yield Reading(
            view.on,
            {
                "levels": LEVELS,
                "quantiles": _quantiles(margin),
                "mean": (float(margin.mean()),),
                "share_negative": (float((margin < 0).double().mean()),),
                "own_quantiles": _quantiles(own),
            },
            view.note,
        )


def margins(features: Tensor, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Margins and angles to the own class.

    Args:
        features: [N, R].
        rows: [K, R], the weights of each class.
        labels: [N] int64.

    Returns:
        [N] float64, in [-pi, pi]; [N] float64, in [0, pi].
    """
    z = functional.normalize(features.double(), dim=1, eps=1e-12)
    w = functional.normalize(rows.double(), dim=1, eps=1e-12)
    angles = (z @ w.T).clamp(-1, 1).arccos()
    own = angles.gather(1, labels[:, None])[:, 0]
    others = angles.scatter(1, labels[:, None], math.inf).amin(1)
    return own - others, own


def _seen_by_head(exhibit: Exhibit, view: View) -> Tensor:
    outputs = exhibit.outputs(view)
    return features_of(outputs, exhibit.record) if outputs.gated is None else outputs.gated.float()


def _quantiles(values: Tensor) -> list[float]:
    levels = torch.tensor(LEVELS, dtype=values.dtype, device=values.device)
    found: list[float] = values.quantile(levels).tolist()
    return found
