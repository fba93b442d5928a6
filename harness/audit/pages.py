"""The numbers in written pages and exports, read back and compared with what they should be."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.standings import Board, Rate, Standing
from harness.threat import format_fraction
from leaderboard.pages import address, group_by_checkpoint

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SLACK = 1e-9
_CELLS = ("td", "th")
_ROUNDING = 0.5


def page_problems(folder: Path, boards: Sequence[Board]) -> list[str]:
    """One sentence per number in the folder's pages, JSON and CSV that is not that of the boards.

    Args:
        folder: written by `harness site`; files of `harness results export` in it are read too.
        boards: already compared with the bits.

    Raises:
        HarnessError: there is no site in the folder.
    """
    index = _text(folder / "index.html")
    problems = list(_index_problems(_read(index), boards))
    for path, standings in group_by_checkpoint(boards).items():
        try:
            page = _read(_text(folder / path))
        except HarnessError as error:
            problems.append(str(error))
            continue
        problems += [f"{path}: {said}" for said in _page_problems(page, standings)]
    rows = {_key(row): row for board in boards for row in board.standings}
    for file in sorted(folder.glob("*.json")):
        if not file.name.startswith("."):
            problems += [f"{file.name}: {said}" for said in _json_problems(_text(file), rows)]
    for file in sorted(folder.glob("*.csv")):
        problems += [f"{file.name}: {said}" for said in _csv_problems(_text(file), rows)]
    return problems


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"the page {path} cannot be read ({error}): build the site with `harness site`."
        ) from error


@dataclass
class _Page(HTMLParser):
    """What a page says.

    Args:
        rows: of every table, as (what tables are marked with, link in the row, texts of its cells).
        big: the large numbers at the head of evaluations, in order.
    """

    rows: list[tuple[str, str, list[str]]] = field(default_factory=list)
    big: list[str] = field(default_factory=list)
    _table: str = ""
    _inside: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """End tags of rows and cells may be missing: the next one ends them."""
        given = dict(attrs)
        if tag == "table":
            self._table = (given.get("class") or "").split(" ")[0]
        elif tag == "tr":
            self.rows.append((self._table, "", []))
            self._inside = ""
        elif tag in _CELLS and self.rows:
            self.rows[-1][2].append("")
            self._inside = "cell"
        elif tag == "a" and self._inside == "cell":
            table, _, cells = self.rows[-1]
            self.rows[-1] = (table, given.get("href") or "", cells)
        elif tag == "p" and given.get("class") == "big":
            self.big.append("")
            self._inside = "big"

    def handle_endtag(self, tag: str) -> None:
        """A cell or a headline ends."""
        if tag in (*_CELLS, "tr", "table", "p"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        """Text of what is open, blanks joined."""
        if self._inside == "cell":
            cells = self.rows[-1][2]
            cells[-1] = " ".join(f"{cells[-1]} {data}".split())
        elif self._inside == "big":
            self.big[-1] = " ".join(f"{self.big[-1]} {data}".split())


def _read(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    page.close()
    return page


def _index_problems(page: _Page, boards: Sequence[Board]) -> Iterator[str]:
    """The lines of the boards, each found by its link, the boards one after the other."""
    lines: dict[str, list[list[str]]] = defaultdict(list)
    for table, href, cells in page.rows:
        if table == "board" and href:
            lines[href.partition("#")[0]].append(cells)
    for board in boards:
        for row in board.standings:
            where = f"index.html: {row.checkpoint.name} on {row.dataset}, {row.threat}"
            mine = lines[address(row.checkpoint)]
            if not mine:
                yield f"{where}: it has no line"
                continue
            yield from (f"{where}: {said}" for said in _line_problems(mine.pop(0), row))
    for href, rest in lines.items():
        if rest:
            yield f"index.html: {len(rest)} lines link to {href} that no board has"


def _line_problems(cells: list[str], row: Standing) -> Iterator[str]:
    if _has_no_numbers(row):
        return
    if len(cells) < 6:
        yield "it has no numbers"
        return
    yield from _rate_problems("robust accuracy", cells[2], row.robust)
    yield from _rate_problems("clean accuracy", cells[3], row.clean)
    yield from _share_problems("standard accuracy", cells[4], row.standard)
    gap = row.adaptive_gap
    if gap is not None and not _says(cells[5], 0, 100 * gap):
        yield f"adaptive gap is '{cells[5][:20]}', not {100 * gap:.2f}"


def _page_problems(page: _Page, standings: Sequence[Standing]) -> Iterator[str]:
    """Headlines and attacks of a checkpoint's page, evaluation by evaluation."""
    shown = [row for row in standings if not _has_no_numbers(row)]
    if len(page.big) != len(shown):
        yield f"it has {len(page.big)} headlines for {len(shown)} evaluations"
        return
    for text, row in zip(page.big, shown, strict=True):
        yield from _share_problems(f"robust accuracy under {row.threat}", text, row.robust)
    lines = [cells for table, _, cells in page.rows if table == "attacks" and len(cells) > 5]
    attacks = [attack for row in standings for attack in row.attacks]
    lines = [cells for cells in lines if cells[0].isdigit()]
    if len(lines) != len(attacks):
        yield f"it lists {len(lines)} attacks of {len(attacks)}"
        return
    for cells, attack in zip(lines, attacks, strict=True):
        if not cells[1].startswith(attack.label):
            yield f"attack {cells[0]} is '{cells[1][:60]}', not {attack.label}"
        if attack.robust is not None:
            yield from _rate_problems(f"{attack.label}: accuracy", cells[4], attack.robust)
        yield from _share_problems(f"{attack.label}: so far", cells[5], attack.union_after)


