"""Rows of somebody else's database, and pages of anything that one may hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from fuzzing import VALUES, WORDS, efforts, fuzz
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    EVERY,
    Capabilities,
    CheckpointRecord,
    Claim,
    Failure,
    Finding,
    Job,
    Measurement,
    Outcome,
    Plan,
)
from harness.standings.export import as_csv, as_json
from harness.store import rows, untrusted
from harness.store.exchange import _MALFORMED
from harness.store.rows import Images, Run
from harness.threat import ThreatModel
from leaderboard import site as site_module
from leaderboard.material import Material
from leaderboard.pages import all_drafts

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))
from page_reader import read
from synthetic_boards import board, corrupted, failed, finding, record, standing

DIGEST, IMAGES = "d" * 64, "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
OWNER = {"checkpoint": DIGEST, "dataset": "digits", "images": IMAGES}
WHERE = (DIGEST, "digits", IMAGES, THREAT)

RECORD = CheckpointRecord(
    name="trades",
    digest=DIGEST,
    kind="trained",
    dataset="digits",
    threat=THREAT,
    weights="w.safetensors",
    weights_sha256="e" * 64,
    capabilities=Capabilities(10, hard=("round",)),
    scale="smoke",
    settings={"beta": 6.0},
    training={"collapsed_at": 3, "device": "cpu"},
    paper={"title": "A title"},
    curves={"loss": (1.0, 0.5)},
)
OUTCOME = Outcome(
    Job(*WHERE, CLEAN, EVERY, 0, "float32", 0, 4),
    *((True,) * 4, (False,) * 4),
    columns={"loss": (0.5,) * 4},
    forwards=4,
    seconds=1.0,
)
FINDING = Finding(*WHERE, 0, 10, "D01", "red", 0.5, "words", (1,), "a note", details={"a": (1.0,)})
MEASURED = Measurement(*WHERE, 0, 10, "gaps", "clean", {"a": (1.0,)}, "a note")
PLAN = Plan(*WHERE, 0, "float32", "standard-2", ((CLEAN.hash, EVERY),))
FAILURE = Failure(*WHERE, "pgd@logits:ce", "non_finite", "NaN")
CLAIM = Claim(*("x",) * 7, "40", "white_box", "", "8/255", "linf", "1.5", "percent")
RUN = Run("0" * 32, "harness eval", {"torch": "2.6"}, "cpu", "2026-01-01T00:00:00+00:00")


def outcome_of(row: rows.Row) -> Outcome:
    return untrusted.outcome(row, CLEAN, {("digits", IMAGES): 100})


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the database gives it."""
    return {
        key: json.loads(json.dumps(value)) if isinstance(value, dict | list) else value
        for key, value in row.items()
    }


