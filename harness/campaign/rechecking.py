"""Run what is stored again, from its recorded identity alone, and say where the two agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.attacks.attack import ATTACKS, parse_attack, with_settings
from harness.attacks.surface_text import split_surface
from harness.campaign.pool import others_of
from harness.campaign.request import OTHER_PIXELS, Report
from harness.data import Split, dataset, load
from harness.errors import HarnessError, ModelError
from harness.evaluation.kept import judged_again
from harness.evaluation.subject import Subject, load_subject
from harness.evaluation.work import Work, do
from harness.executors.local import LocalExecutor
from harness.identity import CLEAN, AttackSpec, CheckpointRecord, Failure, Job, Outcome, Runtime
from harness.store.kept import FORMATS, kept_folder, read_note
from harness.store.store import Store, weights_are_here

_NOT_ABOUT_THE_MODEL = frozenset({"not_loaded", "out_of_memory"})
"""How a re-run ends that says nothing about the stored number."""

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Place:
    """Where the parts lie that a re-run needs.

    Args:
        folder: of the weights.
        data_dir: of the test images, None for the cache.
        corrupted_dir: of files of corrupted images, None to generate them.
        may_download: whether missing test images are fetched.
    """

    folder: Path
    data_dir: Path | None = None
    corrupted_dir: Path | None = None
    may_download: bool = True


@dataclass(frozen=True)
class Recheck:
    """How much is run again.

    Args:
        sample: so many images of each row, drawn without replacement; None for every image.
        seed: of the draw.
        attack: only this one, as a label or as `harness eval --attack` takes it; empty for all.
        dataset: only rows on it; empty for all.
    """

    sample: int | None
    seed: int = 0
    attack: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class Agreement:
    """How a re-run of one stored attack compares.

    Args:
        checkpoint: name.
        dataset: as rows name it.
        threat: norm and epsilon in words.
        attack: label.
        population: of the attack.
        seed: of its random streams.
        compared: pairs of this attack and an image that were decided again.
        differing: indices of the images on which the two disagree.
        unchecked: why some or all of it could not be run again; empty where all of it was.
        stored_on: the devices on which it was found.
    """

    checkpoint: str
    dataset: str
    threat: str
    attack: str
    population: str
    seed: int
    compared: int
    differing: tuple[int, ...] = ()
    unchecked: str = ""
    stored_on: tuple[str, ...] = ()

    @property
    def agreeing(self) -> int:
        """Pairs on which the two agree."""
        return self.compared - len(self.differing)


def recheck(
    store: Store,
    records: Sequence[CheckpointRecord],
    asked: Recheck,
    place: Place,
    runtime: Runtime,
    report: Report | None = None,
) -> list[Agreement]:
    """Run stored outcomes again and compare every bit; nothing is recorded.

    An attack that couples the images of a slice is run on whole slices.

    Args:
        store: what was found.
        records: the checkpoints.
        asked: how much of it.
        place: where weights and images lie.
        runtime: device and workers.
        report: told how far it is.

    Raises:
        HarnessError: nothing is stored of these, or no attack is called so.
    """
    found = _outcomes(store, records, asked)
    tallies = {_line(record, outcome.job): _Tally() for record, outcome in found}
    work: list[_Again] = []
    chosen = _drawn([outcome for _, outcome in found], asked)
    splits = _Splits(place)
    stored = store.checkpoints()
    for record, outcome in found:
        tally = tallies[_line(record, outcome.job)]
        tally.devices.add(outcome.runtime.device)
        try:
            again = _again(record, outcome, chosen, splits, stored, place, runtime)
        except HarnessError as error:
            tally.unchecked = tally.unchecked or str(error)
            continue
        if again is not None:
            work.append(again)
    for again, piece in _executed(work, runtime, report):
        tallies[_line(again.record, again.outcome.job)].compare(again, piece)
    return [tally.agreement(line) for line, tally in tallies.items()]


def recheck_kept(
    store: Store,
    records: Sequence[CheckpointRecord],
    asked: Recheck,
    place: Place,
    runtime: Runtime,
) -> list[Agreement]:
    """Judge the images that were kept once more, without the attacks that made them.

    Every file is checked against its SHA-256; every image for shape, box, ball and, in a pass of
    its own, for the decision. All images are judged, whatever `sample` says.

    Raises:
        HarnessError: no image is kept of any of these.
    """
    judge = _Judge(kept_folder(place.folder), place, runtime, _Splits(place))
    tallies: dict[Line, _Tally] = {}
    for record, outcome in _outcomes(store, records, asked):
        for dtype in FORMATS:
            tally = _Tally()
            try:
                judge.judge(record, outcome, dtype, tally)
            except (HarnessError, ModelError) as error:
                tally.unchecked = str(error)
            if tally.compared or tally.unchecked:
                tallies.setdefault(_line(record, outcome.job), _Tally()).add(tally)
    if not tallies:
        raise HarnessError(
            f"no adversarial image of these is kept in {judge.folder}: "
            "repeat `harness eval` with --keep-adversarial uint8."
        )
    return [tally.agreement(line) for line, tally in tallies.items()]


@dataclass
class _Judge:
    """Judges kept images; the checkpoint that was loaded last stays."""

    folder: Path
    place: Place
    runtime: Runtime
    splits: _Splits
    _loaded: tuple[str, Subject] | None = None

    def judge(self, record: CheckpointRecord, outcome: Outcome, dtype: str, tally: _Tally) -> None:
        """Judge what is kept of an outcome in this format, if anything is."""
        job, device = outcome.job, self.runtime.device
        kept = read_note(self.folder, job, dtype)
        if kept is None or not kept.images:
            return
        _check_broken(outcome, kept.images)
        data, subject = self.splits.of(job), self._subject(record, job)
        stands = judged_again(self.folder, kept, job, subject, data, device)
        tally.devices.add(outcome.runtime.device)
        tally.compared = len(stands)
        tally.differing = {i for i, good in zip(kept.images, stands, strict=True) if not good}

    def _subject(self, record: CheckpointRecord, job: Job) -> Subject:
        if self._loaded is None or self._loaded[0] != record.digest:
            known = dataset(_plain(job.dataset))
            found = load_subject(record, self.place.folder, known, device=self.runtime.device)
            self._loaded = (record.digest, found)
        return self._loaded[1]


def _check_broken(outcome: Outcome, images: Iterable[int]) -> None:
    """Refuse images that the stored bits do not call broken."""
    first = outcome.job.first
    wrong = [index for index in images if not outcome.broken[index - first]]
    if wrong:
        raise HarnessError(
            f"images are kept that are not stored as broken, such as image {wrong[0]}: delete "
            "the notes of this checkpoint and keep them again."
        )


Line = tuple[str, str, str, str, str, int]
"""One line of the report: checkpoint, dataset, threat, attack, population, seed."""


def _line(record: CheckpointRecord, job: Job) -> Line:
    threat = str(job.threat)
    return record.name, job.dataset, threat, job.attack.label, job.population, job.seed


class _Tally:
    """What came of one line so far."""

    def __init__(self) -> None:
        self.compared = 0
        self.differing: set[int] = set()
        self.unchecked = ""
        self.devices: set[str] = set()

    def compare(self, again: _Again, piece: Outcome | Failure) -> None:
        """Take in one slice."""
        job, stored = again.outcome.job, again.outcome
        places = [place for place, hit in enumerate(again.attackable) if hit]
        if isinstance(piece, Failure):
            self.unchecked = self.unchecked or f"{piece.status}: {piece.message}"
            if piece.status not in _NOT_ABOUT_THE_MODEL:  # it once did answer
                self.compared += len(places)
                self.differing |= {job.first + place for place in places}
            return
        self.compared += len(places)
        self.differing |= {
            job.first + place for place in places if stored.broken[place] != piece.broken[place]
        }

    def add(self, other: _Tally) -> None:
        """Take in another tally of the same line."""
        self.compared += other.compared
        self.differing |= other.differing
        self.unchecked = self.unchecked or other.unchecked
        self.devices |= other.devices

    def agreement(self, line: Line) -> Agreement:
        """The line of the report."""
        return Agreement(
            *line,
            compared=self.compared,
            differing=tuple(sorted(self.differing)),
            unchecked=self.unchecked,
            stored_on=tuple(sorted(self.devices)),
        )


@dataclass(frozen=True)
class _Again:
    """A stored outcome that is to be found again on some of its images."""

    record: CheckpointRecord
    outcome: Outcome
    attackable: tuple[bool, ...]
    work: Work


class _Splits:
    """Test splits by their name in rows, read once; a reason where one is not here."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._found: dict[str, Split | HarnessError] = {}

    def of(self, job: Job) -> Split:
        """The images of the job.

        Raises:
            HarnessError: they are not here, or are others.
        """
        if job.dataset not in self._found:
            self._found[job.dataset] = self._read(_plain(job.dataset))
        found = self._found[job.dataset]
        if isinstance(found, HarnessError):
            raise found
        if found.identity != job.images:
            raise HarnessError(
                f"the test images of {job.dataset} here are others (SHA-256 "
                f"{found.identity[:12]}) than the stored result is about ({job.images[:12]}): "
                "name the folder of the right ones with --data-dir."
            )
        return found

    def _read(self, name: str) -> Split | HarnessError:
        where, fetch = self._place.data_dir, self._place.may_download
        try:
            return load(name, "test", data_dir=where, download=fetch)
        except HarnessError as error:
            return error


