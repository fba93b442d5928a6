"""A minus before a number is a minus sign, in text that others stored too."""

from __future__ import annotations

import re

_HYPHEN = re.compile(r"(?<![\w.,)\]-])-(?= ?\d)")


def minus(text: str) -> str:
    """The text with every hyphen before a number as a minus sign; `pgd-40` and `1e-4` stay."""
    return _HYPHEN.sub("−", text)