def _has_no_numbers(row: Standing) -> bool:
    is_empty = not row.attacks or 0 in (row.robust.total, row.clean.total)
    return is_empty or bool(row.failures and not row.protocols)


def _rate_problems(what: str, text: str, rate: Rate) -> Iterator[str]:
    yield from _share_problems(what, text, rate)
    if not (_says(text, 1, 100 * rate.low) and _says(text, 2, 100 * rate.high)):
        expected = f"{100 * rate.low:.2f} to {100 * rate.high:.2f}"
        yield f"{what}: its interval is '{text[:40]}', not {expected}"


def _share_problems(what: str, text: str, rate: Rate | None) -> Iterator[str]:
    if rate is not None and rate.total and not _says(text, 0, 100 * rate.fraction):
        yield f"{what} is '{text[:40]}', not {100 * rate.fraction:.2f}"


def _says(text: str, place: int, value: float) -> bool:
    """Whether the number at that place of the text is the value, as far as it is rounded."""
    found = _NUMBER.findall(text)
    if place >= len(found):
        return False
    decimals = len(found[place].partition(".")[2])
    return abs(float(found[place]) - abs(value)) <= _ROUNDING / 10.0**decimals + _SLACK


Key = tuple[str, str, str, str, str]


def _key(row: Standing) -> Key:
    epsilon = format_fraction(row.threat.epsilon)
    return row.checkpoint.name, row.dataset, row.images, row.threat.norm, epsilon


def _json_problems(text: str, rows: Mapping[Key, Standing]) -> Iterator[str]:
    try:
        found = json.loads(text)
        lines = [line for board in found["boards"] for line in board["standings"]]
        keys = [_export_key(line) for line in lines]
    except (ValueError, TypeError, KeyError, RecursionError):
        yield "it is no export of results"
        return
    yield from _missing(keys, rows)
    for key, line, row in _matched(keys, lines, rows):
        for name in ("clean", "robust", "standard"):
            yield from _fields(key, name, line.get(name) or {}, getattr(row, name))
        labelled = {(attack.label, attack.population): attack for attack in row.attacks}
        for said in line.get("attacks", []):
            attack = labelled.get((said.get("label"), said.get("population")))
            if attack is None:
                yield f"{_titled(key)}: {said.get('label')!s:.80}: no such attack"
            else:
                yield from _fields(key, attack.label, said.get("robust") or {}, attack.robust)


def _csv_problems(text: str, rows: Mapping[Key, Standing]) -> Iterator[str]:
    try:
        lines = list(csv.DictReader(io.StringIO(text)))
        keys = [_export_key(line) for line in lines]
    except (csv.Error, KeyError):
        yield "it is no export of results"
        return
    yield from _missing(keys, rows)
    for key, line, row in _matched(keys, lines, rows):
        for name in ("clean", "robust", "standard"):
            said = {part: line.get(f"{name}_{part}", "") for part in ("fraction", "low", "high")}
            yield from _fields(key, name, said, getattr(row, name))


def _missing(keys: Sequence[Key], rows: Mapping[Key, Standing]) -> Iterator[str]:
    return (f"{_titled(key)}: no board has it" for key in keys if key not in rows)


def _matched(
    keys: Sequence[Key], lines: Sequence[Mapping[str, Any]], rows: Mapping[Key, Standing]
) -> Iterator[tuple[Key, Mapping[str, Any], Standing]]:
    """The lines of an export that a row stands behind, each with it."""
    pairs = zip(keys, lines, strict=True)
    return ((key, line, rows[key]) for key, line in pairs if key in rows)


def _export_key(line: Mapping[str, Any]) -> Key:
    names = ("checkpoint", "dataset", "images", "norm", "epsilon")
    return tuple(str(line[name]) for name in names)  # type: ignore[return-value]


def _fields(key: Key, what: str, said: Mapping[str, Any], rate: Rate | None) -> Iterator[str]:
    expected = rate if rate is not None and rate.total else None
    for name in ("fraction", "low", "high"):
        value = None if expected is None else getattr(expected, name)
        if not _is_same(said.get(name, ""), value):
            yield f"{_titled(key)}: {what} {name} is {said.get(name)!s:.40}, not {value}"


def _is_same(said: object, value: float | None) -> bool:
    if said in ("", None) or value is None:
        return said in ("", None) and value is None
    try:
        return abs(float(str(said)) - value) <= _SLACK
    except ValueError:
        return False


def _titled(key: Key) -> str:
    return f"{key[0]} on {key[1]}, {key[3]} {key[4]}"
