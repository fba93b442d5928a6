"""Recipes: how long and how fast a defense trains, at each scale.

`full` is the paper's, to the letter of `recipes.md`; `reduced` and `smoke` are derived from it and
are marked wherever their numbers appear.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

from harness.errors import HarnessError, unknown_name
from harness.identity import Value
from harness.steps.schedules import parse_drops

SCALES = ("smoke", "reduced", "full")

_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "batch_size": (2, 100_000),
    "learning_rate": (0, 100),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 10),
    "inner_steps": (1, 10_000),
    "relative_step": (1e-6, 10),
}


@dataclass(frozen=True)
class Recipe:
    """Every number of a training run that is not part of the defense itself.

    Args:
        architecture: registered name.
        epochs: passes over the training images.
        learning_rate: of epoch 1, or the peak of one cycle.
        schedule: `drops` (a tenth at each of `drops`) or `one_cycle`.
        drops: 1-based first epochs with a lower rate, such as `75,90,100`.
        weight_decay: on every parameter.
        batch_size: images per step.
        momentum: of SGD, without Nesterov.
        inner_steps: gradient steps of the training attack.
        relative_step: its step as a fraction of epsilon.
        augment: whether the dataset's augmentation is used.
        teacher: architecture of a companion, empty for the student's own.
    """

    architecture: str
    epochs: int
    learning_rate: float
    schedule: str = "drops"
    drops: str = ""
    weight_decay: float = 2e-4
    batch_size: int = 128
    momentum: float = 0.9
    inner_steps: int = 10
    relative_step: float = 0.007 * 255 / 8
    augment: bool = True
    teacher: str = ""

    def __post_init__(self) -> None:
        if self.schedule not in {"drops", "one_cycle"}:
            raise unknown_name("schedule", self.schedule, ["drops", "one_cycle"])
        parse_drops(self.drops)
        for key, (low, high) in _LIMITS.items():
            if not low <= getattr(self, key) <= high:
                raise HarnessError(
                    f"{key} must lie in [{low:g}, {high:g}] but is {getattr(self, key)}."
                )

    def to_json(self) -> dict[str, Value]:
        """A plain mapping for the store."""
        return asdict(self)

    def changed(self, **settings: Value) -> Recipe:
        """The same recipe with other settings; whole numbers become decimals where one is meant."""
        kinds = get_type_hints(Recipe)
        values: dict[str, Any] = {k: checked(k, v, kinds[k]) for k, v in settings.items()}
        return replace(self, **values)


_LARGEST = 2**63
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def checked(key: str, value: Value, kind: type) -> Value:
    """`value` as a `kind`.

    Raises:
        HarnessError: it is something else.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(min(max(value, -_LARGEST), _LARGEST))  # beyond every limit either way
    if kind is str and not isinstance(value, bool):
        return str(value)
    if type(value) is not kind:
        raise HarnessError(f"{key} takes {_KINDS.get(kind, kind.__name__)} but is '{value}'.")
    return value


RECIPE_KEYS = tuple(field.name for field in fields(Recipe))

STANDARD = Recipe("resnet18", epochs=100, learning_rate=0.1, drops="76,91")
"""F-teacher: FRPAT's standard ResNet-18, the schedule of the run that it belongs to."""

ANCRA = Recipe("resnet18", epochs=120, learning_rate=0.01, drops="75,90,100")
"""A-R18: ANCRA's ResNet-18 rows and their baselines on CIFAR."""

FRPAT = Recipe("wrn_34_10", epochs=100, learning_rate=0.1, drops="76,91", teacher="resnet18")
"""F-main: FRPAT's tables, student WRN-34-10, teacher ResNet-18. Its epsilon is 0.031."""

HYPERSPHERE = Recipe("wrn_34_10", epochs=100, learning_rate=0.1, drops="75,90", relative_step=0.25)
"""H-C10: hypersphere embedding's CIFAR-10 rows."""

TRADES = Recipe("wrn_34_10", epochs=76, learning_rate=0.1, drops="75")
"""The authors' own TRADES run (`baselines.md` section 4)."""

DIGITS = Recipe(
    "small_resnet",
    epochs=20,
    learning_rate=0.1,
    schedule="one_cycle",
    weight_decay=5e-4,
    inner_steps=7,
    relative_step=2.5 / 7,
    augment=False,
)
"""Measured on scikit-learn's digits (`digits.md`): seconds on one core. Not a pre-activation net:
its one final BatchNorm, shared by both gates of reverse attention, sees two distributions, and
`trades_ancra` then loses 16 to 28 points of clean accuracy in evaluation mode."""


def scaled(full: Recipe, scale: str, dataset: str) -> Recipe:
    """The recipe at a scale.

    Returns:
        `full` as it is; for `reduced` 30 epochs of a ResNet-18 with the drops at the same
        fractions; for `smoke` 3 epochs with 3 inner steps, meant for a thin one.

    Raises:
        HarnessError: unknown scale, or one that the dataset does not have.
    """
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    if dataset == "digits":
        if scale == "full":
            raise HarnessError("digits has no full scale: use --scale smoke or reduced.")
        return DIGITS if scale == "smoke" else shortened(DIGITS, 40)
    if scale == "full":
        return full
    smaller = replace(full, architecture="resnet18", teacher="")
    if scale == "reduced":
        return shortened(smaller, 30)
    return replace(shortened(smaller, 3), inner_steps=3, relative_step=0.5)


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with another number of epochs and its drops at the same fractions of the run."""
    drops = (
        1 + round((drop - 1) / recipe.epochs * epochs)
        for drop in parse_drops(recipe.drops)
        if drop <= recipe.epochs
    )
    kept = sorted({drop for drop in drops if 1 < drop <= epochs})
    return recipe.changed(epochs=epochs, drops=",".join(str(drop) for drop in kept))
