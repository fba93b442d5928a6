"""A page per checkpoint: what it is, how it was trained, and every evaluation of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.identity import CheckpointRecord, Measurement
from harness.standings import Board, Standing
from harness.standings.corruptions import CorruptionStanding
from leaderboard import addresses, wording
from leaderboard.corrupted import Corruptions
from leaderboard.evaluations import Fact
from leaderboard.frame import Frame
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.panels.about import Facts, about, provenance
from leaderboard.panels.contact_sheet import png, sheet_of
from leaderboard.panels.evaluated import Evaluated, Known
from leaderboard.panels.features import Features, by_place
from leaderboard.panels.training import Curves, training_curves
from leaderboard.panels.transfer import digits_of, mentioned


@page
def checkpoint(material: Material) -> Iterator[Draft]:
    """Drawn anew when anything that is stored about the checkpoint or its places changes."""
    corrupted: dict[str, list[CorruptionStanding]] = {}
    for one in material.corruptions:
        corrupted.setdefault(addresses.checkpoint_page(one.checkpoint), []).append(one)
    names = digits_of(material.boards)
    twins = _twins(material.boards)
    for path, found in addresses.by_checkpoint(material.boards).items():
        record = found[0][1].checkpoint
        stamp = material.stamps.get(record.digest, "")
        standings = [standing for _, standing in found]
        sources = {d: names[d] for d in sorted(_mentioned(standings)) if d in names}
        known = [material.archive.known(standing) for standing in standings]
        same = sorted(twins[record.digest] - {(record.name, path)})
        facts = (
            standings,
            corrupted.get(path, []),
            sources,
            stamp,
            known,
            same,
            material.generated,
        )
        make = partial(
            CheckpointPage.of, material, path, found, corrupted.get(path, []), sources, same
        )
        yield Draft(path, facts, make, "checkpoint.html")
        for number, standing in enumerate(standings, start=1):
            sheet = addresses.sheet(record, number)
            place = (standing.dataset, standing.images, standing.threat, record.digest, stamp)
            yield Draft(sheet, place, partial(_sheet, material, standing))


def _twins(boards: Sequence[Board]) -> Mapping[str, set[tuple[str, str]]]:
    """By digest of a function, the name and page of every checkpoint that is this function."""
    found: dict[str, set[tuple[str, str]]] = {}
    for board in boards:
        for row in board.standings:
            one = (row.checkpoint.name, addresses.checkpoint_page(row.checkpoint))
            found.setdefault(row.checkpoint.digest, set()).add(one)
    return found


def _mentioned(standings: Sequence[Standing]) -> set[str]:
    return {digits for standing in standings for digits in mentioned(standing)}


def _sheet(material: Material, standing: Standing) -> bytes | None:
    """The pictures of an evaluation, if there are any."""
    found = material.archive.gallery(standing)
    sheet = None if found is None else sheet_of(*found)
    return None if sheet is None else png(sheet)


@dataclass(frozen=True)
class Heading:
    """A line of the table of contents: what it is called, its fragment, what lies below."""

    name: str
    anchor: str
    below: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CheckpointPage:
    """Everything about one checkpoint: what it is, and one evaluation per board that it is on."""

    title: str
    subtitle: str
    scale: str
    is_small_scale: bool
    family: Fact | None
    twins: tuple[Fact, ...]
    contents: tuple[Heading, ...]
    evaluations: tuple[Evaluated, ...]
    corruptions: tuple[Corruptions, ...]
    features: tuple[Features, ...]
    analyse: str
    about: tuple[Facts, ...]
    curves: Curves | None
    provenance: tuple[Fact, ...]
    frame: Frame

    @classmethod
    def of(
        cls,
        material: Material,
        path: str,
        found: Sequence[tuple[Board, Standing]],
        corruptions: Sequence[CorruptionStanding],
        sources: Mapping[str, tuple[str, str]],
        same: Sequence[tuple[str, str]] = (),
    ) -> CheckpointPage:
        """The page of the checkpoint that all these standings are about, each with its board.

        Args:
            material: whose archive is read now.
            path: of the page.
            found: its standings.
            corruptions: its standings on corrupted images.
            sources: name and page of other checkpoints that it names by their digits.
            same: name and page of others that are the same function.
        """
        board, standing = found[0]
        record = standing.checkpoint
        root = addresses.root_of(path)
        measurements = material.archive.measurements(record)
        links = {digits: Fact("", name, root + page) for digits, (name, page) in sources.items()}
        known = Known(material, measurements, links)
        evaluations = tuple(Evaluated.of(known, n, *place) for n, place in enumerate(found, 1))
        corrupted = tuple(Corruptions.of(n, c) for n, c in enumerate(corruptions, start=1))
        features = tuple(_features(measurements))
        curves = training_curves(record)
        above = (f"{board.dataset}, {wording.threat(board.threat)}", addresses.board_page(board))
        return cls(
            title=record.name,
            subtitle=_kind(record),
            scale=wording.scale(record),
            is_small_scale=wording.is_small_scale(record),
            family=_family(material, record, root),
            twins=tuple(Fact("", name, root + page) for name, page in same),
            contents=tuple(_contents(evaluations, corrupted, features, curves)),
            evaluations=evaluations,
            corruptions=corrupted,
            features=features,
            analyse=wording.analyse(standing),
            about=about(record),
            curves=curves,
            provenance=provenance(record),
            frame=Frame.of(path, above, generated=material.generated),
        )


def _features(measurements: Sequence[Measurement]) -> Iterator[Features]:
    """One part per dataset and threat model that something was measured under."""
    number = 1
    for found in by_place(measurements):
        part = Features.of(number, found)
        if part is not None:
            yield part
            number += 1


def _contents(
    evaluations: Sequence[Evaluated],
    corrupted: Sequence[Corruptions],
    features: Sequence[Features],
    curves: Curves | None,
) -> Iterator[Heading]:
    for one in evaluations:
        yield Heading(one.evaluation.heading, one.evaluation.anchor, one.rooms)
    for each in corrupted:
        yield Heading("Corrupted images", each.anchor)
    for anchor in [part.anchor for part in features] or ["features"]:
        yield Heading("Features", anchor)
    yield Heading("What it is", "about")
    if curves is not None:
        yield Heading("How it was trained", "curves")
    yield Heading("Provenance", "provenance")


def _family(material: Material, record: CheckpointRecord, root: str) -> Fact | None:
    """The family of its defense; None for a model from elsewhere and for a new combination."""
    text = material.texts.defenses.get(record.defense)
    if text is None:
        return None
    return Fact("Family", text.family, root + addresses.family_page(text.family))


def _kind(record: CheckpointRecord) -> str:
    defense = record.defense or "added model"
    return ", ".join(part for part in (defense, record.architecture, record.dataset) if part)
