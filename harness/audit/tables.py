"""The tables of a written page, read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_CELLS = ("td", "th")


@dataclass
class Line:
    """One row of a table: where its first link leads, and the text of each cell."""

    href: str = ""
    cells: list[str] = field(default_factory=list)


@dataclass
class Table:
    """What a page's table says.

    Args:
        kind: the first of its classes.
        columns: the name of each column: `data-column` of its heading, or the heading's text.
        lines: all rows but that of the headings.
    """

    kind: str
    columns: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def cell(self, line: Line, column: str) -> str | None:
        """The text of a line in the column that is called so or starts so; None without one."""
        for place, name in enumerate(self.columns):
            if name.lower().startswith(column) and place < len(line.cells):
                return line.cells[place]
        return None


@dataclass
class Page(HTMLParser):
    """What a page says: its tables, and the large numbers at the head of evaluations, in order."""

    tables: list[Table] = field(default_factory=list)
    big: list[str] = field(default_factory=list)
    _inside: str = ""
    _part: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """End tags of rows and cells may be missing: the next one ends them."""
        given = dict(attrs)
        if tag == "table":
            self.tables.append(Table((given.get("class") or "").split(" ")[0]))
            self._part = ""
        elif tag in {"thead", "tbody"}:
            self._part = tag
        elif tag == "tr" and self.tables and self._part != "thead":
            self.tables[-1].lines.append(Line())
            self._inside = ""
        elif tag in _CELLS and self.tables:
            self._start_cell(given)
        elif tag == "a" and self._inside == "cell":
            line = self.tables[-1].lines[-1]
            line.href = line.href or given.get("href") or ""
        elif tag == "p" and given.get("class") == "big":
            self.big.append("")
            self._inside = "big"

    def _start_cell(self, given: dict[str, str | None]) -> None:
        table = self.tables[-1]
        if self._part == "thead":
            table.columns.append(given.get("data-column") or "")
            self._inside = "" if given.get("data-column") else "head"
        elif table.lines:
            span = given.get("colspan") or "1"
            wide = min(int(span), len(table.columns)) if span.isdecimal() else 1
            table.lines[-1].cells += [""] * max(1, wide)
            self._inside = "cell"

    def handle_endtag(self, tag: str) -> None:
        """A cell or a headline ends."""
        if tag in (*_CELLS, "tr", "table", "p"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        """Text of what is open, blanks joined."""
        if self._inside == "cell":
            _join(self.tables[-1].lines[-1].cells, data)
        elif self._inside == "head":
            _join(self.tables[-1].columns, data)
        elif self._inside == "big":
            _join(self.big, data)


def _join(texts: list[str], more: str) -> None:
    """Append to the last of the texts."""
    texts[-1] = " ".join(f"{texts[-1]} {more}".split())


def read_page(text: str) -> Page:
    """Read a whole page back with the standard library's parser."""
    page = Page()
    page.feed(text)
    page.close()
    return page
