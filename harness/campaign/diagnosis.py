"""Diagnose checkpoints and record what is found; what is stored is not run again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.campaign.pieces import run_pieces
from harness.campaign.pool import pool_of
from harness.campaign.request import Provenance, Report, Subjects
from harness.catalogue import DEFENSES
from harness.diagnostics.diagnostic import DIAGNOSTICS, NOT_RUN
from harness.diagnostics.examination import RowFacts
from harness.errors import unknown_name
from harness.evaluation.examine import Diagnosis, diagnose, missing
from harness.identity import CheckpointRecord, Failure, Finding, Runtime
from harness.protocols import PROTOCOLS
from harness.standings import Standing, boards
from harness.standings.claimed import claimed_accuracy
from harness.store.store import Store
from harness.threat import ThreatModel


def diagnose_all(
    store: Store,
    subjects: Subjects,
    *,
    threat: ThreatModel,
    examples: int,
    runtime: Runtime,
    wanted: Sequence[str] = (),
    seed: int = 0,
    provenance: Provenance | None = None,
    report: Report | None = None,
) -> list[Failure]:
    """Run what is missing, one checkpoint per piece of work.

    Args:
        store: where findings go.
        subjects: the checkpoints and their test split.
        threat: of the attacks.
        examples: the subset is taken from the first so many images.
        runtime: device and workers.
        wanted: ids; all of them if empty.
        seed: run seed.
        provenance: recorded with the run.
        report: told how far it is.

    Raises:
        HarnessError: an id that no diagnostic has.
    """
    chosen = check_ids(wanted)
    count = min(examples, len(subjects.data))
    work = list(_work(store, subjects, threat, count, chosen, seed, runtime))
    pieces = run_pieces(
        diagnose,
        work,
        store,
        subjects,
        runtime,
        kind="diagnostics",
        provenance=provenance,
        report=report,
    )
    failures = []
    for found in pieces:
        if isinstance(found, Failure):
            store.record_failure(found)
            failures.append(found)
        else:
            for finding in found:
                if not _is_measured(store, finding):
                    store.record_finding(finding)
    return failures


def _is_measured(store: Store, finding: Finding) -> bool:
    """Whether what could not be run now was measured before, and that still holds.

    Surrogates may be missing here that another machine had. What is about the row is another
    matter: its numbers may have changed.
    """
    if finding.state != NOT_RUN or _is_about_the_row(finding):
        return False
    stored = store.findings(finding.checkpoint, images=finding.images, threat=finding.threat)
    return any(
        (one.diagnostic, one.dataset) == (finding.diagnostic, finding.dataset)
        and one.state != NOT_RUN
        for one in stored
    )


def check_ids(wanted: Sequence[str]) -> tuple[str, ...]:
    """The ids that were asked for, all of them if none.

    Raises:
        HarnessError: an id that no diagnostic has.
    """
    for identity in wanted:
        if identity not in DIAGNOSTICS:
            raise unknown_name("diagnostic", identity, DIAGNOSTICS)
    return tuple(wanted) or tuple(DIAGNOSTICS)


def findings_of(
    store: Store, subjects: Subjects, record: CheckpointRecord, threat: ThreatModel
) -> list[Finding]:
    """What is stored about a checkpoint on these images, by id."""
    found = store.findings(record.digest, images=subjects.data.identity, threat=threat)
    return sorted(
        (one for one in found if one.dataset == subjects.label), key=lambda one: one.diagnostic
    )


def _work(
    store: Store,
    subjects: Subjects,
    threat: ThreatModel,
    examples: int,
    wanted: tuple[str, ...],
    seed: int,
    runtime: Runtime,
) -> Iterator[Diagnosis]:
    rows, everything = _rows(store, subjects, threat), store.checkpoints()
    for record in {one.digest: one for one in subjects.records}.values():
        row = _facts(record, rows)
        stored = _current(findings_of(store, subjects, record, threat), row)
        pool = pool_of(record, everything, subjects.folder)
        lacking = missing(
            stored,
            wanted,
            seed=seed,
            examples=examples,
            is_adaptive=row.is_adaptive,
            has_surrogates=bool(pool),
        )
        if not lacking:
            continue
        yield Diagnosis(
            record=record,
            diagnostics=lacking,
            dataset=subjects.dataset.name,
            label=subjects.label,
            images=subjects.data.identity,
            threat=threat,
            seed=seed,
            examples=examples,
            folder=subjects.folder,
            data_dir=subjects.data_dir,
            device=runtime.device,
            surrogates=tuple(pool[digest] for digest in sorted(pool)),
            row=row,
        )


def _current(stored: Sequence[Finding], row: RowFacts) -> list[Finding]:
    """Without those about the row, where its two numbers have changed since (a search, say)."""
    gap = next((one for one in stored if one.diagnostic == "D20"), None)
    if gap is None or gap.value is None or row.standard is None or row.robust is None:
        return list(stored)
    if abs(gap.value - 100 * (row.standard - row.robust)) < 1e-6:
        return list(stored)
    return [one for one in stored if not _is_about_the_row(one)]


def _is_about_the_row(one: Finding) -> bool:
    known = one.diagnostic in DIAGNOSTICS
    return known and DIAGNOSTICS[one.diagnostic].needs in {"row", "heads"}


def _rows(store: Store, subjects: Subjects, threat: ThreatModel) -> list[Standing]:
    return [
        standing
        for board in boards(store)
        if (board.dataset, board.images, board.threat)
        == (subjects.label, subjects.data.identity, threat)
        for standing in board.standings
    ]


def _claimed(record: CheckpointRecord, row: Standing) -> float | None:
    """What the papers claim of it, if its settings are theirs on its dataset and architecture."""
    if record.defense not in DEFENSES:
        return None
    entry = DEFENSES[record.defense]
    base = str(record.settings.get("base", ""))
    variant = entry.variant(record.dataset, record.architecture, base)
    _, published = entry.compose({"base": base} if base else {}, variant)
    if published != dict(record.settings):
        return None
    return claimed_accuracy(record, row.dataset, row.threat)


def _facts(record: CheckpointRecord, rows: Sequence[Standing]) -> RowFacts:
    mine = next((row for row in rows if row.checkpoint.digest == record.digest), None)
    if mine is None or mine.examples == 0:
        return RowFacts()
    others = [
        row.robust.fraction
        for row in rows
        if row.checkpoint.digest != record.digest
        and row.level in {"E3", "E4"}
        and row.checkpoint.parameters <= 2 * max(1, record.parameters)
    ]
    return RowFacts(
        robust=mine.robust.fraction,
        standard=None if mine.standard is None else mine.standard.fraction,
        is_adaptive=PROTOCOLS["adaptive"].key in mine.protocols,
        claimed=_claimed(record, mine),
        best=max(others, default=None),
        level=mine.level,
        examples=mine.examples,
    )
