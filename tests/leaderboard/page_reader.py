"""Reads a page back with the standard library's parser: elements, text, ids, table cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_CELLS = ("td", "th")


@dataclass
class Read(HTMLParser):
    """What a page consists of.

    Args:
        elements: every start tag with its attributes, in order.
        rows: text of the cells of every table row, whitespace joined, page order.
        text: all text.
    """

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    text: str = ""
    _cell: bool = False

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in _CELLS or (self._cell and tag != "tr")
        if tag in _CELLS:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in (*_CELLS, "tr", "table"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def attributes(self, name: str, *tags: str) -> list[str]:
        return [
            attributes[name] or ""
            for tag, attributes in self.elements
            if name in attributes and (not tags or tag in tags)
        ]


def read(page: str | bytes) -> Read:
    """Parse a whole page."""
    reader = Read()
    reader.feed(page.decode() if isinstance(page, bytes) else page)
    reader.close()
    return reader
