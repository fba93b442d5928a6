"""I1 to I6: the Indicators of Attack Failure (Pintor et al., 2022, arXiv:2106.09947)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harness.attacks.losses import LOSSES
from harness.attacks.search import is_right
from harness.attacks.streams import Streams
from harness.attacks.surface_text import surface_named
from harness.diagnostics.counts import as_percent, graded_share, some_right
from harness.diagnostics.diagnostic import (
    RED,
    STATES,
    Reading,
    diagnostic,
    graded,
    graded_difference,
    points,
    worst,
)
from harness.diagnostics.examination import Examination, NoGradient, NotRun, Trial
from harness.diagnostics.plain_attacks import STEPS
from harness.diagnostics.unbounded import unbounded_attack

_SOURCE = "Pintor et al., 2022 (arXiv:2106.09947); protocol.md section 5"
_DRAWS = 100
_RADIUS = 8 / 255
_LAST_STEPS = 10
_STILL_CLIMBING = 0.05
_LEGACY_STEPS = 40


@diagnostic(
    "I1",
    title="Unavailable gradients",
    amber="any image without a gradient",
    red="> 5 % of images, or back-propagation raises",
    source=_SOURCE,
)
def unavailable_gradients(examination: Examination) -> Reading:
    """Images on which the cross-entropy's gradient is exactly zero everywhere."""
    none: dict[str, Tensor] = {}
    for loss in ("ce", "margin"):
        try:
            gradient = examination.gradient(examination.images, LOSSES[loss])
        except NoGradient as error:
            return Reading(RED, 100.0, str(error), examination.right)
        none[loss] = (gradient == 0).flatten(1).all(1).cpu()
    rates = {loss: points(mask, examination) for loss, mask in none.items()}
    return Reading(
        graded(rates["ce"], amber=0, red=5),
        rates["ce"],
        f"{rates['ce']:.1f} % of images have no gradient of the cross-entropy.",
        none["ce"] & examination.right,
        {loss: (rate,) for loss, rate in rates.items()},
    )


@diagnostic(
    "I2",
    title="Unstable predictions",
    amber="losses move by > 10 %",
    red="> 30 %",
    source=_SOURCE,
)
def unstable_predictions(examination: Examination) -> Reading:
    """Mean relative change of the loss under 100 uniform draws within 4/255, at most 1 per image.

    Draws are cut to the box, outside which no model is asked to decide. The state is that of the
    smaller of cross-entropy and margin: the first is near 0 on confident models and the second
    near the decision boundary, and a ratio to almost 0 says nothing.
    """
    right = some_right(examination)
    change = {loss: _relative_change(examination, loss) for loss in ("ce", "margin")}
    means = {loss: float(values[right].mean()) for loss, values in change.items()}
    least = min(means.values())
    return Reading(
        graded(least, amber=0.1, red=0.3),
        least,
        f"within 4/255 the cross-entropy moves by {100 * means['ce']:.0f} % on average, the "
        f"margin by {100 * means['margin']:.0f} %.",
        (torch.minimum(change["ce"], change["margin"]) > 0.3) & right,
        {loss: (mean,) for loss, mean in means.items()},
    )


@diagnostic(
    "I3",
    title="Silent success",
    amber="-",
    red="an attack that reports its last iterate misses earlier successes",
    source=_SOURCE,
)
def silent_success(examination: Examination) -> Reading:
    """Images that PGD-40 breaks on its way but not with its last iterate.

    Our runner counts every iterate, so it never reports such an image as standing; the rate is
    that of a script that reports the last one, and the state is about numbers made that way.
    """
    trial = examination.run(examination.spec("pgd", steps=_LEGACY_STEPS))
    silent = trial.broken & ~trial.last_wrong & examination.right
    nothing = torch.zeros_like(silent)
    found = graded_difference(silent, nothing, examination.right, amber=0, red=0)
    return Reading(
        found.state,
        found.points,
        f"a PGD script that reports its last iterate would miss {int(silent.sum())} of the "
        f"{int((trial.broken & examination.right).sum())} images that it breaks.",
        silent,
        {"our_runner": (0.0,), "legacy_script": (found.points,)},
    )


@diagnostic(
    "I4",
    title="Incomplete optimisation",
    amber="> 5 % of survivors still climb",
    red="> 20 %",
    source=_SOURCE,
)
def incomplete_optimisation(examination: Examination) -> Reading:
    """Survivors of PGD or Auto-PGD whose best loss still rises in the last ten steps.

    The path of losses is rescaled to [0, 1]; a rise above 0.05 counts.
    """
    found = []
    for attack in ("pgd", "apgd_ce"):
        trial = examination.run(examination.spec(attack, steps=STEPS))
        survivors = some_right(examination) & ~trial.broken
        climbing = survivors & (still_climbing(trial) > _STILL_CLIMBING)
        count, total = int(climbing.sum()), int(survivors.sum())
        grade = STATES.index(graded_share(count, total, amber=0.05, red=0.20))
        found.append((grade, as_percent(climbing, survivors), attack, climbing))
    grade, rate, attack, climbing = max(found, key=lambda each: each[:2])
    return Reading(
        STATES[grade],
        rate,
        f"{rate:.1f} % of the survivors of {attack} were still climbing when it ended.",
        climbing,
        {name: (value,) for _, value, name, _ in found},
    )


