"""How a text such as `auxiliary(0)` becomes a surface, and what a model must expose for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.attacks.surfaces import (
    Auxiliary,
    Cosine,
    Features,
    Gate,
    Logits,
    LogSoftmaxMean,
    Smallest,
    StraightThrough,
    Sum,
    Surface,
    Surrogate,
    Training,
    TrainingLoss,
    Twin,
    TwoPhase,
    Weighted,
)
from harness.errors import HarnessError, unknown_name
from harness.identity import Capabilities
from harness.outputs import Model


@dataclass(frozen=True)
class Kind:
    """What people may write for one surface.

    Args:
        meaning: one line, with the objective's id.
        build: (model, argument) -> surface; the training loss and surrogates are added elsewhere.
        argument: pattern of what may stand in parentheses, empty where nothing may.
        default: what nothing in parentheses means, None where something must stand there.
        lacks: (capabilities, argument) -> whether the model does not expose what it needs.
        forwards: model passes per look, at most.
        has_classes: whether a loss of logits can be climbed on it.
        needs_targets: whether the loss must be a targeted one.
        compares_classes: whether targets must be classes, so that a feature attack cannot match
            vectors on it.
    """

    meaning: str
    build: Callable[[Model, str], Surface]
    argument: str = ""
    default: str | None = ""
    lacks: Callable[[Capabilities, str], bool] = lambda *_: False
    forwards: int = 1
    has_classes: bool = True
    needs_targets: bool = False
    compares_classes: bool = False


DIGITS = 12
"""Hexadecimal digits of a checkpoint's digest that name it as a surrogate."""

_DIGEST = rf"[0-9a-f]{{{DIGITS}}}"
_NUMBER = r"\d{1,6}(\.\d{1,12})?"


def _no_heads(capabilities: Capabilities, _: str) -> bool:
    return capabilities.auxiliary == 0


def _no_gate(capabilities: Capabilities, _: str) -> bool:
    return not capabilities.select


def _no_such_head(capabilities: Capabilities, argument: str) -> bool:
    return int(argument) >= capabilities.auxiliary


def _no_such_weights(capabilities: Capabilities, argument: str) -> bool:
    return len(argument.split(":")) != 1 + capabilities.auxiliary


def _no_such_features(capabilities: Capabilities, argument: str) -> bool:
    if argument.isdigit():
        return not capabilities.strip or int(argument) >= capabilities.auxiliary
    return not (capabilities.strip if argument else capabilities.features)


def _elsewhere(_: Model, argument: str) -> Surface:
    raise ValueError(f"built by surface_named: {argument}")


SURFACES = {
    "logits": Kind("final logits as deployed (A0)", lambda m, _: Logits(m)),
    "cosine": Kind(
        "cosines of logits that are negative angles (A8)",
        lambda m, _: Cosine(m),
        lacks=lambda c, _: "angular_logits" not in c.signs,
    ),
    "auxiliary": Kind(
        "auxiliary head number N alone: auxiliary(0) (A1)",
        lambda m, a: Auxiliary(m, int(a)),
        argument=r"\d{1,3}",
        default=None,
        lacks=_no_such_head,
    ),
    "sum": Kind(
        "final loss + weight x mean auxiliary loss: sum(2) (A2)",
        lambda m, a: Sum(m, float(a)),
        argument=_NUMBER,
        default="2",
        lacks=_no_heads,
    ),
    "weighted": Kind(
        "losses of final and auxiliary logits by weight: weighted(0:1:1) (RA-S3)",
        lambda m, a: Weighted(m, tuple(float(weight) for weight in a.split(":"))),
        argument=r"(?=.*[1-9])\d{1,3}(\.\d{1,3})?(:\d{1,3}(\.\d{1,3})?)+",  # not all are 0
        default=None,
        lacks=_no_such_weights,
    ),
    "smallest": Kind(
        "smooth minimum of all losses at this temperature: smallest(1) (A3)",
        lambda m, a: Smallest(m, float(a)),
        argument=_NUMBER,
        default="1",
        lacks=_no_heads,
    ),
    "log_softmax_mean": Kind(
        "mean log-softmax of all outputs as one vector of logits (RA-S9)",
        lambda m, _: LogSoftmaxMean(m),
        lacks=_no_heads,
    ),
    "straight_through": Kind(
        "hard gate or operation forward, soft one of this temperature backward (A4, A11)",
        lambda m, a: StraightThrough(m, float(a)),
        argument=_NUMBER,
        default="1",
        lacks=lambda c, _: not (c.select or c.hard),
    ),
    "two_phase": Kind(
        "auxiliary head N until it is wrong, then the final logits: two_phase(0) (A5)",
        lambda m, a: TwoPhase(m, int(a)),
        argument=r"\d{1,3}",
        default="0",
        lacks=_no_such_head,
        compares_classes=True,
    ),
    "label_gate": Kind(
        "final logits under the true class's gate (A6)",
        lambda m, _: Gate(m, "label"),
        lacks=_no_gate,
        forwards=2,
    ),
    "rival_gate": Kind(
        "final logits under the gate of the best wrong class (A6)",
        lambda m, _: Gate(m, "rival"),
        lacks=_no_gate,
        forwards=2,
    ),
    "target_gate": Kind(
        "final logits under the gate of a targeted attack's class (A6)",
        lambda m, _: Gate(m, "target"),
        lacks=_no_gate,
        forwards=2,
        needs_targets=True,
        compares_classes=True,
    ),
    "training_loss": Kind(
        "the defense's own training loss (A7)",
        _elsewhere,
        lacks=lambda c, _: not c.training_loss,
        forwards=3,
        compares_classes=True,
    ),
    "stripped": Kind(
        "the same weights without the defense's module (A9)",
        lambda m, _: Twin(m),
        lacks=lambda c, _: not c.strip,
        forwards=2,
    ),
    "mixed": Kind(
        "half the loss of the deployed logits, half of the stripped twin's (A9)",
        lambda m, _: Twin(m, 0.5),
        lacks=lambda c, _: not c.strip,
        forwards=2,
    ),
    "features": Kind(
        "penultimate vector; features(gated), features(0): gated, or of a head (A10)",
        Features,
        argument=r"gated|\d{1,3}",
        lacks=_no_such_features,
        has_classes=False,
    ),
    "surrogate": Kind(
        f"final logits of another checkpoint, by {DIGITS} digits of its digest (transfer)",
        _elsewhere,
        argument=_DIGEST,
        default=None,
        forwards=2,
    ),
}
"""What people may write for `surface=`, and what each means."""

