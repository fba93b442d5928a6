"""What one training run is: everything that decides its weights, and the digest of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.catalogue import DEFENSES, DefenseEntry
from harness.data import Dataset, Split
from harness.defense import Build, Companion, Defense
from harness.errors import HarnessError, unknown_name
from harness.identity import CheckpointRecord, Value, digest
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.rebuilding import load_network
from harness.recipe import RECIPE_KEYS, RECIPES, Recipe, scaled, shortened
from harness.threat import ThreatModel, format_fraction

_NO_PART_OF_THE_RUN = {"on_collapse"}
"""Of a recipe: where a run stops says nothing about its weights until then."""


@dataclass(frozen=True)
class TrainingRequest:
    """One training run, every default filled in.

    Args:
        name: of the checkpoint.
        defense: registered name.
        settings: every keyword of the defense.
        architecture: registered name.
        architecture_settings: every keyword of the architecture.
        recipe: epochs, rates and so on.
        scale: `smoke`, `reduced` or `full`.
        seed: of weights, order, augmentation and training attacks.
        dataset: what is learnt.
        threat: what the training attack may do.
        recipe_id: of the recipe that this one was made from; `digits` on digits.
        teacher: a trained checkpoint that is the companion and learns no more; None for one that
            is trained beside the student.
    """

    name: str
    defense: str
    settings: Mapping[str, Value]
    architecture: str
    architecture_settings: Mapping[str, Value]
    recipe: Recipe
    scale: str
    seed: int
    dataset: Dataset
    threat: ThreatModel
    recipe_id: str = ""
    teacher: CheckpointRecord | None = None

    def digest(self, data: Split) -> str:
        """Identity of the run on these training images and labels."""
        teacher = [self.teacher.digest] if self.teacher else []
        return digest(
            [
                *teacher,
                self.defense,
                dict(self.settings),
                self.architecture,
                dict(self.architecture_settings),
                {k: v for k, v in self.recipe.to_json().items() if k not in _NO_PART_OF_THE_RUN},
                self.scale,
                self.seed,
                self.dataset.name,
                data.sha256,
                data.labels_sha256,
                self.threat.norm,
                format_fraction(self.threat.epsilon),
            ]
        )

    def compose(self) -> Defense:
        """The defense as a value."""
        defense = DEFENSES[self.defense].compose(self.settings)[0]
        return replace(defense, companion=Companion(frozen=True)) if self.teacher else defense

    def load_teacher(self, folder: Path) -> Network | None:
        """The frozen companion with its weights, if there is one.

        Raises:
            HarnessError: its weights are missing or do not fit.
        """
        if self.teacher is None:
            return None
        return load_network(self.teacher, folder, self.dataset)

    def build(self) -> Build:
        """What its networks are built for."""
        return Build(
            self.dataset.shape,
            len(self.dataset.classes),
            self.architecture,
            self.architecture_settings,
            self.recipe.teacher,
            self.seed,
            self.recipe.normalise,
        )


def training_request(
    defense: str,
    dataset: Dataset,
    *,
    architecture: str | None = None,
    scale: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Value] | None = None,
    threat: ThreatModel | None = None,
    name: str | None = None,
    recipe_id: str | None = None,
    teacher: CheckpointRecord | None = None,
) -> TrainingRequest:
    """Fill in every default of a training run.

    Args:
        defense: registered name.
        dataset: what to learn.
        architecture: registered name; the recipe's if None.
        scale: `smoke` on digits and `reduced` elsewhere if None.
        epochs: instead of the recipe's; the drops keep their fractions of the run.
        seed: of everything random.
        settings: looked up in defense, architecture and recipe; `defense.`, `arch.` and `recipe.`
            say which where a key is in two of them.
        threat: if None the recipe's own at scale `full`, else the dataset's default.
        name: DEFENSE-DATASET-ARCH-SCALE-sSEED if None.
        recipe_id: another training recipe than the paper's for this dataset and architecture.
        teacher: a stored checkpoint as frozen companion.

    Raises:
        HarnessError: anything unknown, ambiguous or out of range.
    """
    entry = DEFENSES[defense]
    chosen_scale = scale or ("smoke" if dataset.name == "digits" else "reduced")
    asked = dict(settings or {})
    for key in ("architecture", "recipe.architecture"):  # it decides what the others may be
        if key in asked:
            architecture = str(asked.pop(key))
    base = asked.get("base", asked.get("defense.base", ""))
    variant = entry.variant(dataset.name, architecture or "", str(base))
    chosen_id = recipe_id or variant.recipe or entry.recipe_id
    if chosen_id not in RECIPES:
        raise unknown_name("recipe", chosen_id, RECIPES)
    if recipe_id and dataset.name == "digits":
        raise HarnessError(
            f"digits has one recipe for every defense: leave out --recipe {recipe_id}, "
            "or change single numbers with --set."
        )
    recipe = scaled(RECIPES[chosen_id], chosen_scale, dataset.name)
    if architecture is not None:
        recipe = recipe.changed(architecture=architecture)
    if epochs is not None:
        recipe = shortened(recipe, epochs)
    parts = sort_settings(entry, recipe.architecture, asked)
    recipe = recipe.changed(**parts["recipe"])
    composed, full = entry.compose(parts["defense"], variant)
    if parts["recipe"].get("teacher"):
        _check_teacher_name(entry.name, composed, recipe.teacher)
    if teacher is not None:
        _check_teacher(entry.name, composed, teacher, dataset)
    is_thin = chosen_scale == "smoke" and dataset.name != "digits"
    defaults = default_settings(recipe.architecture, is_thin=is_thin)
    chosen_name = name or default_name(
        entry.name, dataset.name, recipe.architecture, chosen_scale, seed
    )
    own = ThreatModel.parse("linf", recipe.epsilon) if recipe.epsilon else dataset.threat
    return TrainingRequest(
        chosen_name,
        entry.name,
        full,
        recipe.architecture,
        {**defaults, **parts["arch"]},
        recipe,
        chosen_scale,
        seed,
        dataset,
        threat or own,
        "digits" if dataset.name == "digits" else chosen_id,
        teacher,
    )


def _check_teacher_name(name: str, defense: Defense, architecture: str) -> None:
    if defense.companion is None:
        raise HarnessError(f"{name} has no second network: leave out teacher={architecture}.")
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", architecture, ARCHITECTURES)


def _check_teacher(
    name: str, defense: Defense, teacher: CheckpointRecord, dataset: Dataset
) -> None:
    if defense.companion is None:
        raise HarnessError(f"{name} has no second network: leave out --teacher {teacher.name}.")
    if teacher.kind != "trained":
        raise HarnessError(
            f"'{teacher.name}' was added from elsewhere: a teacher must be trained here, since its "
            "features are compared. For instance: harness train standard"
        )
    if teacher.dataset != dataset.name:
        raise HarnessError(
            f"the teacher '{teacher.name}' knows {teacher.dataset}, not {dataset.name}."
        )


def default_settings(architecture: str, *, is_thin: bool) -> dict[str, Value]:
    """Every setting of an architecture; a thin one has a quarter of the width."""
    settings = dict(ARCHITECTURES[architecture].settings)
    width = settings.get("width")
    if is_thin and isinstance(width, int):
        settings["width"] = max(width // 4, 1)
    return settings


def default_name(defense: str, dataset: str, architecture: str, scale: str, seed: int) -> str:
    """DEFENSE-DATASET-ARCH-SCALE-sSEED; a path in the dataset's name gives its last part."""
    short = dataset.replace(":", "/").rstrip("/").rpartition("/")[2]
    return f"{defense}-{short}-{architecture}-{scale}-s{seed}"


def sort_settings(
    entry: DefenseEntry, architecture: str, settings: Mapping[str, Value]
) -> dict[str, dict[str, Value]]:
    """Find out whether a setting means the defense, the architecture or the recipe.

    Raises:
        HarnessError: a key that none has, or that two have.
    """
    known = {
        "defense": tuple(entry.settings),
        "arch": tuple(ARCHITECTURES[architecture].settings),
        "recipe": RECIPE_KEYS,
    }
    found: dict[str, dict[str, Value]] = {part: {} for part in known}
    for key, value in settings.items():
        prefix, dot, plain = key.partition(".")
        if dot and prefix in known:
            homes = [prefix] if plain in known[prefix] else []
        else:
            plain, homes = key, [part for part, keys in known.items() if key in keys]
        if not homes:
            raise unknown_name(
                f"setting of {entry.name}", key, {k for keys in known.values() for k in keys}
            )
        if len(homes) > 1:
            choices = " or ".join(f"{part}.{plain}" for part in homes)
            raise HarnessError(f"'{key}' is ambiguous: write {choices}.")
        found[homes[0]][plain] = value
    return found
