"""The threat model: a norm and an epsilon that is exact from the command line to the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from harness.errors import HarnessError, unknown_name

NORMS = ("linf", "l2")

CORRUPTION = "corruption"
"""Written in place of a norm where the threat is no ball; epsilon is the severity then."""

SEVERITIES = (1, 2, 3, 4, 5)

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(/[0-9]+)?")
_LONGEST = 30
"""Characters of an epsilon as given and as printed, so that whatever is printed can be read."""
_SMALL_DENOMINATOR = 16


@dataclass(frozen=True)
class ThreatModel:
    """A norm and its epsilon, in units of the [0, 1] pixel scale; or a severity of corruptions.

    Raises:
        HarnessError: the norm is unknown, or epsilon is negative or above what the box can use,
            or is no severity where the threat is `CORRUPTION`.
    """

    norm: str
    epsilon: Fraction

    def __post_init__(self) -> None:
        if self.norm == CORRUPTION:
            self._check_severity()
            return
        if self.norm not in NORMS:
            raise unknown_name("norm", self.norm, NORMS)
        if self.epsilon < 0:
            given = format_fraction(self.epsilon)
            raise HarnessError(f"epsilon must not be negative but is {given}.")
        if self.norm == "linf" and self.epsilon > 1:
            raise HarnessError(
                f"epsilon {format_fraction(self.epsilon)} is above 1, the whole width of the "
                "[0, 1] pixel scale. Epsilons are fractions of that scale: write 8/255, not 8."
            )

    def __str__(self) -> str:
        return f"{self.norm} {format_fraction(self.epsilon)}"

    @property
    def is_ball(self) -> bool:
        """Whether a distance is bounded: only such threats have unions, boards and ranks."""
        return self.norm in NORMS

    @classmethod
    def parse(cls, norm: str, epsilon: str) -> ThreatModel:
        """Read a norm and an epsilon such as `8/255`, `0.031` or `1/5`."""
        return cls(norm, parse_fraction(epsilon))

    def _check_severity(self) -> None:
        if self.epsilon not in SEVERITIES:
            raise HarnessError(
                f"{format_fraction(self.epsilon)} is no severity of a corruption: "
                f"there are {SEVERITIES[0]} to {SEVERITIES[-1]}."
            )


def parse_fraction(text: str) -> Fraction:
    """Read `8/255`, `0.031` or `1` exactly; no float is ever involved.

    Raises:
        HarnessError: the text is no number, or its denominator is zero.
    """
    stripped = text.strip()
    if len(stripped) > _LONGEST or _NUMBER.fullmatch(stripped) is None:
        raise HarnessError(
            f"'{text[:60]}' is no epsilon: write a fraction like 8/255 or a decimal like 0.031."
        )
    numerator, _, denominator = stripped.partition("/")
    if denominator and int(denominator) == 0:
        raise HarnessError(f"'{text}' divides by zero: write a fraction like 8/255.")
    value = Fraction(numerator) / int(denominator or 1)
    if len(format_fraction(value)) > _LONGEST:
        raise HarnessError(f"'{text}' has too many digits: write a fraction like 8/255.")
    return value


def format_fraction(value: Fraction) -> str:
    """One text per value: `8/255`, `1/5`, and `0.031` where a decimal is exact and shorter."""
    denominator = value.denominator
    if denominator <= _SMALL_DENOMINATOR or not _terminates(denominator):
        return str(value)
    digits = 0
    while 10**digits % denominator:
        digits += 1
    scaled = abs(value.numerator) * (10**digits // denominator)
    whole, rest = divmod(scaled, 10**digits)
    decimal = f"{'-' if value < 0 else ''}{whole}.{rest:0{digits}d}"
    return min(decimal, str(value), key=len)


def _terminates(denominator: int) -> bool:
    for factor in (2, 5):
        while denominator % factor == 0:
            denominator //= factor
    return denominator == 1
