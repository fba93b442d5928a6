"""Text that somebody else wrote, made harmless for a page or a terminal; still to be escaped."""

from __future__ import annotations

LONGEST = 20_000
"""Characters of one text; no field is longer unless somebody wrote the database by hand."""

# Control characters but tab and newline, which move a terminal's cursor and are no HTML; lone
# surrogates, which no file can hold; code points that are no characters, which HTML forbids; and
# marks that reverse the text after them.
_CONTROLS = {*range(32), *range(127, 160), *range(0xD800, 0xE000)} - {9, 10}
_NO_CHARACTERS = {
    *range(0xFDD0, 0xFDF0),
    *(plane + last for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)),
}
_REVERSING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_UNPRINTABLE = dict.fromkeys(_CONTROLS | _NO_CHARACTERS | _REVERSING, "\ufffd")


def printable(text: str) -> str:
    """The text with U+FFFD for each character that must not be shown, cut where it has no end."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return cut.translate(_UNPRINTABLE)