def _outcomes(
    store: Store, records: Sequence[CheckpointRecord], asked: Recheck
) -> list[tuple[CheckpointRecord, Outcome]]:
    everything = [
        (record, outcome)
        for record in {one.digest: one for one in records}.values()
        for outcome in store.outcomes(record.digest)
        if asked.dataset in {"", outcome.job.dataset, _plain(outcome.job.dataset)}
    ]
    if not everything:
        names = ", ".join(record.name for record in records)
        raise HarnessError(f"nothing is stored of {names} yet: evaluate first with `harness eval`.")
    is_meant = _meant(asked.attack)
    found = [pair for pair in everything if is_meant(pair[1].job.attack)]
    if not found:
        labels = sorted({outcome.job.attack.label for _, outcome in everything})
        raise HarnessError(
            f"no stored attack is '{asked.attack[:80]}': give a label such as {labels[0]}, or an "
            f"attack as `harness eval --attack` takes it. Stored: {', '.join(labels)}."
        )
    return found


def _meant(text: str) -> Callable[[AttackSpec], bool]:
    """Whether an attack is the one that `text` calls for; a bare name means its defaults."""
    if not text:
        return lambda _: True
    try:
        wanted = parse_attack(text).hash
    except HarnessError:
        return lambda spec: spec.label == text
    return lambda spec: text == spec.label or spec.hash == wanted


