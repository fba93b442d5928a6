"""Recipes: how long and how fast a defense trains, at each scale.

`full` is the paper's, to the letter of `recipes.md`; `reduced` and `smoke` are derived from it and
are marked wherever their numbers appear.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

from harness.errors import HarnessError, unknown_name
from harness.identity import Value
from harness.steps.schedules import parse_drops, parse_factors
from harness.threat import parse_fraction

SCALES = ("smoke", "reduced", "full")

_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "batch_size": (2, 100_000),
    "learning_rate": (0, 100),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 10),
    "inner_steps": (1, 10_000),
    "relative_step": (1e-6, 10),
    "warm_up": (0, 100),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "schedule": ("drops", "one_cycle", "cyclic"),
    "attack_bn": ("eval", "train"),
    "precision": ("float32", "bfloat16"),
    "on_collapse": ("flag", "stop"),
}


@dataclass(frozen=True)
class Recipe:
    """Every number of a training run that is not part of the defense itself.

    Args:
        architecture: registered name.
        epochs: passes over the training images.
        learning_rate: of epoch 1, or the peak of one cycle.
        schedule: `drops` (down at each of `drops`), `one_cycle`, or `cyclic` (from 0 linearly up
            to the peak at half of the run and down to 0).
        drops: 1-based first epochs with a lower rate, such as `75,90,100`.
        factors: of the learning rate after each drop, such as `0.1,0.01,0.005`; a tenth more at
            each where empty.
        warm_up: learning rate of epoch 1 alone; 0 for none.
        weight_decay: on every parameter.
        batch_size: images per step.
        momentum: of SGD, without Nesterov.
        inner_steps: gradient steps of the training attack.
        relative_step: its step as a fraction of epsilon.
        epsilon: of the training attack where the paper's is not the dataset's, such as `0.031`;
            scale `full` uses it unless another threat is asked for.
        attack_bn: mode of BatchNorm while training attacks climb: `eval` or `train`.
        normalise: whether the training images' mean and deviation are taken out inside the model,
            so that attacks still act on [0, 1].
        augment: whether the dataset's augmentation is used.
        teacher: architecture of a companion, empty for the student's own.
        precision: of the passes, `float32` or `bfloat16` (autocast); losses and the gradient of a
            single-step attack are float32 always.
        on_collapse: what happens when the training probe falls (`harness.training.probe`): `flag`
            it with the checkpoint, or `stop` the run.
    """

    architecture: str
    epochs: int
    learning_rate: float
    schedule: str = "drops"
    drops: str = ""
    factors: str = ""
    warm_up: float = 0.0
    weight_decay: float = 2e-4
    batch_size: int = 128
    momentum: float = 0.9
    inner_steps: int = 10
    relative_step: float = 0.007 * 255 / 8
    epsilon: str = ""
    attack_bn: str = "eval"
    normalise: bool = False
    augment: bool = True
    teacher: str = ""
    precision: str = "float32"
    on_collapse: str = "flag"

    def __post_init__(self) -> None:
        for key, words in _WORDS.items():
            if getattr(self, key) not in words:
                raise unknown_name(key.replace("_", " "), getattr(self, key), words)
        drops, factors = parse_drops(self.drops), parse_factors(self.factors)
        if factors and len(factors) != len(drops):
            raise HarnessError(
                f"factors '{self.factors}' must be as many as drops '{self.drops}', or none."
            )
        if self.epsilon:
            parse_fraction(self.epsilon)
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

_F_STEP = 0.007 / 0.031
"""FRPAT's and TRADES's step of 0.007 at their epsilon of 0.031."""

RECIPES: dict[str, Recipe] = {
    "A-R18": Recipe("resnet18", epochs=120, learning_rate=0.01, drops="75,90,100"),
    "A-WRN": Recipe("wrn_34_10", epochs=76, learning_rate=0.1, drops="75"),
    "A-TIN": Recipe(
        "preactresnet18",
        epochs=120,
        learning_rate=0.1,
        drops="75,90,100",
        weight_decay=5e-4,
        augment=False,
    ),
    "F-main": Recipe(
        "wrn_34_10",
        epochs=100,
        learning_rate=0.1,
        drops="76,91",
        teacher="resnet18",
        epsilon="0.031",
        relative_step=_F_STEP,
    ),
    "F-new": Recipe(
        "wrn_34_10",
        epochs=110,
        learning_rate=0.1,
        drops="101,106",
        weight_decay=5e-4,
        teacher="resnet18",
    ),
    "F-teacher": Recipe("resnet18", epochs=100, learning_rate=0.1, drops="76,91"),
    "H-C10": Recipe(
        "wrn_34_10",
        epochs=100,
        learning_rate=0.1,
        drops="75,90",
        relative_step=0.25,
        normalise=True,
    ),
    "H-Fast": Recipe(
        "preactresnet18",
        epochs=30,
        learning_rate=0.2,
        schedule="cyclic",
        weight_decay=5e-4,
        inner_steps=1,
        relative_step=1.25,
        attack_bn="train",
        normalise=True,
    ),
    "H-Free": Recipe(
        "preactresnet18",
        epochs=10,
        learning_rate=0.04,
        schedule="cyclic",
        weight_decay=5e-4,
        inner_steps=1,
        relative_step=1.0,
        attack_bn="train",
        normalise=True,
    ),
}
"""Training recipes by their id in `recipes.md`; defenses add those of their own papers there."""

RECIPES["F-TIN"] = RECIPES["F-main"]
"""The same on Tiny-ImageNet at 32x32, which is the dataset `tiny_imagenet_32`."""

RECIPES["H-std"] = RECIPES["H-C10"]
"""Hypersphere embedding's standard network: the same without an attack."""

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
`trades_ancra` then loses 16 to 28 points of clean accuracy in evaluation mode, which
`final_bn=per_block` mends."""


def scaled(full: Recipe, scale: str, dataset: str) -> Recipe:
    """The recipe at a scale.

    Returns:
        `full` as it is; for `reduced` a ResNet-18 and 30 epochs, or as many as `full` has where
        these are fewer, with the drops at the same fractions; for `smoke` 3 epochs with at most 3
        inner steps, meant for a thin one. What the paper's attack does to BatchNorm stays.

    Raises:
        HarnessError: unknown scale, or one that the dataset does not have.
    """
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    if dataset == "digits":
        if scale == "full":
            raise HarnessError("digits has no full scale: use --scale smoke or reduced.")
        digits = replace(DIGITS, attack_bn=full.attack_bn)
        return digits if scale == "smoke" else shortened(digits, 40)
    if scale == "full":
        return full
    smaller = replace(full, architecture="resnet18", teacher="", epsilon="")
    if scale == "reduced":
        return shortened(smaller, min(30, full.epochs))
    if full.inner_steps > 3:
        smaller = replace(smaller, inner_steps=3, relative_step=0.5)
    return shortened(smaller, 3)


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with another number of epochs and its drops at the same fractions of the run."""
    drops = parse_drops(recipe.drops)
    factors = parse_factors(recipe.factors) or tuple(0.1**n for n in range(1, len(drops) + 1))
    moved: dict[int, float] = {}
    for drop, factor in zip(drops, factors, strict=True):
        place = min(1 + round((drop - 1) / recipe.epochs * epochs), epochs)
        if drop <= recipe.epochs and place > 1:
            moved.setdefault(place, factor)  # of two that fall together the first one rules
    texts = {"drops": moved.keys(), "factors": [f"{v:g}" for v in moved.values()]}
    if not recipe.factors and [*moved.values()] == [*factors[: len(moved)]]:
        texts["factors"] = []
    joined = {key: ",".join(map(str, values)) for key, values in texts.items()}
    return recipe.changed(epochs=epochs, **joined)