_TEXT = re.compile(r"([a-z_]+)(?:\(([a-z0-9.:]+)\))?")
_GONE = {
    "rescaled": "The factor of the logits is part of the loss: write loss=ce(10) or loss=ce(std)."
}
"""Names that older databases and scripts use, and what replaces them."""


def surface_named(
    text: str,
    model: Model,
    capabilities: Capabilities,
    training_loss: TrainingLoss | None = None,
    surrogates: Mapping[str, Model] | None = None,
) -> Surface:
    """The surface that `text` names, such as `logits`, `auxiliary(0)` or `sum(2)`.

    Args:
        text: as in `SURFACES`.
        model: the deployed model.
        capabilities: what it exposes.
        training_loss: the defense's own.
        surrogates: other models by the start of their digest.

    Raises:
        HarnessError: unknown name, bad argument, or the model does not expose what it needs.
    """
    name, argument = split_surface(text)
    check_reachable(text, capabilities)
    if name == "training_loss":
        if training_loss is None:
            raise HarnessError("the surface 'training_loss' needs the defense's recipe.")
        return Training(model, training_loss)
    if name == "surrogate":
        if argument not in (surrogates or {}):
            raise HarnessError(f"the surface '{text}' needs a checkpoint that is not here.")
        return Surrogate(model, (surrogates or {})[argument])
    return SURFACES[name].build(model, argument)


def canonical_surface(text: str) -> str:
    """One text per surface, so that one search has one hash: `sum` and `sum(2.0)` are `sum(2)`.

    Raises:
        HarnessError: as `split_surface`.
    """
    name, argument = split_surface(text)
    return f"{name}({argument})" if argument else name


def check_reachable(text: str, capabilities: Capabilities) -> None:
    """Refuse a surface that the model does not expose.

    Raises:
        HarnessError: which capability is missing.
    """
    name, argument = split_surface(text)
    if SURFACES[name].lacks(capabilities, argument):
        raise HarnessError(
            f"the surface '{text}' is not there: this model exposes "
            f"{capabilities.auxiliary} auxiliary outputs, "
            f"{'a' if capabilities.select else 'no'} class-conditional gate, "
            f"{'a' if capabilities.training_loss else 'no'} training loss, "
            f"{'angles' if 'angular_logits' in capabilities.signs else 'no angles'}, "
            f"{'features' if capabilities.features else 'no features'} and "
            f"{'a' if capabilities.strip else 'no'} stripped twin."
        )


def split_surface(text: str) -> tuple[str, str]:
    """Name and canonical argument of a surface's text; checks both without needing a model.

    Raises:
        HarnessError: unknown name or an argument that it cannot take.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is not None and match[1] in _GONE:
        raise HarnessError(f"'{text[:80]}' is no surface any more. {_GONE[match[1]]}")
    if match is None or match[1] not in SURFACES:
        raise unknown_name("surface", (match[1] if match else text)[:80], SURFACES)
    kind = SURFACES[match[1]]
    argument = match[2] or kind.default
    if argument is None or not _fits(kind, argument, given=match[2] is not None):
        raise HarnessError(f"'{text[:80]}' is no surface. '{match[1]}' means: {kind.meaning}.")
    if argument and kind.argument != _DIGEST:
        argument = ":".join(_plain(number) for number in argument.split(":"))
    return match[1], argument


def _fits(kind: Kind, argument: str, *, given: bool) -> bool:
    if not given:
        return True
    if re.fullmatch(kind.argument, argument) is None:
        return False
    # smaller numbers have no canonical text without exponent
    return kind.argument != _NUMBER or float(argument) >= 1e-4


def _plain(text: str) -> str:
    return f"{float(text):.12g}" if text[0].isdigit() else text
