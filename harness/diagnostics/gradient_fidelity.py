"""D12: gradients that do not say how the loss changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from harness.attacks.losses import ce
from harness.attacks.streams import Streams
from harness.diagnostics.diagnostic import (
    GREEN,
    RED,
    Reading,
    as_floats,
    diagnostic,
    graded,
    worst,
)
from harness.diagnostics.examination import Examination, NoGradient, NotRun
from harness.outputs import Outputs

DIRECTIONS = 20
ROUNDING = 1e-6
"""Slopes closer than this share of an image's gradient agree: signs of nearly 0 mean nothing."""

LARGEST = 1000.0
"""A relative error is cut here: it is infinite where the gradient is zero and the loss moves."""

Logits = Callable[[Tensor], Tensor]


@diagnostic(
    "D12",
    title="Gradient fidelity",
    amber="median relative error above 0.5 at epsilon/8",
    red="above 1, or fewer than 70 % of the signs agree",
)
def gradient_fidelity(examination: Examination) -> Reading:
    """Slopes by central differences against those that the gradient promises.

    Cross-entropy in float64 along 20 random sign vectors at radii 1e-3, epsilon/8 and epsilon. An
    image's error is that of its 20 slopes together, since a single promised slope may be zero by
    chance. Differences are taken around the image moved into the box by the radius, because a
    model need not mean anything outside the box.
    """
    right = examination.right
    if not right.any():
        raise NotRun("no image is classified correctly as it is.")
    logits, images, precision = _in_float64(examination)
    epsilon = float(examination.threat.epsilon)
    if epsilon == 0:
        raise NotRun("epsilon is 0: there is no radius to look at.")
    radii = (1e-3, epsilon / 8, epsilon)
    slopes = [_slopes(examination, logits, images, radius) for radius in radii]
    errors = [_relative_error(*pair)[right] for pair in slopes]
    agreement = [float(_same_sign(*pair)[:, right].double().mean()) for pair in slopes]
    value = float(errors[1].median())
    states = [graded(value, amber=0.5, red=1.0), RED if agreement[1] < 0.7 else GREEN]
    proof = torch.zeros_like(right)
    proof[right] = errors[1] > 0.5
    note = (
        f"at epsilon/8 the slopes are off by {value:.2f} of their size and "
        f"{100 * agreement[1]:.0f} % of their signs agree ({precision})."
    )
    details = {
        "radius": as_floats(radii),
        "median_relative_error": as_floats([float(each.median()) for each in errors]),
        "sign_agreement": as_floats(agreement),
    }
    return Reading(worst(states), value, note, proof, details)


def _in_float64(examination: Examination) -> tuple[Logits, Tensor, str]:
    """The model in float64 where it can be had, its images, and the precision in words."""
    try:
        module = copy.deepcopy(examination.module).double().eval()

        def double(images: Tensor) -> Tensor:
            found = module(images)
            logits: Tensor = found.logits if isinstance(found, Outputs) else found
            return logits

        images = examination.images.double()
        with torch.no_grad():
            is_double = double(images[:16]).dtype == torch.float64
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a foreign module may refuse to be copied or widened in any way
        is_double = False
    if is_double:
        return double, images, "float64"
    return lambda batch: examination.model(batch).logits, examination.images, "float32"


def _slopes(
    examination: Examination, logits: Logits, images: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Measured and promised slopes, [20, N] float64 each on the CPU."""
    centre = images.clamp(radius, 1 - radius) if radius < 0.5 else torch.full_like(images, 0.5)
    gradient = _gradient(logits, centre, examination.labels)
    measured, promised = [], []
    with torch.no_grad():
        for number in range(DIRECTIONS):
            direction = _direction(examination, number).to(images)
            ends = [
                ce(logits(centre + sign * radius * direction), examination.labels)
                for sign in (1, -1)
            ]
            measured.append((ends[0] - ends[1]).double() / (2 * radius))
            promised.append((gradient * direction).double().flatten(1).sum(1))
    return torch.stack(measured).cpu(), torch.stack(promised).cpu()


def _gradient(logits: Logits, centre: Tensor, labels: Tensor) -> Tensor:
    candidate = centre.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = ce(logits(candidate), labels).sum()
    if not value.requires_grad:
        raise NoGradient("the logits do not depend on the image in a way that can be derived.")
    (gradient,) = torch.autograd.grad(value, candidate)
    return gradient


def _direction(examination: Examination, number: int) -> Tensor:
    """[N, C, H, W], a sign vector per image, of length 1 in the norm of the threat model."""
    streams = Streams(examination.seed, "diagnostic", examination.indices)
    everyone = torch.arange(len(examination.labels))
    shape = examination.images.shape[1:]
    signs = streams.signs(everyone, shape, restart=number, purpose="D12")
    return signs if examination.threat.norm == "linf" else signs / shape.numel() ** 0.5


def _relative_error(measured: Tensor, promised: Tensor) -> Tensor:
    """[N], distance of the slopes over the size of the promised ones; 0 where both are zero."""
    distance = torch.linalg.vector_norm(measured - promised, dim=0)
    size = torch.linalg.vector_norm(promised, dim=0)
    error = (distance / size).nan_to_num(nan=LARGEST).clamp(max=LARGEST)
    return torch.where(distance == 0, torch.zeros_like(error), error)


def _same_sign(measured: Tensor, promised: Tensor) -> Tensor:
    """[20, N] bool, both rise, both fall, or both are as good as equal."""
    size = torch.linalg.vector_norm(promised, dim=0)
    is_equal: Tensor = (measured - promised).abs() <= ROUNDING * size
    return is_equal | (measured.sign() == promised.sign())
