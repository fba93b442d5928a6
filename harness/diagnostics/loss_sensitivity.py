"""D14: an attack that depends on its loss was stopped by the loss, not by the model."""

from __future__ import annotations

from itertools import permutations

from harness.diagnostics.diagnostic import (
    STATES,
    Reading,
    diagnostic,
    graded_difference,
    points,
)
from harness.diagnostics.examination import Examination
from harness.diagnostics.plain_attacks import STEPS, scale_free


@diagnostic("D14", title="Loss sensitivity", amber="> 3 points", red="> 6 points")
def loss_sensitivity(examination: Examination) -> Reading:
    """Largest gap between accuracies under Auto-PGD with cross-entropy, DLR and margin."""
    specs = {
        "ce": examination.spec("apgd_ce", steps=STEPS),
        "dlr": scale_free(examination),
        "margin": examination.spec("apgd_ce", steps=STEPS, loss="margin"),
    }
    broken = {loss: examination.broken(spec) for loss, spec in specs.items()}
    pairs = {
        f"{strong} than with {weak}": graded_difference(
            broken[strong], broken[weak], examination.right, amber=3, red=6
        )
        for strong, weak in permutations(broken, 2)
    }
    pair = max(pairs, key=lambda key: (STATES.index(pairs[key].state), pairs[key].points))
    gap = pairs[pair]
    return Reading(
        gap.state,
        gap.points,
        f"Auto-PGD breaks {gap.points:.1f} points more with {pair}.",
        gap.proof,
        {loss: (100 - points(mask, examination),) for loss, mask in broken.items()},
    )