def still_climbing(trial: Trial) -> Tensor:
    """[N], rise of the best rescaled loss over the last ten looks; 0 where it never moved."""
    path = trial.trace[1:].double().nan_to_num(nan=-torch.inf)  # the first look is the clean image
    if len(path) == 0:
        return torch.zeros(trial.trace.shape[1], dtype=torch.float64)
    best = path.cummax(0).values
    low, high = path.amin(0), path.amax(0)
    width = torch.where(torch.isfinite(high - low), high - low, 0.0)
    rise = best[-1] - best[-_LAST_STEPS:][0]
    return torch.where(width > 0, rise / width.clamp(min=1e-300), 0.0)


@diagnostic(
    "I5",
    title="Transfer failure",
    amber="> 30 % of images",
    red="never",
    needs="surrogates",
    source=_SOURCE,
)
def transfer_failure(examination: Examination) -> Reading:
    """Images on which an attack broke the surrogate that it climbs, but not the target."""
    surfaces = _surrogate_surfaces(examination)
    if not surfaces:
        raise NotRun("no attack on a surrogate: no heads, no gate, no twin, no other checkpoint.")
    found = [(surface, _only_surrogate(examination, surface)) for surface in surfaces]
    right = int(examination.right.sum())
    states = [graded_share(int(mask.sum()), right, amber=0.30) for _, mask in found]
    surface, mask = max(found, key=lambda each: int(each[1].sum()))
    return Reading(
        worst(states),
        points(mask, examination),
        f"on {points(mask, examination):.1f} % of images {surface} is broken and the target not.",
        mask,
        {surface: (points(mask, examination),) for surface, mask in found},
    )


@diagnostic(
    "I6",
    title="Unconstrained failure",
    amber="any survivor",
    red="> 1 % survive",
    source=_SOURCE,
)
def unconstrained_failure(examination: Examination) -> Reading:
    """Images that PGD-100 and Auto-PGD cannot break with nothing but the box around them.

    The same runs as D07; no success is silent, since every iterate counts.
    """
    return unbounded_attack(examination)


def _relative_change(examination: Examination, loss: str) -> Tensor:
    """[N] on the CPU, mean of |L(x + d) - L(x)| / |L(x)|, at most 1."""
    climbed: Callable[[Tensor, Tensor], Tensor] = LOSSES[loss]  # type: ignore[assignment]
    labels = examination.labels
    start = climbed(examination.logits, labels).double()
    below = torch.where(start == 0, 1.0, start.abs())
    streams = Streams(examination.seed, "I2", examination.indices)
    everyone = torch.arange(len(labels))
    draws = max(1, math.ceil(_DRAWS * examination.effort))
    total = torch.zeros_like(start)
    for draw in range(draws):
        shape = examination.images.shape[1:]
        uniform = streams.uniform(everyone, shape, restart=draw, purpose="cube")
        moved = examination.images + _RADIUS * (uniform.to(examination.device) - 0.5)
        logits = examination.outputs(moved.clamp(0, 1)).logits
        total += (climbed(logits, labels).double() - start).abs() / below
    return (total / draws).nan_to_num(nan=1.0).clamp(max=1.0).cpu()


def _surrogate_surfaces(examination: Examination) -> list[str]:
    """Surfaces whose own decision can differ from the deployed one (A1, A4, A9, transfer)."""
    known = examination.capabilities
    surfaces = [f"auxiliary({head})" for head in range(known.auxiliary)]
    if known.select or known.hard:
        surfaces.append("straight_through(1)")
    if known.strip:
        surfaces.append("stripped")
    return [*surfaces, *(f"surrogate({name})" for name in examination.surrogates)]


def _only_surrogate(examination: Examination, text: str) -> Tensor:
    """[N] bool, clean-correct: wrong on the surrogate where the attack ended, target unbroken."""
    trial = examination.run(examination.spec("apgd_ce", steps=STEPS, surface=text))
    surface = surface_named(
        text,
        examination.model,
        examination.capabilities,
        examination.training_loss,
        examination.surrogates,
    )
    with torch.no_grad():
        logits = surface.rank(trial.adversarial.to(examination.device))
    fooled = ~is_right(logits, examination.labels).cpu()
    return examination.right & fooled & ~trial.broken
