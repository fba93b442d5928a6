"""Keep adversarial images, and judge kept ones again without the attack that made them."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from harness.data import Split
from harness.evaluation.randomised import RandomHandle
from harness.evaluation.subject import Subject
from harness.identity import Job, Kept
from harness.store.kept import read_images, write_images
from harness.threat import ThreatModel
from harness.verification import VerificationError, check_inside, fresh_decision

_LEVELS = 255


class Gallery:
    """The images that one job broke, until they are saved.

    Args:
        job: whose they are.
        dtype: `uint8` or `float32`.
    """

    def __init__(self, job: Job, dtype: str) -> None:
        self._job = job
        self._dtype = dtype
        self._found: list[tuple[int, Tensor]] = []

    def add(self, positions: Tensor, adversarial: Tensor, broken: Tensor) -> None:
        """Take the broken ones.

        Args:
            positions: [n], in the slice.
            adversarial: [n, C, H, W].
            broken: [n] bool.
        """
        self._found += zip(positions[broken].tolist(), adversarial[broken], strict=True)

    def save(self, folder: Path, subject: Subject, data: Split, device: str) -> Kept:
        """Write them into one file.

        As 8-bit numbers only those are kept that are inside the ball and wrong as the numbers that
        will be read again.

        Args:
            folder: `harness.store.kept.kept_folder`.
            subject: what they were made for.
            data: the test split.
            device: of the subject.

        Raises:
            NotWrittenError: the folder cannot be written or the disk is full.
        """
        if not self._found:
            return Kept(self._dtype, "", ())
        first = self._job.first
        found = dict(sorted(self._found, key=lambda pair: pair[0]))
        positions, images = list(found), torch.stack(list(found.values()))
        indices = torch.tensor([first + position for position in positions])
        if self._dtype == "uint8":
            clean = data.batch(first, self._job.last)[positions]
            images = rounded_inside(clean, images, self._job.threat)
            pixels = as_pixels(images)
            stands = survives(subject, self._job, data, indices.tolist(), pixels, device)
        else:
            stands = torch.ones(len(images), dtype=torch.bool)
        lost = tuple(indices[~stands].tolist())
        if not stands.any():
            return Kept(self._dtype, "", (), lost)
        sha256 = write_images(folder, images[stands].contiguous().numpy())
        return Kept(self._dtype, sha256, tuple(indices[stands].tolist()), lost)


def rounded_inside(clean: Tensor, adversarial: Tensor, threat: ThreatModel) -> Tensor:
    """[n, C, H, W] uint8, near the adversarial images and inside the ball wherever that can be.

    For L-infinity the nearest grey level, one nearer to the clean one where that lies outside by
    no more than the rounding of float32. For L2, whose ball is not one interval per pixel, the
    next level towards the clean one.
    """
    base = (clean.double() * _LEVELS).round()
    difference = adversarial.double() * _LEVELS - base
    if threat.norm == "l2":
        return (base + difference.trunc()).clamp(0, _LEVELS).to(torch.uint8)
    levels = (base + difference.round()).clamp(0, _LEVELS)
    for _ in range(2):  # half a level of rounding, and the last bit of a float32
        beyond = (as_pixels(levels).double() - clean.double()).abs() > _below(threat.epsilon)
        levels = torch.where(beyond, levels - (levels - base).sign(), levels)
    return levels.to(torch.uint8)


def as_pixels(images: Tensor) -> Tensor:
    """Grey levels as float32 in [0, 1], as a test split gives them; float32 as it is."""
    return images if images.dtype == torch.float32 else images.to(torch.float32) / _LEVELS


def judged_again(
    folder: Path, kept: Kept, job: Job, subject: Subject, data: Split, device: str = "cpu"
) -> list[bool]:
    """Load kept images and check each: inside box and ball, and still wrong.

    Args:
        folder: `harness.store.kept.kept_folder`.
        kept: what is kept of the job.
        job: whose images they are.
        subject: the loaded checkpoint.
        data: the test split.
        device: of the subject.

    Returns:
        One bool per kept image.

    Raises:
        HarnessError: the file is missing, changed, or of another size, type or shape.
        ModelError: the model misbehaved.
    """
    pixels = read_images(folder, kept, tuple(data.images.shape[1:]))
    images = as_pixels(torch.from_numpy(pixels.copy()))
    return survives(subject, job, data, list(kept.images), images, device).tolist()


def survives(
    subject: Subject, job: Job, data: Split, indices: list[int], images: Tensor, device: str
) -> Tensor:
    """[n] bool: is the image allowed, and does it change the decision in a pass of its own?"""
    places = torch.tensor(indices) - job.first
    clean = data.batch(job.first, job.last)[places]
    labels = data.labels[job.first : job.last][places]
    allowed = torch.tensor(
        [
            _is_inside(clean[place : place + 1], images[place : place + 1], job.threat)
            for place in range(len(images))
        ]
    )
    return allowed & _is_wrong(subject, images.to(device), labels.to(device)).cpu()


def _is_wrong(subject: Subject, images: Tensor, labels: Tensor) -> Tensor:
    if isinstance(subject.model, RandomHandle):
        return subject.model.is_broken(images, labels)
    predicted, _ = fresh_decision(lambda x: subject.model(x).logits, images, labels)
    return predicted != labels


def _is_inside(clean: Tensor, image: Tensor, threat: ThreatModel) -> bool:
    try:
        check_inside(clean, image, threat)
    except VerificationError:
        return False
    return True


def _below(epsilon: Fraction) -> float:
    """The largest float64 that is not above epsilon."""
    found = float(epsilon)
    return math.nextafter(found, 0) if Fraction(found) > epsilon else found
