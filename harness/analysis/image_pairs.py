"""Pairs of pictures: the first test images, and what the worst stored attack made of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from harness.analysis.analysis import Pairs, Reading, analysis
from harness.analysis.exhibit import Exhibit, NotRun, check_still
from harness.identity import PICTURES
from harness.verification import VerificationError, check_inside, fresh_decision

_LEVELS = 255


@analysis(
    "image_pairs",
    title="Pictures under the worst attack",
    shown=("pictures", "wrong", "broken"),
    source="this harness",
    keeps_pairs=True,
)
def image_pairs(exhibit: Exhibit) -> Iterator[Reading]:
    """The first 24 images as 8-bit pictures, clean and under the worst stored attack.

    Rounding may mend an adversarial image, so every picture is verified and judged again as it
    is kept: inside the ball, by a pass of the deployed model. An image that is wrong as it is was
    never attacked; its two pictures are the same.

    Values: `pictures`, how many; `wrong`, how many of them are decided wrongly; under the attack
    `broken`, how many of them only there.
    """
    check_still(exhibit.record)
    seen = exhibit.worst
    if seen is None or seen.pixels is None:
        raise NotRun(
            "no attack is stored for these images that can be run again here: evaluate first."
        )
    count = min(PICTURES, len(exhibit.labels))
    labels, pixels = exhibit.labels[:count], seen.pixels[:count]
    clean = exhibit.images[:count]
    _check_inside(exhibit, clean, pixels)
    before, after = _decided(exhibit, clean), _decided(exhibit, _as_images(pixels))
    was_right = before == labels
    broken = was_right & (after != labels)
    yield Reading(exhibit.clean.on, {"pictures": (count,), "wrong": (int((~was_right).sum()),)})
    yield Reading(
        seen.on,
        {
            "pictures": (count,),
            "wrong": (int((after != labels).sum()),),
            "broken": (int(broken.sum()),),
        },
        f"Rounded to 8 bits, {int(broken.sum())} of {int(was_right.sum())} that were right break.",
        Pairs(
            tuple(exhibit.indices[:count]),
            pixels.cpu(),
            tuple(broken.tolist()),
            tuple(after.tolist()),
        ),
    )


def _check_inside(exhibit: Exhibit, clean: Tensor, pixels: Tensor) -> None:
    try:
        check_inside(clean, _as_images(pixels), exhibit.threat)
    except VerificationError as error:
        raise NotRun(f"rounded to 8 bits the images are not allowed: {error}.") from error


def _as_images(pixels: Tensor) -> Tensor:
    """[n, C, H, W] float32 in [0, 1], as a test split gives them."""
    return pixels.to(torch.float32) / _LEVELS


def _decided(exhibit: Exhibit, images: Tensor) -> Tensor:
    """[n] int64, the deployed decision; -1 where the logits are not finite."""
    decided, _ = fresh_decision(
        lambda block: exhibit.model(block).logits, images, exhibit.labels[: len(images)]
    )
    return decided
