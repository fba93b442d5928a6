"""The hypersphere family: logits from unit features, unit class weights, or both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import HarnessError, unknown_name
from harness.models.network import Head

SHORTEST = 1e-12
"""Shorter vectors are divided by this: they have no direction."""

CLEARANCE = 1e-6
"""How far cosines stay from 1 and -1 before the arccosine, whose derivative is then at most 707.

Beyond it the gradient is 0, in training and for attackers alike. In float32 a cosine can be
exactly 1, where the derivative is infinite.
"""

_UNITS = ("features", "weights", "both")
_VIEWS = ("cosine", "angle")
_WEIGHT_NORMS = ("divide", "project")
_INNER_SCALES = ("s", "1")


@dataclass(frozen=True)
class Hypersphere:
    """Normalised logits v; the training loss sees `scale * (v - margin)` for the true class.

    Pang et al., 2020 (arXiv:2002.08619), section 3 and equation 6; `he.md` sections 1 and 2. The
    deployed logits lack the scale, so a cross-entropy attack on them is weak; the scale is exposed
    so that the adaptive protocol can undo that. Scale and margin of the angles are our reading:
    the paper defines only the replacement of cosines by negative angles (m-HE).

    Args:
        scale: s, in [0.1, 1000].
        margin: m, subtracted from the true class's logit in training only.
        units: what has length 1: `features` (FN), `weights` (WN) or `both` (HE).
        view: `cosine`, or `angle` for the negative angle in [-pi, 0] (m-HE), of `both` only.
        weight_norm: `divide` differentiates through the division by the length; `project`, as the
            authors' code, overwrites the weights with their unit rows at each pass of training and
            takes the gradient of the plain linear layer.
        inner_scale: what inner attacks and KL terms multiply logits by: `s` as the authors' code,
            or `1` as the formulas of their table 1.
    """

    scale: float = 15.0
    margin: float = 0.2
    units: str = "both"
    view: str = "cosine"
    weight_norm: str = "divide"
    inner_scale: str = "s"

    def __post_init__(self) -> None:
        for key, words in (
            ("units", _UNITS),
            ("view", _VIEWS),
            ("weight_norm", _WEIGHT_NORMS),
            ("inner_scale", _INNER_SCALES),
        ):
            if getattr(self, key) not in words:
                raise unknown_name(key.replace("_", " "), getattr(self, key), words)
        if self.view == "angle" and self.units != "both":
            raise HarnessError(
                f"angles are those between unit features and unit weights, not of {self.units} "
                "alone: choose view cosine or units both."
            )
        if not 0.1 <= self.scale <= 1000:
            raise HarnessError(f"scale must lie in [0.1, 1000] but is {self.scale}.")

    @property
    def projects(self) -> bool:
        """Whether a pass in train mode changes the weights themselves."""
        return self.weight_norm == "project" and self.units != "features"

    @property
    def signs(self) -> tuple[str, ...]:
        """What an attacker should know of the deployed logits, as in `Capabilities.signs`."""
        bounded = ("bounded_logits",) if self.units == "both" else ()
        return (*bounded, "angular_logits") if self.view == "angle" else bounded

    def build(self, features: int, classes: int) -> Head:
        """A fresh head for R features and K classes."""
        return HypersphereHead(features, classes, self)


class HypersphereHead(Head):
    """A head of the hypersphere family as a module: one weight, no bias.

    It computes in the precision of its weight also under autocast: near a cosine of 1 bfloat16
    has steps of 0.004, and rounds away the clearance before the arccosine.
    """

    def __init__(self, features: int, classes: int, parts: Hypersphere) -> None:
        super().__init__()
        self.weight = nn.Linear(features, classes, bias=False).weight
        self.parts = parts
        self.scale = parts.scale
        self.signs = parts.signs

    @property
    def inner_scale(self) -> float:
        return self.scale if self.parts.inner_scale == "s" else 1.0

    @property
    def rows(self) -> Tensor:
        if self.parts.units == "features":
            return self.weight
        if not self.parts.projects:
            return functional.normalize(self.weight, dim=1, eps=SHORTEST)
        plain = self.weight.detach()
        return unit_rows(plain) + (self.weight - plain)  # exact values, gradient of the identity

    def forward(self, features: Tensor) -> Tensor:
        if self.parts.projects and self.training:
            with torch.no_grad():
                self.weight.copy_(unit_rows(self.weight))
        with torch.autocast(features.device.type, enabled=False):
            vectors = features.to(self.weight.dtype)
            if self.parts.units != "weights":
                vectors = functional.normalize(vectors, dim=1, eps=SHORTEST)
            logits = functional.linear(vectors, self.rows)
            return logits if self.parts.view == "cosine" else negative_angles(logits)

    def training_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        is_label = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return self.scale * (logits - self.parts.margin * is_label)


def negative_angles(cosines: Tensor) -> Tensor:
    """`-arccos` of cosines [N, K], in [-pi, 0]; they are kept `CLEARANCE` away from 1 and -1."""
    return -cosines.clamp(-1 + CLEARANCE, 1 - CLEARANCE).arccos()


def unit_rows(weight: Tensor) -> Tensor:
    """[K, R], rows divided by their length; those of length 1 but for rounding stay bit for bit."""
    lengths = weight.norm(dim=1, keepdim=True).clamp(min=SHORTEST)
    rounding = 16 * torch.finfo(weight.dtype).eps
    return weight / torch.where((lengths - 1).abs() <= rounding, 1.0, lengths)
