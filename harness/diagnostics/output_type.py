"""D15: outputs of an unusual scale or type, which weaken a loss that depends on the scale."""

from __future__ import annotations

import torch

from harness.diagnostics.diagnostic import (
    AMBER,
    GREEN,
    STATES,
    Reading,
    diagnostic,
    graded_difference,
    points,
    worst,
)
from harness.diagnostics.examination import Examination
from harness.diagnostics.plain_attacks import STEPS
from harness.diagnostics.raw_pass import spread

_SCALES = {"0.1": "ce(0.1)", "1": "ce", "10": "ce(10)", "20": "ce(20)"}
_BOUNDED = 1.5
_NARROW, _WIDE = 0.2, 50.0
_ROUNDING = 1e-4


@diagnostic(
    "D15",
    title="Logit scale / output type",
    amber="probabilities, bounded or oddly spread logits, or another scale breaks > 0.5 points "
    "more",
    red="another scale breaks > 2 points more",
)
def output_type(examination: Examination) -> Reading:
    """What the outputs look like, and what Auto-PGD gains when the logits are rescaled.

    Only what a rescaling breaks in addition counts: scaling up makes the cross-entropy of every
    confident model vanish, scaling down spreads it over all rivals, so that every model, honest
    ones too, keeps more under some scale.
    """
    kinds = _kinds(examination)
    broken = {
        scale: examination.broken(examination.spec("apgd_ce", steps=STEPS, loss=loss))
        for scale, loss in _SCALES.items()
    }
    gains = {
        scale: graded_difference(broken[scale], broken["1"], examination.right, amber=0.5, red=2)
        for scale in _SCALES
        if scale != "1"
    }
    scale = max(gains, key=lambda key: (STATES.index(gains[key].state), gains[key].points))
    gain = gains[scale]
    said = "; ".join(kinds) or "ordinary logits"
    return Reading(
        worst([gain.state, AMBER if kinds else GREEN]),
        gain.points,
        f"{said}; with logits times {scale} cross-entropy breaks {gain.points:.1f} points more.",
        gain.proof,
        {f"scale_{scale}": (100 - points(mask, examination),) for scale, mask in broken.items()}
        | {"spread": (spread(examination),), "largest": (_largest(examination),)},
    )


def _kinds(examination: Examination) -> list[str]:
    """What is unusual about the outputs, in words."""
    logits, found = examination.logits, []
    inside = bool((logits >= -_ROUNDING).all() and (logits <= 1 + _ROUNDING).all())
    if inside and torch.allclose(logits.sum(1), torch.ones(()).to(logits), atol=_ROUNDING):
        found.append("the outputs are probabilities")
    if _largest(examination) < _BOUNDED:
        found.append(f"no logit exceeds {_BOUNDED:g}")
    if not _NARROW <= spread(examination) <= _WIDE:
        found.append(f"the three best logits spread over {spread(examination):.3g}")
    return found


def _largest(examination: Examination) -> float:
    return float(examination.logits.abs().max())