def _drawn(outcomes: Iterable[Outcome], asked: Recheck) -> Mapping[Row, set[int] | None]:
    """Which images of each row are run again; None for every one."""
    covered: dict[Row, set[int]] = defaultdict(set)
    for outcome in outcomes:
        covered[_row(outcome.job)] |= set(range(outcome.job.first, outcome.job.last))
    return {row: _sample(indices, asked) for row, indices in covered.items()}


def _sample(indices: set[int], asked: Recheck) -> set[int] | None:
    if asked.sample is None or asked.sample >= len(indices):
        return None
    draw = np.random.default_rng(asked.seed)
    return set(draw.choice(sorted(indices), asked.sample, replace=False).tolist())


def _row(job: Job) -> Row:
    return job.checkpoint, job.images, str(job.threat)


def _again(
    record: CheckpointRecord,
    outcome: Outcome,
    chosen: Mapping[Row, set[int] | None],
    splits: _Splits,
    stored: Sequence[CheckpointRecord],
    place: Place,
    runtime: Runtime,
) -> _Again | None:
    """The work that decides these images again; None where none of them was attacked."""
    job = outcome.job
    attackable = _attackable(outcome, chosen[_row(job)])
    if not any(attackable):
        return None
    if not weights_are_here(record, place.folder):
        raise HarnessError(
            f"the weights of '{record.name}' are not here ({record.weights[:20]}...): copy them "
            f"to {place.folder}, or name their folder with HARNESS_CHECKPOINTS."
        )
    splits.of(job)
    if job.attack != CLEAN and job.threat.is_ball:
        _check_runs(job.attack)
    surrogates = _surrogates(record, job.attack, stored, place.folder)
    work = Work(
        job=job,
        record=record,
        attackable=attackable,
        dataset=_plain(job.dataset),
        folder=place.folder,
        data_dir=place.data_dir,
        runtime=runtime,
        surrogates=surrogates,
        corrupted_dir=place.corrupted_dir,
    )
    return _Again(record, outcome, attackable, work)


def _attackable(outcome: Outcome, images: set[int] | None) -> tuple[bool, ...]:
    """Who was attacked and is drawn; the whole slice where its images are coupled."""
    first = outcome.job.first
    drawn = [
        hit and (images is None or first + place in images)
        for place, hit in enumerate(outcome.attacked)
    ]
    is_coupled = bool(dict(outcome.job.attack.parameters).get("parity"))
    return outcome.attacked if is_coupled and any(drawn) else tuple(drawn)


def _check_runs(spec: AttackSpec) -> None:
    """Refuse an attack that is not the same here, by another version of it or of its settings.

    Raises:
        HarnessError: it is unknown, or its settings or their defaults are others.
    """
    if spec.attack in ATTACKS and with_settings(spec).hash == spec.hash:
        return
    raise HarnessError(
        f"the attack {spec.label} is not the one of that name here: use the version of the "
        "harness that `harness show` names for the run."
    )


def _surrogates(
    record: CheckpointRecord,
    spec: AttackSpec,
    stored: Sequence[CheckpointRecord],
    folder: Path,
) -> tuple[CheckpointRecord, ...]:
    name, digest = split_surface(spec.surface)
    if name != "surrogate":
        return ()
    others = others_of(record, stored, folder)
    if digest not in others:
        raise HarnessError(
            f"the checkpoint {digest} that {spec.label} transfers from is not here with its "
            "weights: copy it here and repeat."
        )
    return (others[digest],)


def _executed(
    work: Sequence[_Again], runtime: Runtime, report: Report | None
) -> Iterator[tuple[_Again, Outcome | Failure]]:
    if report:
        report.planned(len(work))
    with LocalExecutor(runtime.workers) as executor:
        for number, piece in executor.map(_numbered, list(enumerate(one.work for one in work))):
            yield work[number], piece
            if report:
                job = work[number].work.job
                report.done(job.attack.label, getattr(piece, "seconds", 0.0))


def _numbered(item: tuple[int, Work]) -> tuple[int, Outcome | Failure]:
    number, work = item
    return number, do(work)


def _plain(label: str) -> str:
    """The registered name of a dataset, without what rows add to it."""
    return label.removesuffix(OTHER_PIXELS)
