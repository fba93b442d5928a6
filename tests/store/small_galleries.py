"""Three pictures of two by two grey levels, and what an attack made of them."""

from __future__ import annotations

from fractions import Fraction

from harness.identity import AdversarialGallery, Gallery
from harness.threat import ThreatModel

DIGEST, IMAGES = "d" * 64, "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))

GALLERY = Gallery(
    dataset="digits",
    images=IMAGES,
    indices=(0, 1, 2),
    labels=(1, 0, 1),
    shape=(1, 2, 2),
    pixels=bytes([0, 10, 20, 30, 40, 50, 60, 70, 100, 150, 200, 255]),
)

ATTACKED = AdversarialGallery(
    checkpoint=DIGEST,
    dataset="digits",
    images=IMAGES,
    threat=THREAT,
    attack="pgd@logits:ce",
    seed=0,
    indices=(0, 1, 2),
    broken=(True, False, False),
    predicted=(0, 0, -1),
    shape=(1, 2, 2),
    pixels=bytes([8, 2, 12, 30, 41, 49, 60, 70, 100, 150, 200, 255]),
    created="2026-11-20T00:00:00+00:00",
)