ROWS: dict[str, tuple[dict[str, Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "checkpoint": (
        {**rows.checkpoint_row(RECORD), "digest": DIGEST},
        untrusted.checkpoint,
        lambda found: {**rows.checkpoint_row(found), "digest": found.digest},
    ),
    "attack": (
        {**rows.attack_row(CLEAN), "description": {"source": "a paper"}},
        untrusted.attack,
        lambda found: {**rows.attack_row(found), "description": {}},
    ),
    "outcome": (
        {**rows.outcome_row(OUTCOME), **OWNER, "created": ""},
        outcome_of,
        lambda found: {**rows.outcome_row(found), **owner_of(found.job), "created": ""},
    ),
    "plan": (
        {**rows.plan_row(PLAN), **OWNER},
        untrusted.plan,
        lambda found: {**rows.plan_row(found), **owner_of(found)},
    ),
    "failure": (
        {**rows.failure_row(FAILURE), **OWNER},
        untrusted.failure,
        lambda found: {**rows.failure_row(found), **owner_of(found)},
    ),
    "finding": (
        {**rows.finding_row(FINDING), **OWNER},
        untrusted.finding,
        lambda found: {**rows.finding_row(found), **owner_of(found)},
    ),
    "measurement": (
        {**rows.measurement_row(MEASURED), **OWNER},
        untrusted.measurement,
        lambda found: {**rows.measurement_row(found), **owner_of(found)},
    ),
    "claim": (rows.claim_row(CLAIM), untrusted.claim, rows.claim_row),
    "run": (rows.run_row(RUN), untrusted.run, rows.run_row),
}


def owner_of(found: Any) -> dict[str, str]:
    return {key: getattr(found, key) for key in OWNER}


@efforts(400)
@pytest.mark.parametrize("kind", list(ROWS))
def test_a_row_that_is_believed_says_the_same_when_it_is_stored(effort, kind):
    whole, believe, stored = ROWS[kind]

    def check(changes, inner):
        row = {**plain(whole), **changes}
        for name, value in inner.items():
            if isinstance(row.get(name), dict):
                row[name] = {**row[name], **value}
        try:
            found = believe(row)
        except _MALFORMED as error:
            raise HarnessError(str(error)) from error
        again = believe(plain(stored(found)))
        assert repr(again) == repr(found)  # NaN is no equal of itself
        assert len(json.dumps(stored(found), default=repr)) < 500_000
        if isinstance(found, CheckpointRecord):
            assert found.scale in {"", "smoke", "reduced", "full"}
            assert type(found.training.get("collapsed_at", 0)) is int
            assert ".." not in Path(found.weights).parts
            assert all(not Path(name).is_absolute() for name in found.files)

    names = st.sampled_from(sorted(whole))
    values = st.one_of(VALUES, st.dictionaries(WORDS, WORDS, max_size=2), st.just(b"\x00"))
    fuzz(
        effort,
        check,
        changes=st.dictionaries(names, values, max_size=2),
        inner=st.dictionaries(names, st.dictionaries(WORDS, VALUES, max_size=2), max_size=1),
    )


@efforts(200)
def test_images_that_are_believed_have_a_name_a_digest_and_a_size(effort):
    def check(name, sha256, size, classes):
        try:
            found = untrusted.images(Images(name, sha256, size, classes))
        except _MALFORMED as error:
            raise HarnessError(str(error)) from error
        assert type(found.name) is str
        assert len(found.sha256) == 64
        assert 0 <= found.size <= rows.LARGEST_INDEX

    fuzz(
        effort,
        check,
        name=st.one_of(st.just("digits"), VALUES),
        sha256=st.one_of(st.just(IMAGES), VALUES),
        size=st.one_of(st.integers(0, 10), VALUES),
        classes=st.lists(st.one_of(st.sampled_from("ab"), VALUES), max_size=3).map(tuple),
    )


TEXT = st.one_of(WORDS, st.text(min_size=1, max_size=300))
NUMBERS = st.lists(st.floats(), max_size=4).map(tuple)
ENTRIES = st.dictionaries(
    TEXT, st.one_of(TEXT, st.floats(), st.integers(), st.booleans()), max_size=3
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("defense", "architecture", "scale", "kind", "weights", "model"), TEXT),
        **dict.fromkeys(("created", "dataset", "weights_sha256"), TEXT),
        **dict.fromkeys(("settings", "recipe", "training", "architecture_settings"), ENTRIES),
        **dict.fromkeys(("composition", "paper"), st.dictionaries(TEXT, TEXT, max_size=3)),
        "curves": st.dictionaries(TEXT, NUMBERS, max_size=2),
        "parameters": st.integers(-1, 2**63),
        "seed": st.integers(),
    },
)
FOUND = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("diagnostic", "state", "threshold", "note", "created"), TEXT),
        "value": st.one_of(st.none(), st.floats()),
        "proof": st.lists(st.integers(0, 2**40), max_size=30).map(tuple),
        "details": st.dictionaries(TEXT, NUMBERS, max_size=2),
    },
)
KNOWN = {field.name for field in fields(CheckpointRecord)}


@efforts(30)
def test_a_page_of_anything_has_only_the_elements_of_a_page(effort):
    allowed = {tag for page in pages_of([board(standing(), failed())]) for tag in read(page).tags()}

    def check(name, about, found, message, dataset):
        row = standing(
            checkpoint=record(name, **{**about, "dataset": dataset}),
            dataset=dataset,
            findings=(finding("D01", **found) if "diagnostic" not in found else changed(found),),
            lacking=(message,),
        )
        boards = [board(row, failed(f"{name}!", message=message), dataset=dataset)]
        for page in pages_of(boards, [replace(corrupted(row.checkpoint), made_by=message)]):
            parsed = read(page)
            assert {*parsed.tags()} <= allowed
            assert not [key for _, more in parsed.elements for key in more if key.startswith("on")]
            assert not [link for link in parsed.attributes("href") if "javascript:" in link.lower()]
            assert not {*map(chr, range(32))} - {"\n", "\t"} & {*page}
        json.loads(as_json(boards).encode(errors="replace"))
        as_csv(boards).encode()

    fuzz(
        effort,
        check,
        name=TEXT,
        about=RECORDS,
        found=FOUND,
        message=st.one_of(TEXT, TEXT.map(lambda text: text * 300)),
        dataset=TEXT,
        refusals=0,
    )


def changed(found: dict[str, Any]) -> Finding:
    return replace(finding("D01"), **found)


SAME_FOR_ALL = ("reading", "museum", "claims", "studies")


def pages_of(boards: list[Any], corruptions: list[Any] | None = None) -> list[str]:
    """Every page that rows can change."""
    about = corruptions or [corrupted(boards[0].standings[0].checkpoint)]
    drafts = all_drafts(Material(boards=boards, corruptions=about))
    mine = [draft for draft in drafts if not draft.path.startswith(SAME_FOR_ALL)]
    files = site_module._render(mine)
    return [page.decode() for name, page in files.items() if page and name.endswith(".html")]


@pytest.mark.parametrize("kind", ["outcome", "plan"])
def test_a_precision_that_nothing_has_is_refused(kind):
    row, read, _ = ROWS[kind]
    read({**plain(row), "precision": "mixed"})
    with pytest.raises(ValueError, match="precision"):
        read({**plain(row), "precision": "anything"})
