"""Each attack alone on every image that is right: what one attack misses, another would hide."""

from __future__ import annotations

import torch

from benchmarks.autoattack import Depth
from benchmarks.ours import attacked, bits
from benchmarks.pgd import RELATIVE_STEP, STEPS
from benchmarks.results import Comparison, Side
from benchmarks.setting import Compared
from benchmarks.timing import clocked
from harness.attacks.attack import attack_spec
from harness.identity import PRECISIONS, AttackSpec


def equality(
    model: Compared, depth: Depth | None = None, steps: int = STEPS
) -> tuple[Comparison, ...]:
    """One comparison per attack, of all precisions, once each: outcomes count here, not times.

    Args:
        model: with its images.
        depth: how far AutoAttack's parts go; Square makes its few queries.
        steps: of PGD.
    """
    depth = depth or Depth()
    *parts, _ = depth.parts(model.record.capabilities.classes)
    square = attack_spec("square", queries=depth.few)
    pgd = attack_spec("pgd", steps=steps, relative_step=RELATIVE_STEP)
    return tuple(_alone(model, spec) for spec in (*parts, square, pgd))


def _alone(model: Compared, spec: AttackSpec) -> Comparison:
    work = spec.label.partition("@")[0]
    return Comparison(work, tuple(_once(model, spec, name) for name in PRECISIONS))


def _once(model: Compared, spec: AttackSpec, precision: str) -> Side:
    seconds, outcome = clocked(lambda: attacked(model, spec, precision, model.right), model.device)
    return Side(
        precision,
        (seconds,),
        bits(torch.tensor(outcome.broken)),
        int(model.right.sum()),
        outcome.forwards,
        outcome.backwards,
    )
