"""D21: an auxiliary head that decides already, under final logits of a larger margin."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from harness.diagnostics.adaptive_gap import adaptive_gap
from harness.diagnostics.diagnostic import (
    AMBER,
    GREEN,
    RED,
    STATES,
    Reading,
    as_floats,
    diagnostic,
)
from harness.diagnostics.examination import Examination, NotRun
from harness.diagnostics.plain_attacks import STEPS

_AGREEMENT = 0.99
_RATIO = 3.0


@diagnostic(
    "D21",
    title="Gate/head redundancy",
    amber="a head agrees on > 99 % and the final margin is > 3 times its own",
    red="and D20 is red",
    needs="heads",
)
def head_redundancy(examination: Examination) -> Reading:
    """Agreement of each head with the decision, clean and attacked, and how their margins relate.

    The smaller of the two agreements counts. A margin is that of an output's own decision, best
    minus second logit; ratio and rank correlation are taken over the clean images.
    """
    if examination.capabilities.auxiliary == 0:
        raise NotRun("the model exposes no auxiliary heads.")
    attack = examination.spec("apgd_ce", steps=STEPS)
    attacked = examination.run(attack).adversarial.to(examination.device)
    clean, adversarial = examination.outputs(examination.images), examination.outputs(attacked)
    heads = range(len(clean.auxiliary))
    final = _margin(clean.logits)
    margins = [_margin(logits) for logits in clean.auxiliary]
    details = {
        "agreement_clean": [_agreement(clean.auxiliary[h], clean.logits) for h in heads],
        "agreement_attacked": [
            _agreement(adversarial.auxiliary[h], adversarial.logits) for h in heads
        ],
        "margin_ratio": [float((final / margin.clamp(min=1e-12)).median()) for margin in margins],
        "rank_correlation": [_rank_correlation(margin, final) for margin in margins],
    }
    both = [min(pair) for pair in zip(*list(details.values())[:2], strict=True)]
    ratios = details["margin_ratio"]
    hits = [h for h in heads if both[h] > _AGREEMENT and ratios[h] > _RATIO]
    chosen = hits[0] if hits else max(heads, key=both.__getitem__)
    return Reading(
        GREEN if not hits else RED if _gap_state(examination) == RED else AMBER,
        100 * both[chosen],
        f"head {chosen} agrees with {100 * both[chosen]:.1f} % of decisions; the final margin is "
        f"{ratios[chosen]:.2g} times its own.",
        None,
        {name: as_floats(values) for name, values in details.items()},
    )


def _gap_state(examination: Examination) -> str:
    try:
        return adaptive_gap(examination).state
    except NotRun:
        return STATES[0]


def _agreement(head: Tensor, final: Tensor) -> float:
    return float((head.argmax(1) == final.argmax(1)).float().mean())


def _margin(logits: Tensor) -> Tensor:
    """[N] float64, best minus second logit."""
    top = logits.double().topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def _rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's; 0 where one of them is constant."""
    from scipy.stats import spearmanr  # noqa: PLC0415 - scipy takes a while to import

    if torch.unique(first).numel() < 2 or torch.unique(second).numel() < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(spearmanr(first.cpu().numpy(), second.cpu().numpy()).statistic)
