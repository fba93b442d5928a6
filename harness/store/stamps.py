"""What changes whenever something that is stored of a checkpoint does: its stamp."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Table,
    Text,
    func,
    select,
    type_coerce,
)

from harness.store import schema

_LENGTH = 16
"""Hexadecimal digits of a stamp: two states share 64 bits by no accident."""

Fact = tuple[int, Any]
"""The id of a function, and something that is stored of it."""


def read_stamps(connection: Connection) -> dict[str, str]:
    """Per digest of a function a short text that stays while nothing stored of it changes.

    Outcomes are never renewed: their number, greatest id and newest date tell. Rows of all other
    tables are, so they are read whole, pictures apart, which count by their length. What is said
    of the attacks and the test images of its outcomes, and the pictures of these, are part of it.
    """
    function = schema.function.c
    names = connection.execute(select(function.id, function.digest))
    digests = {row.id: row.digest for row in names}
    sums = {number: hashlib.sha256() for number in digests}
    for number, fact in _facts(connection):
        if number in sums:
            sums[number].update(repr(fact).encode("utf-8", "surrogateescape"))
    return {digests[number]: found.hexdigest()[:_LENGTH] for number, found in sums.items()}


def _facts(connection: Connection) -> Iterator[Fact]:
    """Everything, that of one function always in the same order."""
    for table in schema.metadata.sorted_tables:
        if table is schema.outcome:
            yield from _counted(connection)
            yield from _described(connection)
        elif "function_id" in table.c:
            for number, *values in connection.execute(_whole(table)):
                yield number, (table.name, values)


def _whole(table: Table) -> Any:
    values = [_plain(column) for column in table.c if column.name not in {"id", "function_id"}]
    return select(table.c.function_id, *values).order_by(table.c.id)


def _plain(column: Column[Any]) -> ColumnElement[Any]:
    """JSON as its text, bytes as their number."""
    if isinstance(column.type, LargeBinary):
        return func.length(column)
    return type_coerce(column, Text) if isinstance(column.type, schema.Json) else column


def _counted(connection: Connection) -> Iterator[Fact]:
    table = schema.outcome.c
    totals = (func.count(), func.max(table.id), func.max(table.created))
    for number, *values in connection.execute(
        select(table.function_id, *totals).group_by(table.function_id)
    ):
        yield number, (schema.outcome.name, values)


def _described(connection: Connection) -> Iterator[Fact]:
    """What is said of the attacks and the images that outcomes name, and what is shown of these."""
    said = [_by_id(connection, table) for table in (schema.attack, schema.images)]
    shown = _pictures(connection)
    table = schema.outcome.c
    named = (table.function_id, table.attack_id, table.images_id)
    for number, *ids in connection.execute(select(*named).distinct().order_by(*named)):
        named_by = [known.get(one) for known, one in zip(said, ids, strict=True)]
        yield number, (named_by, shown.get(ids[-1]))


def _by_id(connection: Connection, table: Table) -> dict[int, Any]:
    values = [_plain(column) for column in table.c if column.name != "id"]
    return {number: rest for number, *rest in connection.execute(select(table.c.id, *values))}


def _pictures(connection: Connection) -> dict[int, Any]:
    """By id of the test images, the row of the pictures that are kept of them."""
    table = schema.gallery
    values = [_plain(column) for column in table.c if column.name not in {"id", "images_id"}]
    found = connection.execute(select(table.c.images_id, *values))
    return {number: rest for number, *rest in found}
