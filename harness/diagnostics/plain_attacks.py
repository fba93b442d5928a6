"""The gradient attacks on the deployed logits that several diagnostics share."""

from __future__ import annotations

from harness.attacks.attack import ATTACKS
from harness.diagnostics.examination import Examination
from harness.identity import AttackSpec

STEPS = 100


def plain_attacks(examination: Examination) -> tuple[AttackSpec, ...]:
    """PGD on the cross-entropy, and Auto-PGD on it and on a loss that no rescaling changes."""
    return (
        examination.spec("pgd", steps=STEPS),
        examination.spec("apgd_ce", steps=STEPS),
        scale_free(examination),
    )


def scale_free(examination: Examination) -> AttackSpec:
    """Auto-PGD on the difference of logits ratio; on the margin where there are two classes."""
    if examination.capabilities.classes < 3:
        return examination.spec("apgd_ce", steps=STEPS, loss="margin")
    return examination.spec("apgd_dlr", steps=STEPS)


def available(examination: Examination, *names: str) -> list[str]:
    """Those of the attacks that are registered and defined for the norm."""
    norm = examination.threat.norm
    return [name for name in names if name in ATTACKS and norm in ATTACKS[name].norms]
