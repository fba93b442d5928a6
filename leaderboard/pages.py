"""One frozen dataclass per page: everything its template may use, ready to show.

Templates loop and place; every decision about a number or a word is made here, in
`evaluations` or in `wording`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from harness.identity import CheckpointRecord
from harness.standings import Board, Standing
from harness.standings.corruptions import CorruptionStanding
from leaderboard import charts, wording
from leaderboard.corrupted import Corruptions
from leaderboard.evaluations import Evaluation, Fact, Row, anchor


@dataclass(frozen=True)
class BoardTable:
    """One board: a heading, what it compares, its rows in the order given, the unranked last."""

    anchor: str
    dataset: str
    threat: str
    summary: str
    images: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class IndexPage:
    """The front page: every board, or what to run when there is none."""

    boards: tuple[BoardTable, ...]
    has_boards: bool
    has_many_boards: bool
    generated: str
    root: str = ""

    @classmethod
    def from_boards(cls, boards: Sequence[Board], *, generated: str = "") -> IndexPage:
        """The boards in the order given."""
        tables = (_table(board, linked) for board, linked in _linked(boards))
        shown = tuple(table for table in tables if table.rows)
        return cls(shown, bool(shown), len(shown) > 1, generated)


@dataclass(frozen=True)
class Facts:
    """A titled list of facts."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Curves:
    """Training curves: a drawing each, and all their numbers in one table."""

    charts: tuple[tuple[str, charts.Chart], ...]
    names: tuple[str, ...]
    epochs: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class CheckpointPage:
    """Everything about one checkpoint: what it is, and one evaluation per board that it is on."""

    title: str
    subtitle: str
    scale: str
    is_small_scale: bool
    evaluations: tuple[Evaluation, ...]
    corruptions: tuple[Corruptions, ...]
    about: tuple[Facts, ...]
    curves: Curves | None
    provenance: tuple[Fact, ...]
    generated: str
    root: str = "../"

    @classmethod
    def from_standing(
        cls,
        *standings: Standing,
        corruptions: Sequence[CorruptionStanding] = (),
        generated: str = "",
    ) -> CheckpointPage:
        """The page of the checkpoint that all these standings are about."""
        record = standings[0].checkpoint
        return cls(
            title=record.name,
            subtitle=_kind(record),
            scale=wording.scale(record),
            is_small_scale=wording.is_small_scale(record),
            evaluations=tuple(Evaluation.of(n, s) for n, s in enumerate(standings, start=1)),
            corruptions=tuple(Corruptions.of(n, c) for n, c in enumerate(corruptions, start=1)),
            about=_about(record),
            curves=_curves(record),
            provenance=_provenance(record),
            generated=generated,
        )


def address(record: CheckpointRecord) -> str:
    """Where a checkpoint's page lies, relative to the site's folder."""
    return f"checkpoints/{wording.slug(record.name)}.html"


def group_by_checkpoint(boards: Iterable[Board]) -> dict[str, list[Standing]]:
    """All standings of each checkpoint, by the address of its page, in the order of the boards."""
    groups: dict[str, list[Standing]] = {}
    for board in boards:
        for standing in board.standings:
            groups.setdefault(address(standing.checkpoint), []).append(standing)
    return groups


def _linked(boards: Iterable[Board]) -> Iterator[tuple[Board, list[tuple[Standing, str]]]]:
    """Each board with its standings, each of them with where it is told in full."""
    told: Counter[str] = Counter()
    for board in boards:
        linked = []
        for standing in board.standings:
            page = address(standing.checkpoint)
            told[page] += 1
            fragment = f"#{anchor(told[page])}" if told[page] > 1 else ""
            linked.append((standing, f"{page}{fragment}"))
        yield board, linked


def _table(board: Board, linked: Sequence[tuple[Standing, str]]) -> BoardTable:
    ordered = sorted(linked, key=lambda pair: pair[0].rank is None)
    ranked = sum(standing.rank is not None for standing in board.standings)
    summary = wording.plural(len(linked), "checkpoint")
    if ranked < len(linked):
        summary += f", {wording.count(ranked)} of them ranked,"
    return BoardTable(
        anchor=wording.board_anchor(board),
        dataset=board.dataset,
        threat=wording.threat(board.threat),
        summary=summary,
        images=board.images[:12],
        rows=tuple(Row.of(standing, href) for standing, href in ordered),
    )


