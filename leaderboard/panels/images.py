"""The image browser: the first test images, what an attack made of them, and which broke each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.identity import PICTURES, AdversarialGallery, Gallery
from harness.standings import Standing
from harness.standings.insight import Insight
from leaderboard import wording
from leaderboard.panels.contact_sheet import ROWS, Sheet, sheet_of

_NAMES = {"clean": "Clean", "adversarial": "Attacked", "difference": "Change"}
BROKEN, KEPT, WRONG = "broken", "kept", "wrong"
_VERDICTS = {BROKEN: "broken", KEPT: "not broken", WRONG: "already wrong"}


@dataclass(frozen=True)
class Crop:
    """One picture cut out of the sheet: its name, the part of the sheet, what it shows."""

    name: str
    box: str
    label: str


@dataclass(frozen=True)
class Picture:
    """One test image. `state` is `broken`, `kept` or `wrong` without any attack."""

    index: str
    state: str
    verdict: str
    true: str
    decided: str
    aside: str
    crops: tuple[Crop, ...]
    numbers: str


@dataclass(frozen=True)
class Images:
    """All pictures of an evaluation; `width` and `height` are the sheet's, in its pixels."""

    sheet: str
    width: str
    height: str
    said: str
    counts: tuple[tuple[str, str, str], ...]
    pictures: tuple[Picture, ...]

    @classmethod
    def of(
        cls,
        standing: Standing,
        galleries: tuple[Gallery, AdversarialGallery] | None,
        found: Insight | None,
        href: str,
    ) -> Images | None:
        """None where no pictures are kept, or none that a page can show.

        Args:
            standing: the evaluation, whose attacks have their numbers in its table.
            galleries: clean and attacked.
            found: which attacks broke each image, and the names of the classes.
            href: where the sheet lies.
        """
        if galleries is None or (sheet := sheet_of(*galleries)) is None:
            return None
        view = _View(standing, sheet, *galleries, found)
        pictures = tuple(view.picture(column) for column in range(len(sheet.indices)))
        across, down = sheet.tile
        return cls(
            sheet=href,
            width=str(len(sheet.indices) * across),
            height=str(len(ROWS) * down),
            said=_said(sheet, galleries[1]),
            counts=_counts(pictures),
            pictures=pictures,
        )


@dataclass(frozen=True)
class _View:
    """Everything that a picture's text follows from."""

    standing: Standing
    sheet: Sheet
    clean: Gallery
    attacked: AdversarialGallery
    found: Insight | None

    def picture(self, column: int) -> Picture:
        index = self.sheet.indices[column]
        label = self.clean.labels[self.clean.indices.index(index)]
        decision = self.attacked.predicted[self.attacked.indices.index(index)]
        true, decided = self._class(label), self._class(decision)
        state, labels = self._state(index, is_right=decision == label), self._labels(index)
        shown = {
            "clean": f"Image {index}, class {true}",
            "adversarial": f"Image {index} attacked, decided as {decided}",
            "difference": f"Change times {self.sheet.amplified}",
        }
        return Picture(
            index=str(index),
            state=state,
            verdict=_VERDICTS[state],
            true=true,
            decided=decided,
            aside=self._aside(index, state),
            crops=tuple(
                Crop(_NAMES[name], self._box(column, row), shown[name])
                for row, name in enumerate(ROWS)
            ),
            numbers=self._numbers(labels),
        )

    def _labels(self, index: int) -> tuple[str, ...]:
        """Of the attacks that broke it, in the order of the plan."""
        return self.found.broken_by.get(index, ()) if self.found else ()

    def _state(self, index: int, *, is_right: bool) -> str:
        """By all attacks where they are known, else by the one that is shown."""
        is_broken = self.attacked.broken[self.attacked.indices.index(index)]
        if is_broken or self._labels(index):
            return BROKEN
        if self.found is not None and index < min(PICTURES, self.standing.examples):
            return KEPT if index in self.found.broken_by else WRONG
        return KEPT if is_right else WRONG

    def _aside(self, index: int, state: str) -> str:
        """What the picture does not show: that another attack than this one broke it."""
        is_broken = self.attacked.broken[self.attacked.indices.index(index)]
        return ", not broken by this attack" if state == BROKEN and not is_broken else ""

    def _class(self, number: int) -> str:
        if number < 0:
            return "no class"
        names = self.found.classes if self.found else ()
        return names[number].name if number < len(names) else str(number)

    def _box(self, column: int, row: int) -> str:
        across, down = self.sheet.tile
        return f"{column * across} {row * down} {across} {down}"

    def _numbers(self, labels: Sequence[str]) -> str:
        """`broken by 3 of 8 attacks: no. 1, 4–5`, numbered as in the table of attacks."""
        if not labels:
            return ""
        attacks = self.standing.attacks
        places = [n for n, attack in enumerate(attacks, start=1) if attack.label in labels]
        total = wording.plural(len(attacks), "attack")
        return f"broken by {wording.count(len(places))} of {total}: no. {wording.numbered(places)}"


def _said(sheet: Sheet, attacked: AdversarialGallery) -> str:
    times = f"times {sheet.amplified}" if sheet.amplified > 1 else "not amplified"
    smaller = " Larger images are averaged down to fit." if sheet.is_reduced else ""
    count = len(sheet.indices)
    first = "The first " if sheet.indices == tuple(range(count)) else ""
    return (
        f"{first}{wording.plural(count, 'test image')}: as they are, after "
        f"{attacked.attack}, the attack that broke most, and the change ({times}, around "
        f"grey). An image that this attack did not break may be broken by another.{smaller}"
    )


def _counts(pictures: Sequence[Picture]) -> tuple[tuple[str, str, str], ...]:
    """Per state its name, what to say of it and how many pictures have it."""
    states = [picture.state for picture in pictures]
    return tuple(
        (state, words, wording.count(states.count(state))) for state, words in _VERDICTS.items()
    )
