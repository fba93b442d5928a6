"""Common corruptions by name: Hendrycks and Dietterich, 2019 (arXiv:1903.12261). Plain values.

Another threat than a ball: nobody searches, pictures just get worse. Its outcomes are stored and
shown apart; they never enter the union of a board.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from harness.errors import HarnessError, unknown_name
from harness.threat import CORRUPTION, SEVERITIES, ThreatModel

FAMILIES = ("noise", "blur", "weather", "digital")
SOURCE = "Hendrycks and Dietterich, 2019 (arXiv:1903.12261)"


@dataclass(frozen=True)
class Corruption:
    """One way in which pictures get worse, in five severities.

    Args:
        name: as published; the column `attack` of the claims.
        family: one of `FAMILIES`.
        description: one sentence.
        is_main: whether it is one of the 15 that the mean corruption accuracy counts.
        is_length: whether its strength is a length in pixels, which says little about an image
            that has few of them.
        is_colour: whether it changes nothing but colours, so that a grey image has none of it.
    """

    name: str
    family: str
    description: str
    is_main: bool = True
    is_length: bool = False
    is_colour: bool = False


CORRUPTIONS = (
    Corruption("gaussian_noise", "noise", "Normal noise on every pixel, as in poor light."),
    Corruption("shot_noise", "noise", "Poisson noise, as of too few photons."),
    Corruption("impulse_noise", "noise", "Pixels that turn black or white, as of bit errors."),
    Corruption("defocus_blur", "blur", "A disk as kernel, as out of focus.", is_length=True),
    Corruption(
        "glass_blur", "blur", "Pixels swapped nearby, as through frosted glass.", is_length=True
    ),
    Corruption("motion_blur", "blur", "A line as kernel, as of a moving camera.", is_length=True),
    Corruption(
        "zoom_blur", "blur", "Several zooms averaged, as of a fast approach.", is_length=True
    ),
    Corruption("snow", "weather", "Streaks of white over a brighter picture.", is_length=True),
    Corruption(
        "frost", "weather", "Photographs of ice crystals laid over the picture.", is_length=True
    ),
    Corruption("fog", "weather", "A fractal haze over the picture."),
    Corruption("brightness", "weather", "A brighter picture, as at another hour."),
    Corruption("contrast", "digital", "Pixels drawn towards the mean of their channel."),
    Corruption(
        "elastic_transform", "digital", "Small regions stretched and shrunk.", is_length=True
    ),
    Corruption("pixelate", "digital", "A coarser picture enlarged again."),
    Corruption("jpeg_compression", "digital", "A JPEG file of low quality."),
    Corruption("speckle_noise", "noise", "Noise in proportion to each pixel.", is_main=False),
    Corruption(
        "gaussian_blur", "blur", "A normal distribution as kernel.", is_length=True, is_main=False
    ),
    Corruption(
        "spatter", "weather", "Drops of water or mud on the lens.", is_length=True, is_main=False
    ),
    Corruption(
        "saturate", "digital", "Colours fainter or stronger.", is_main=False, is_colour=True
    ),
)
"""In the published order: the 15 that count, then the 4 extra ones."""

MAIN = tuple(corruption for corruption in CORRUPTIONS if corruption.is_main)

_BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}


def corruption_named(name: str) -> Corruption:
    """The corruption called `name`.

    Raises:
        HarnessError: nothing has that name.
    """
    if name not in _BY_NAME:
        raise unknown_name("corruption", name, _BY_NAME)
    return _BY_NAME[name]


def chosen_corruptions(text: str | None) -> tuple[Corruption, ...]:
    """`fog,snow` as corruptions in their published order; the 15 main ones where None is given.

    Raises:
        HarnessError: a name is unknown, or there is none.
    """
    if text is None:
        return MAIN
    names = {corruption_named(name).name for name in _pieces(text)}
    if not names:
        raise HarnessError("no corruption is named: write for instance fog,snow.")
    return tuple(corruption for corruption in CORRUPTIONS if corruption.name in names)


def chosen_severities(text: str | None) -> tuple[int, ...]:
    """`1,5` as severities, ascending; all five where None is given.

    Raises:
        HarnessError: one of them is no severity, or there is none.
    """
    if text is None:
        return SEVERITIES
    chosen = set(_pieces(text))
    unknown = sorted(chosen - {str(severity) for severity in SEVERITIES})
    if unknown or not chosen:
        given = f"'{unknown[0][:20]}' is no severity" if unknown else "no severity is given"
        raise HarnessError(f"{given}: write some of 1 to {SEVERITIES[-1]}, such as 1,3,5.")
    return tuple(severity for severity in SEVERITIES if str(severity) in chosen)


def severity_threat(severity: int) -> ThreatModel:
    """The threat model under which outcomes of this severity are stored."""
    return ThreatModel(CORRUPTION, Fraction(severity))


def _pieces(text: str) -> Iterable[str]:
    return (piece.strip() for piece in text.split(",") if piece.strip())