def _kind(record: CheckpointRecord) -> str:
    defense = record.defense or "added model"
    return ", ".join(part for part in (defense, record.architecture, record.dataset) if part)


def _about(record: CheckpointRecord) -> tuple[Facts, ...]:
    groups = (
        ("Checkpoint", _checkpoint_facts(record)),
        ("Composition", _facts(record.composition)),
        ("Settings of the defense", _facts(record.settings)),
        ("Architecture", (*_architecture_facts(record), *_facts(record.architecture_settings))),
        ("Recipe", _facts(record.recipe)),
        ("Training", _training_facts(record.training)),
        ("Paper", _paper_facts(record.paper)),
    )
    return tuple(Facts(title, facts) for title, facts in groups if facts)


def _checkpoint_facts(record: CheckpointRecord) -> tuple[Fact, ...]:
    is_ours = record.kind == "trained"
    return (
        Fact("Origin", "trained by this harness" if is_ours else "trained elsewhere, then added"),
        Fact("Defense", record.defense or "not one of the harness"),
        Fact("Scale of training", wording.scale(record) or "not known"),
        Fact("Seed of training", str(record.seed)),
        Fact("Threat model of training", wording.threat(record.threat)),
        Fact("An attacker can reach", wording.reachable(record.capabilities)),
        Fact("Classes", str(record.capabilities.classes)),
    )


def _architecture_facts(record: CheckpointRecord) -> tuple[Fact, ...]:
    facts = [Fact("Name", record.architecture)] if record.architecture else []
    if record.parameters:
        facts.append(Fact("Parameters", wording.count(record.parameters)))
    return tuple(facts)


def _facts(mapping: Mapping[str, object]) -> tuple[Fact, ...]:
    """What was set; an empty word means "none" and has no line."""
    return tuple(Fact(name, text) for name, text in wording.settings(mapping) if text)


def _paper_facts(paper: Mapping[str, str]) -> tuple[Fact, ...]:
    return tuple(
        Fact(key.replace("_", " "), text, wording.link(key, text))
        for key, text in paper.items()
        if text
    )


def _training_facts(training: Mapping[str, object]) -> tuple[Fact, ...]:
    """Without what there is none of: no teacher, no collapse."""
    return tuple(
        _training_fact(key, entry)
        for key, entry in training.items()
        if entry != "" and (key, entry) != ("collapsed_at", 0)
    )


def _training_fact(key: str, entry: object) -> Fact:
    if key == "seconds" and isinstance(entry, int | float) and math.isfinite(entry):
        return Fact("time", wording.duration(float(entry)))
    return Fact(key.replace("_", " "), wording.value(entry))


def _curves(record: CheckpointRecord) -> Curves | None:
    drawn = []
    for key, values in record.curves.items():
        name = key.replace("_", " ")
        chart = charts.training_curve(name, values)
        if chart is not None:
            drawn.append((name, chart))
    if not drawn:
        return None
    columns = [[f"{number:.4g}" for number in values] for values in record.curves.values()]
    rows = zip_longest(*columns, fillvalue=wording.NOTHING)
    return Curves(
        charts=tuple(drawn),
        names=tuple(key.replace("_", " ") for key in record.curves),
        epochs=tuple((str(epoch), tuple(row)) for epoch, row in enumerate(rows, start=1)),
    )


def _provenance(record: CheckpointRecord) -> tuple[Fact, ...]:
    facts = (
        Fact("Checkpoint digest", record.digest),
        Fact("Weights", record.weights),
        Fact("Weights, SHA-256", record.weights_sha256),
        Fact("Model code", record.model),
        Fact("Model code, SHA-256", record.model_sha256),
        Fact("Stored", record.created),
    )
    return tuple(fact for fact in facts if fact.text)
