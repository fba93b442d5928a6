"""The norm lives here: bounds, projection, random start and steepest step, per image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from harness.threat import ThreatModel

_L2_SHRINK = 1 - 1e-9
"""Float64 rounding of a Euclidean norm is far below this: a projected image stays in the ball."""


def floor_float(value: Fraction) -> float:
    """The largest float64 that does not exceed `value`."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


@dataclass(frozen=True)
class Ball:
    """All images that the threat model allows, one set per clean image.

    Args:
        images: [N, C, H, W] in [0, 1], clean.
        low, high: [N, C, H, W], per-pixel bounds, rounded inwards in float32 so that no pixel
            ever exceeds the exact epsilon (`attacks.md` 13.4). For L2 they are the box alone.
        threat: norm and exact epsilon.
    """

    images: Tensor
    low: Tensor
    high: Tensor
    threat: ThreatModel

    @classmethod
    def around(cls, images: Tensor, threat: ThreatModel) -> Ball:
        """The ball of `threat` around each clean image, cut to the [0, 1] box."""
        if threat.norm == "l2":
            return cls(images, torch.zeros_like(images), torch.ones_like(images), threat)
        epsilon = floor_float(threat.epsilon)
        exact = images.double()
        high = (exact + epsilon).float()
        high = torch.where(high.double() - exact > epsilon, _step_down(high), high)
        low = (exact - epsilon).float()
        low = torch.where(exact - low.double() > epsilon, _step_up(low), low)
        return cls(images, low.clamp(min=0.0), high.clamp(max=1.0), threat)

    @property
    def epsilon(self) -> float:
        """Epsilon as the largest float that does not exceed it."""
        return floor_float(self.threat.epsilon)

    def take(self, chosen: Tensor) -> Ball:
        """The same ball for some of the images; `chosen` is a mask or positions.

        A mask of all is the ball itself, which nobody writes to.
        """
        if chosen.dtype == torch.bool and chosen.all():
            return self
        return Ball(self.images[chosen], self.low[chosen], self.high[chosen], self.threat)

    def project(self, candidate: Tensor) -> Tensor:
        """The nearest allowed image (L-infinity: exact; L2: radially, then the box)."""
        if self.threat.norm == "l2":
            candidate = self._shorten(candidate)
        return torch.minimum(torch.maximum(candidate, self.low), self.high)

    def contains(self, candidate: Tensor) -> Tensor:
        """[N] bool, exact: which candidates the threat model allows."""
        room = torch.minimum(candidate - self.low, self.high - candidate)
        inside = room.amin((1, 2, 3)) >= 0  # the sign of a difference of floats is exact
        if self.threat.norm == "l2":
            inside &= self.distance(candidate) <= self.epsilon * _L2_SHRINK
        return inside

    def distance(self, candidate: Tensor, chosen: Tensor | None = None) -> Tensor:
        """[n] float64, to the clean images in the norm of the threat model.

        Args:
            candidate: [n, C, H, W].
            chosen: [n], positions of the images that the candidates belong to; all if None.
        """
        clean = self.images if chosen is None else self.images[chosen]
        difference = candidate.double() - clean.double()
        if self.threat.norm == "l2":
            return difference.flatten(1).square().sum(1).sqrt()
        return difference.abs().amax((1, 2, 3))  # flattened, channels last would be copied

    def random_start(self, uniform: Tensor, radius: Tensor | None = None) -> Tensor:
        """A point from uniform draws in [0, 1): uniform in the L-infinity ball.

        For L2 a direction uniform in the cube at a radius uniform in [0, epsilon].

        Args:
            uniform: [N, C, H, W].
            radius: [N, 1, 1, 1], draws of their own, which L2 needs and L-infinity ignores.
        """
        direction = uniform * 2 - 1
        if self.threat.norm == "linf":
            return self.project(self.images + self.epsilon * direction)
        if radius is None:
            raise ValueError("a random start in the L2 ball needs draws for its radius")
        unit = direction / per_image_norm(direction).clamp(min=1e-12)
        return self.project(self.images + self.epsilon * radius * unit)

    def uniform_point(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """A point uniform in the ball before the box cuts it, from uniform and normal draws."""
        if self.threat.norm == "linf":
            return self.random_start(uniform)
        radius = uniform.amax(dim=(1, 2, 3), keepdim=True)  # the largest of d is u to the 1/d
        return self.project(self.images + self.epsilon * radius * self.steepest(normal))

    def surface_start(self, uniform: Tensor) -> Tensor:
        """A point on the ball's surface (APGD): its longest coordinate, or L2 norm, is epsilon."""
        direction = uniform * 2 - 1
        length = (
            direction.abs().amax(dim=(1, 2, 3), keepdim=True)
            if self.threat.norm == "linf"
            else per_image_norm(direction)
        )
        return self.project(self.images + self.epsilon * direction / (length + 1e-12))

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of unit length in this norm that climbs `gradient` fastest; 0 where it is 0."""
        if self.threat.norm == "linf":
            return gradient.sign()
        return gradient / per_image_norm(gradient).clamp(min=1e-12)

    def _shorten(self, candidate: Tensor) -> Tensor:
        """Radially into the L2 ball; each pixel is rounded towards the clean one (13.4)."""
        clean = self.images.double()
        difference = candidate.double() - clean
        length = per_image_norm(difference).clamp(min=1e-12)
        difference = difference * (self.epsilon * _L2_SHRINK / length).clamp(max=1.0)
        rounded = (clean + difference).float()
        outwards = (rounded.double() - clean).abs() > difference.abs()
        return torch.where(outwards, torch.nextafter(rounded, self.images), rounded)


def per_image_norm(difference: Tensor) -> Tensor:
    """[N, 1, 1, 1] Euclidean norms."""
    length: Tensor = torch.linalg.vector_norm(difference, dim=(1, 2, 3), keepdim=True)
    return length


def _step_down(values: Tensor) -> Tensor:
    return torch.nextafter(values, torch.full_like(values, -math.inf))


def _step_up(values: Tensor) -> Tensor:
    return torch.nextafter(values, torch.full_like(values, math.inf))
