"""What the gradient attacks break together: what queries, transfer and noise are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from harness.attacks.attack import ATTACKS
from harness.diagnostics.examination import Examination, NoGradient, NotRun, Trial
from harness.identity import AttackSpec
from harness.protocols import Target, protocol_named


class Union(NamedTuple):
    """What several attacks break together.

    Args:
        broken: [N] bool, clean-correct and broken by at least one.
        done: those that ran.
        skipped: why the others did not, by label.
    """

    broken: Tensor
    done: list[AttackSpec]
    skipped: dict[str, str]


def white_box_specs(examination: Examination, *, adaptive: bool) -> list[AttackSpec]:
    """Gradient attacks on the deployed logits; with `adaptive` on every exposed surface too.

    The adaptive ones are those of the protocol of that name, so that D04 to D06 are read against
    the same suite that the row is ranked by (`protocol.md` section 5, verdict).
    """
    suite = _standard(examination)
    if adaptive:
        # without surrogates: transfer is what D05 compares with
        target = Target(examination.capabilities, examination.threat.norm)
        wanted = [spec for spec, _ in protocol_named("adaptive").wanted(target)]
        suite += [
            _scaled(examination, spec)
            for spec in wanted
            if ATTACKS[spec.attack].knowledge == "white_box"
        ]
    return list(dict.fromkeys(suite))


def white_box(examination: Examination, *, adaptive: bool | None = None) -> Union:
    """What they break; adaptive where the row is, unless said otherwise."""
    is_adaptive = examination.row.is_adaptive if adaptive is None else adaptive
    return union(examination, white_box_specs(examination, adaptive=is_adaptive))


def union(examination: Examination, specs: Iterable[AttackSpec]) -> Union:
    """What these attacks break together; one that cannot run breaks nothing and is named."""
    found = Union(torch.zeros(len(examination.labels), dtype=torch.bool), [], {})
    for spec in specs:
        try:
            found.broken.logical_or_(examination.run(spec).broken)
            found.done.append(spec)
        except NotRun as reason:
            found.skipped[spec.label] = str(reason)
    return found._replace(broken=found.broken & examination.right)


def pgd_100(examination: Examination, loss: str = "ce") -> Trial:
    """PGD of 100 steps, which several diagnostics share.

    Raises:
        NotRun: the loss is not defined for so few classes.
        NoGradient: the model cannot be differentiated.
    """
    return examination.run(examination.spec("pgd", steps=100, loss=loss))


def broken_by_pgd_100(examination: Examination) -> Tensor:
    """[N] bool, clean-correct and broken; none where the model cannot be differentiated."""
    try:
        return pgd_100(examination).broken & examination.right
    except NoGradient:
        return torch.zeros_like(examination.right)


def losses_for(examination: Examination) -> list[str]:
    """The untargeted losses that are defined for so many classes."""
    return ["ce", "margin", *(["dlr"] if examination.capabilities.classes >= 3 else [])]


def _standard(examination: Examination) -> list[AttackSpec]:
    spec, classes = examination.spec, examination.capabilities.classes
    suite = [
        spec("fgsm"),
        spec("pgd", steps=100),
        spec("pgd", steps=100, loss="margin"),
        spec("apgd_ce", steps=100),
        spec("apgd_ce", steps=100, loss="margin"),
        spec("deepfool", steps=100),
    ]
    if classes >= 3:
        suite.append(spec("apgd_dlr", steps=100))
    if classes >= 4:
        suite += [
            spec(name, steps=100, targets=min(9, classes - 1)) for name in ("apgd_t", "fab_t")
        ]
    return suite


def _scaled(examination: Examination, spec: AttackSpec) -> AttackSpec:
    """The same attack, as short as the examination's effort says."""
    loss = None if spec.loss == "own" else spec.loss
    return examination.spec(spec.attack, surface=spec.surface, loss=loss, **dict(spec.parameters))
