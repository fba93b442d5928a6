"""Negative controls: models that hide nothing, on which nothing may be amber or red."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from torch import nn

from harness.diagnostics.diagnostic import GREEN
from harness.diagnostics.examination import Examination
from harness.evaluation.handle import Handle
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall
from harness.threat import ThreatModel

SURROGATE = "0" * 12
"""Stands for the start of a digest."""

ATTACKED = {f"D{number:02d}": GREEN for number in range(1, 14)}
"""The diagnostics that compare attacks: D01 to D13."""


@exhibit(**ATTACKED)
def linear_model(hall: Hall) -> Examination:
    """Softmax regression: its exact robust accuracy is known, and every attack must agree."""
    return hall.examine(hall.linear, surrogates={SURROGATE: Handle(hall.honest, 10)})


@exhibit(**ATTACKED)
def honest_network(hall: Hall) -> Examination:
    """A small network trained on adversarial images, with nothing that masks its gradients."""
    return hall.examine(hall.honest, surrogates={SURROGATE: Handle(hall.linear, 10)})


def within_one_fifth(hall: Hall, module: nn.Module, examples: int | None = None) -> Examination:
    """An examination at epsilon 1/5, the default of digits, with the honest model to borrow from.

    At the hall's own epsilon so few images break that a handful decides; here most do, so that
    what an exhibit hides is large.
    """
    examination = hall.examine(
        module, examples=examples, surrogates={SURROGATE: Handle(hall.linear, 10)}
    )
    return replace(examination, threat=ThreatModel("linf", Fraction(1, 5)))
