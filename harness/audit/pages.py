"""The numbers in written pages and exports, read back and compared with what they should be."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.audit.tables import Line, Page, Table, read_page
from harness.errors import HarnessError
from harness.standings import AttackStanding, Board, Rate, Standing
from harness.threat import format_fraction
from leaderboard import addresses

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SLACK = 1e-9
_ROUNDING = 0.5


def page_problems(folder: Path, boards: Sequence[Board]) -> list[str]:
    """One sentence per number in the folder's pages, JSON and CSV that is not that of the boards.

    Args:
        folder: written by `harness site`; files of `harness results export` in it are read too.
        boards: already compared with the bits.

    Raises:
        HarnessError: there is no site in the folder.
    """
    links = addresses.evaluation_links(boards)
    problems = [*_home_problems(read_page(_text(folder / addresses.HOME)), boards, links)]
    for board in boards:
        try:
            problems += _board_problems(
                read_page(_text(folder / addresses.board_page(board))), board, links
            )
        except HarnessError as error:
            problems.append(str(error))
    for path, found in addresses.by_checkpoint(boards).items():
        standings = [standing for _, standing in found]
        try:
            page = read_page(_text(folder / path))
        except HarnessError as error:
            problems.append(str(error))
            continue
        problems += [f"{path}: {said}" for said in _page_problems(page, standings)]
    rows = {_key(row): row for board in boards for row in board.standings}
    for file in _files(folder, "json"):
        problems += [f"{file.name}: {said}" for said in _json_problems(_text(file), rows)]
    for file in _files(folder, "csv"):
        problems += [f"{file.name}: {said}" for said in _csv_problems(_text(file), rows)]
    return problems


def _files(folder: Path, suffix: str) -> list[Path]:
    """Exports at the top and beside the boards; what starts with a dot is no export."""
    found = [*folder.glob(f"*.{suffix}"), *folder.glob(f"boards/*.{suffix}")]
    return sorted(path for path in found if not path.name.startswith("."))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"the page {path} cannot be read ({error}): build the site with `harness site`."
        ) from error


def _home_problems(
    page: Page, boards: Sequence[Board], links: Mapping[tuple[str, str], str]
) -> Iterator[str]:
    """The front page shows the first lines of each board; each is found by its link."""
    rows = {
        links[addresses.board_slug(board), row.checkpoint.name]: row
        for board in boards
        for row in board.standings
    }
    for table in page.tables:
        for line in table.lines if table.kind == "board" else ():
            row = rows.get(line.href)
            if row is None:
                yield f"{addresses.HOME}: a line links to {line.href} that no board has"
            else:
                said = _line_problems(table, line, row, _IN_SHORT)
                yield from (f"{_where(addresses.HOME, row)}: {one}" for one in said)


def _board_problems(
    page: Page, board: Board, links: Mapping[tuple[str, str], str]
) -> Iterator[str]:
    """The lines of a board, each found by its link."""
    name, slug = addresses.board_page(board), addresses.board_slug(board)
    root = addresses.root_of(name)
    lines: dict[str, list[tuple[Table, Line]]] = defaultdict(list)
    for table in page.tables:
        for line in table.lines if table.kind == "board" else ():
            lines[line.href].append((table, line))
    for row in board.standings:
        mine = lines.get(f"{root}{links[slug, row.checkpoint.name]}", [])
        if not mine:
            yield f"{_where(name, row)}: it has no line"
            continue
        said = _line_problems(*mine.pop(0), row, _COLUMNS)
        yield from (f"{_where(name, row)}: {one}" for one in said)
    for href, rest in lines.items():
        if rest:
            yield f"{name}: {len(rest)} lines link to {href} that no board has"


def _where(name: str, row: Standing) -> str:
    return f"{name}: {row.checkpoint.name} on {row.dataset}, {row.threat}"


def _line_problems(
    table: Table, line: Line, row: Standing, columns: Collection[str]
) -> Iterator[str]:
    """What a line says of accuracies and gap, each of the columns there."""
    if _has_no_numbers(row):
        return
    said = {column: table.cell(line, column) for column in columns}
    missing = [column for column, text in said.items() if text is None]
    if missing:
        yield f"it has no column {' and no '.join(missing)}"
        return
    for column, text in said.items():
        yield from _COLUMNS[column](text or "", row)


def _gap_problems(text: str, row: Standing) -> Iterator[str]:
    gap = row.adaptive_gap
    if gap is not None and not _says(text, 0, 100 * gap):
        yield f"adaptive gap is '{text[:20]}', not {100 * gap:.2f}"


_COLUMNS: Mapping[str, Callable[[str, Standing], Iterator[str]]] = {
    "robust": lambda text, row: _rate_problems("robust accuracy", text, row.robust),
    "clean": lambda text, row: _rate_problems("clean accuracy", text, row.clean),
    "standard": lambda text, row: _share_problems("standard accuracy", text, row.standard),
    "gap": _gap_problems,
}
_IN_SHORT = ("robust", "clean", "gap")
"""Those that the front page has."""


def _page_problems(page: Page, standings: Sequence[Standing]) -> Iterator[str]:
    """Headlines and attacks of a checkpoint's page, evaluation by evaluation."""
    shown = [row for row in standings if not _has_no_numbers(row)]
    if len(page.big) != len(shown):
        yield f"it has {len(page.big)} headlines for {len(shown)} evaluations"
        return
    for text, row in zip(page.big, shown, strict=True):
        yield from _share_problems(f"robust accuracy under {row.threat}", text, row.robust)
    attacks = [attack for row in standings for attack in row.attacks]
    tables = [table for table in page.tables if table.kind == "attacks"]
    lines = [(table, line) for table in tables for line in table.lines]
    if len(lines) != len(attacks):
        yield f"it lists {len(lines)} attacks of {len(attacks)}"
        return
    for (table, line), attack in zip(lines, attacks, strict=True):
        yield from _attack_problems(table, line, attack)


def _attack_problems(table: Table, line: Line, attack: AttackStanding) -> Iterator[str]:
    label, alone, so_far = (table.cell(line, name) for name in ("attack", "alone", "so far"))
    if label is None or alone is None or so_far is None:
        yield f"{attack.label}: its line has no numbers"
        return
    if not label.startswith(attack.label):
        yield f"an attack is '{label[:60]}', not {attack.label}"
    if attack.robust is not None:
        yield from _rate_problems(f"{attack.label}: accuracy", alone, attack.robust)
    yield from _share_problems(f"{attack.label}: so far", so_far, attack.union_after)


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
