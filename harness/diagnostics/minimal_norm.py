"""D22 and D23: what attacks that look for the nearest wrong decision say about the others."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.geometry import floor_float
from harness.diagnostics.counts import some_right
from harness.diagnostics.diagnostic import (
    AMBER,
    GREEN,
    LEVEL,
    Reading,
    as_floats,
    diagnostic,
    graded_difference,
)
from harness.diagnostics.examination import Examination, NotRun
from harness.diagnostics.plain_attacks import STEPS, available, plain_attacks

QUERIES = 1000
"""Of RayS, as in D04, so that both read the same run."""

_BIN = 0.05
_TIMES = 3.0


@diagnostic("D22", title="Minimal-norm consistency", amber="> 0.3 points", red="> 1 point")
def minimal_norm(examination: Examination) -> Reading:
    """Images on which FAB or DeepFool stay within epsilon though no PGD or Auto-PGD breaks them."""
    distance = _distances(examination, "fab", "deepfool")
    near = examination.right & (distance <= _epsilon(examination))
    broken = examination.broken(*plain_attacks(examination))
    found = graded_difference(near | broken, broken, examination.right, amber=0.3, red=1)
    return Reading(
        found.state,
        found.points,
        f"minimal-norm attacks break {int(found.proof.sum())} images that PGD and Auto-PGD do not.",
        found.proof,
        {"minimal_norm": (float(near.sum()),), "pgd_and_apgd": (float(broken.sum()),)},
    )


@diagnostic(
    "D23",
    title="Distance histogram",
    amber="> 3 times the neighbouring bins in the 5 % above epsilon",
    red="never",
)
def distance_pile_up(examination: Examination) -> Reading:
    """Whether the smallest distances to a wrong decision pile up just above epsilon.

    Bins are 5 % of epsilon wide; the neighbours are the one below epsilon and the one above the
    pile, of which the mean is taken. Three equally likely bins must be rejected at 1 % as well.
    """
    relative = _distances(examination, "fab", "rays") / _epsilon(examination)
    relative = relative[some_right(examination)]
    below, pile, above = (
        int(((relative > 1 + (k - 1) * _BIN) & (relative <= 1 + k * _BIN)).sum()) for k in range(3)
    )
    ratio = pile / max(0.5, (below + above) / 2)  # an empty neighbourhood counts as one image
    is_hit = ratio > _TIMES and _unequal(pile, below + above)
    return Reading(
        AMBER if is_hit else GREEN,
        ratio,
        f"{pile} images are first wrong within 5 % above epsilon, {below} and {above} in the bins "
        "beside.",
        None,
        {"distance_over_epsilon": as_floats(relative[torch.isfinite(relative)])},
    )


def _unequal(pile: int, beside: int) -> bool:
    from scipy.special import bdtrc  # noqa: PLC0415 - scipy takes a while to import

    return pile > 0 and float(bdtrc(pile - 1, pile + beside, 1 / 3)) < LEVEL


def _epsilon(examination: Examination) -> float:
    return floor_float(examination.threat.epsilon)


def _distances(examination: Examination, *names: str) -> Tensor:
    """[N] float64, the smallest distance at which any of the attacks saw a wrong decision."""
    found = available(examination, *names)
    if not found:
        raise NotRun(f"none of {', '.join(names)} is defined for {examination.threat.norm}.")
    nearest = [
        examination.run(
            examination.spec(name, queries=QUERIES)
            if name == "rays"
            else examination.spec(name, steps=STEPS)
        ).nearest
        for name in found
    ]
    return torch.stack(nearest).amin(0)
