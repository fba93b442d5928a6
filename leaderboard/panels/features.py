"""What analyses measured of a checkpoint, one part per dataset and threat model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.identity import Measurement
from leaderboard import wording
from leaderboard.panels.distances import exclusion_alignment
from leaderboard.panels.feature_map import FeatureMap
from leaderboard.panels.measured import (
    Analysis,
    angular_margins,
    gradient_norms,
    overfitting,
    relationship,
    training_time,
)

_MOST_READINGS = 4


@dataclass(frozen=True)
class Features:
    """All analyses of a checkpoint on one dataset under one threat model."""

    anchor: str
    heading: str
    examples: str
    analyses: tuple[Analysis, ...]
    map: FeatureMap | None

    @classmethod
    def of(cls, number: int, found: Sequence[Measurement]) -> Features | None:
        """The `number`th such part of a page; None where nothing can be shown."""
        by_name: dict[str, list[Measurement]] = {}
        for one in sorted(found, key=lambda one: (one.on != "clean", one.on)):
            by_name.setdefault(one.analysis, []).append(one)
        shown = (
            make(by_name[name][:_MOST_READINGS]) for name, make in _SHOWN.items() if name in by_name
        )
        analyses = tuple(one for one in shown if one is not None)
        pictures = FeatureMap.of(by_name.get("feature_map", ()))
        if not analyses and pictures is None:
            return None
        first = found[0]
        return cls(
            anchor=f"features-{number}",
            heading=f"{first.dataset}, {wording.threat(first.threat)}",
            examples=wording.plural(max(one.examples for one in found), "image"),
            analyses=analyses,
            map=pictures,
        )


def by_place(found: Iterable[Measurement]) -> list[list[Measurement]]:
    """Measurements of the same images under the same threat model together, in stable order."""
    places: dict[tuple[str, str, str], list[Measurement]] = {}
    for one in found:
        places.setdefault((one.dataset, one.images, str(one.threat)), []).append(one)
    return [places[key] for key in sorted(places)]


_SHOWN: Mapping[str, Callable[[Sequence[Measurement]], Analysis | None]] = {
    "relationship_score": relationship,
    "exclusion_alignment": exclusion_alignment,
    "angular_margins": angular_margins,
    "gradient_norm_ratios": gradient_norms,
    "overfitting_gap": overfitting,
    "training_time": training_time,
}
