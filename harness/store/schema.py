"""Tables of the store, in SQLAlchemy Core; every change to them is a new file in `migrations/`.

Types are those that SQLite and PostgreSQL share. Mappings are JSON in text, because curves hold
NaN, which PostgreSQL's own JSON type refuses. Nothing is nullable unless it says so: a NULL in a
unique key would let the same job in twice.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

HEAD = "0004"
"""The revision these tables belong to; a test compares it with the newest file of `migrations/`."""


class Json(TypeDecorator[Any]):
    """A plain value as JSON text; numbers come back bit for bit, NaN included."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _: Dialect) -> str:
        return json.dumps(value, ensure_ascii=False)

    def process_result_value(self, value: str | None, _: Dialect) -> Any:
        return None if value is None else json.loads(value)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _json(name: str) -> Column[Any]:
    return Column(name, Json, nullable=False)


def _refers_to(table: str, *, ondelete: str | None = None) -> Column[int]:
    target = ForeignKey(f"{table}.id", ondelete=ondelete)
    return Column(f"{table}_id", Integer, target, nullable=False)


def _of_function() -> Column[int]:
    return _refers_to("function", ondelete="CASCADE")


# Outcomes belong to the deployed function, not to a name: two names of the same weights share them.
function = Table("function", metadata, Column("id", Integer, primary_key=True), _text("digest"))
function.append_constraint(UniqueConstraint(function.c.digest))

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("name"),
    _of_function(),
    _text("kind"),
    _text("defense"),
    _json("composition"),
    _json("settings"),
    _text("architecture"),
    _json("architecture_settings"),
    _json("recipe"),
    _text("scale"),
    _count("seed"),
    _text("dataset"),
    _text("norm"),
    _text("epsilon"),
    _text("weights"),
    _text("weights_sha256"),
    _text("model"),
    _text("model_sha256"),
    _count("parameters"),
    _json("capabilities"),
    _json("paper"),
    _json("training"),
    _json("curves"),
    _text("created"),
    UniqueConstraint("name"),
)
Index(None, checkpoint.c.function_id)

attack = Table(
    "attack",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("hash"),
    _text("name"),
    _text("surface"),
    _text("loss"),
    _json("parameters"),
    _json("changed"),
    _json("description"),
    UniqueConstraint("hash"),
)

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("name"),
    _text("sha256"),
    _count("size"),
    _json("classes"),
    UniqueConstraint("name", "sha256"),
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("uid"),
    _text("command"),
    _json("versions"),
    _text("device"),
    _text("started"),
    _text("finished"),
    UniqueConstraint("uid"),
)

outcome = Table(
    "outcome",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_function(),
    _refers_to("images"),
    _text("norm"),
    _text("epsilon"),
    _refers_to("attack"),
    _text("population"),
    _count("seed"),
    _text("precision"),
    _count("first"),
    _count("last"),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=True),
    _text("created"),
    _count("forwards"),
    _count("backwards"),
    _count("queries"),
    Column("seconds", Float(53), nullable=False),
    _json("runtime"),
    Column("attacked", LargeBinary, nullable=False),
    Column("broken", LargeBinary, nullable=False),
    Column("columns", LargeBinary, nullable=False),  # last: reading bits never touches its pages
    UniqueConstraint(
        "function_id",
        "images_id",
        "norm",
        "epsilon",
        "attack_id",
        "population",
        "seed",
        "precision",
        "first",
        "last",
    ),
)

plan = Table(
    "plan",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_function(),
    _refers_to("images"),
    _text("norm"),
    _text("epsilon"),
    _count("seed"),
    _text("precision"),
    _text("protocol"),
    _text("attacks_sha256"),
    _json("attacks"),
    UniqueConstraint(
        "function_id",
        "images_id",
        "norm",
        "epsilon",
        "seed",
        "precision",
        "protocol",
        "attacks_sha256",
    ),
)

failure = Table(
    "failure",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_function(),
    _refers_to("images"),
    _text("norm"),
    _text("epsilon"),
    _text("attack"),
    _count("first"),
    _count("last"),
    _text("status"),
    _text("message"),
    _text("created"),
    UniqueConstraint("function_id", "images_id", "norm", "epsilon", "attack", "first", "last"),
)

finding = Table(
    "finding",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_function(),
    _refers_to("images"),
    _text("norm"),
    _text("epsilon"),
    _count("seed"),
    _count("examples"),
    _text("diagnostic"),
    _text("state"),
    Column("value", Float(53), nullable=True),
    _text("threshold"),
    _json("proof"),
    _text("note"),
    _count("is_adaptive"),
    _json("details"),
    _text("created"),
    UniqueConstraint("function_id", "images_id", "norm", "epsilon", "diagnostic"),
)

CLAIM_KEY = (
    "source",
    "place",
    "dataset",
    "architecture",
    "defense",
    "metric",
    "attack",
    "attack_iterations",
    "knowledge",
    "variant",
)
CLAIM_TEXTS = (*CLAIM_KEY, "epsilon", "norm", "printed", "unit", "spread", "quoted_from", "note")

claim = Table(
    "claim",
    metadata,
    Column("id", Integer, primary_key=True),
    *(_text(name) for name in CLAIM_TEXTS),
    UniqueConstraint(*CLAIM_KEY),
)

measurement = Table(
    "measurement",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_function(),
    _refers_to("images"),
    _text("analysis"),
    _text("on"),
    _text("norm"),
    _text("epsilon"),
    _count("seed"),
    _count("examples"),
    _json("values"),
    _text("note"),
    _text("created"),
    UniqueConstraint("function_id", "images_id", "analysis", "on", "norm", "epsilon"),
)

gallery = Table(
    "gallery",
    metadata,
    Column("id", Integer, primary_key=True),
    _refers_to("images"),
    _json("indices"),
    _json("labels"),
    _json("shape"),
    Column("pixels", LargeBinary, nullable=False),
    UniqueConstraint("images_id"),
)

adversarial = Table(
    "adversarial",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_function(),
    _refers_to("images"),
    _text("norm"),
    _text("epsilon"),
    _text("attack"),
    _count("seed"),
    _json("indices"),
    _json("broken"),
    _json("predicted"),
    _json("shape"),
    _text("created"),
    Column("pixels", LargeBinary, nullable=False),
    UniqueConstraint("function_id", "images_id", "norm", "epsilon"),
)
