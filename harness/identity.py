"""Plain values that say what a number is: attack, job, outcome, checkpoint, capabilities. No torch.

What can change a bit of an outcome is a field of `Job` and so part of its key. What cannot (batch
size, device, workers) is a field of `Runtime` and is only recorded. A test classifies every field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from harness.threat import ThreatModel

Value = str | int | float | bool
Parameters = tuple[tuple[str, Value], ...]

SHARD = 100
"""Images per shard: a kill costs at most one shard of one attack."""

CORRECT = "correct"
"""The population of a first-stage attack: every image that the checkpoint classifies correctly."""

DIAGNOSED = "diagnostics"
"""What a failure has in place of an attack's label where a checkpoint could not be examined."""

PICTURES = 24
"""How many test images are kept as pictures: the first ones, so that all pages show the same."""

EVERY = "all"
"""The population of `CLEAN` and of diagnostics: every image, misclassified ones included."""


def digest(value: object) -> str:
    """SHA-256 over the canonical JSON of a plain value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class AttackSpec:
    """One attack with everything that can change its outcome, defaults filled in.

    Args:
        attack: its name, as in the column `attack` of the published claims.
        surface: what it differentiates or queries, such as `logits` or `auxiliary(0)`.
        loss: what it climbs on that surface, such as `ce`.
        parameters: every keyword of the attack, sorted by name.
        changed: the names of those that differ from the attack's defaults (for `label` only).
    """

    attack: str
    surface: str
    loss: str
    parameters: Parameters = ()
    changed: tuple[str, ...] = ()

    @cached_property
    def hash(self) -> str:
        """Identity of the attack: same hash, same search."""
        return digest(
            [self.attack, self.surface, self.loss, [list(pair) for pair in self.parameters]]
        )

    @property
    def label(self) -> str:
        """What people read: `attack@surface:loss`, with the parameters that are not the default."""
        shown = ",".join(f"{key}={value}" for key, value in self.parameters if key in self.changed)
        return f"{self.attack}{f'({shown})' if shown else ''}@{self.surface}:{self.loss}"


CLEAN = AttackSpec("none", "logits", "none")
"""The unattacked images: "broken" means misclassified as they are."""


@dataclass(frozen=True)
class Capabilities:
    """What a model lets an attacker differentiate besides its final logits.

    Args:
        classes: K, the width of the logits.
        auxiliary: number of auxiliary logits.
        select: whether the forward call takes `select` (a class-conditional gate).
        features: whether penultimate features are returned.
        scale: factor between deployed logits and those the training loss saw.
        training_loss: whether the defense's own training loss can be climbed.
        strip: whether the same weights can be run without the defense's module.
        hard: operations of the deployed pass whose gradient is zero or missing (`argmax`, `round`,
            ...), each once, in the order in which they run.
        is_random: whether two passes on one image differ; judged by majority then.
        signs: what else one recorded pass showed that makes adaptive attacks compulsory, such as
            `bounded_logits` or `inference_gradient`.
    """

    classes: int
    auxiliary: int = 0
    select: bool = False
    features: bool = False
    scale: float = 1.0
    training_loss: bool = False
    strip: bool = False
    hard: tuple[str, ...] = ()
    is_random: bool = False
    signs: tuple[str, ...] = ()

    @property
    def needs_adaptive(self) -> bool:
        """Whether standard attacks may differentiate something else than what decides.

        `protocol.md` section 4: without the adaptive protocol such a row stays at level E1.
        """
        exposed = self.auxiliary > 0 or self.select or self.strip or self.scale != 1.0
        return exposed or self.is_random or bool(self.hard) or bool(self.signs)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Capabilities:
        """Read what `to_json` wrote, or an older harness did."""
        lists = {key: tuple(value[key]) for key in ("hard", "signs") if key in value}
        return cls(**{**value, **lists})

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for the store."""
        return asdict(self)


EXACT = "float32"
"""The precision that changes nothing, and the default."""

PRECISIONS = {
    EXACT: "the model as it is loaded, nothing changed",
    "folded": "a copy with BatchNorm folded into convolutions, channels last, in float32",
    "mixed": "that copy, in bfloat16 for attacks that lose nothing by it",
}
"""What a search differentiates; the model as loaded has the last word on every wrong decision."""


@dataclass(frozen=True)
class Job:
    """One slice of one attack on one checkpoint: the key under which its outcome is stored.

    Args:
        checkpoint: digest of weights and everything else that shapes the deployed function.
        dataset: name of the dataset.
        images: SHA-256 of the whole test split, uint8 in index order, and of its labels too
            where they are not the published ones.
        threat: norm and exact epsilon.
        attack: the attack with its parameters.
        population: `correct`, or `survivors:PROTOCOL` for a second stage.
        seed: run seed of the attack's random streams.
        precision: what the search differentiates, one of `PRECISIONS`.
        first: index of the slice's first image in the test split.
        last: index after its last image.
    """

    checkpoint: str
    dataset: str
    images: str
    threat: ThreatModel
    attack: AttackSpec
    population: str
    seed: int
    precision: str
    first: int
    last: int


@dataclass(frozen=True)
class Runtime:
    """How a job runs: recorded, and no part of what it is. On the CPU none of it changes a bit.

    Args:
        device: `cpu` or `cuda`.
        batch_size: images of one pass; 0 for as many as a GPU's memory holds.
        workers: processes.
        time_limit: seconds for one job, after which a model counts as hanging.
    """

    device: str = "cpu"
    batch_size: int = 250
    workers: int = 1
    time_limit: float = 7200.0


@dataclass(frozen=True)
class Kept:
    """Which adversarial images of a job are kept, and in which file. Never part of its identity.

    Args:
        dtype: `uint8` or `float32`.
        sha256: of the file, whose name it is; empty where no image is kept.
        images: indices in the test split, in the order of the file.
        lost: indices of the broken images that are not in it, since rounded to 8 bits inside the
            ball they are right again.
    """

    dtype: str
    sha256: str
    images: tuple[int, ...]
    lost: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a job found, per image and in total.

    Args:
        job: the key.
        attacked: one bool per image of the slice: was it in the population and attacked?
        broken: one bool per image: did a verified adversarial image change the decision?
        columns: per-image numbers of the slice (predicted class, first success, loss at start and
            best, distance, queries); a name maps to as many numbers as there are images.
        forwards: images pushed forward by the attack, the verifier's not counted.
        backwards: images differentiated.
        queries: forwards of a black-box attack.
        seconds: wall time.
        runtime: how it was run.
        kept: the adversarial images, where they were asked for; the store does not hold it.
    """

    job: Job
    attacked: tuple[bool, ...]
    broken: tuple[bool, ...]
    columns: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    forwards: int = 0
    backwards: int = 0
    queries: int = 0
    seconds: float = 0.0
    runtime: Runtime = field(default_factory=Runtime)
    kept: Kept | None = None


@dataclass(frozen=True)
class Plan:
    """That a protocol was asked for: which attacks it meant for this checkpoint, in order.

    Stored so that standings know what a complete evaluation is without loading a model or
    knowing a protocol. `attacks` pairs each attack's hash with its population.
    """

    checkpoint: str
    dataset: str
    images: str
    threat: ThreatModel
    seed: int
    precision: str
    protocol: str
    attacks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Finding:
    """What one diagnostic found on one checkpoint, so that a page can show and prove it.

    Args:
        checkpoint: digest of the function.
        dataset: name of the dataset.
        images: SHA-256 of its test images.
        threat: norm and epsilon.
        seed: run seed.
        examples: how many images were looked at.
        diagnostic: id, `D01` to `D26` or `I1` to `I6`.
        state: `green`, `amber`, `red` or `not_run`; a reason for the last is in `note`.
        value: the measured number, in the unit of the threshold; None where nothing was measured.
        threshold: amber and red in words.
        proof: indices of test images that show it.
        note: one sentence.
        is_adaptive: whether the adaptive protocol was complete when it was computed, so that its
            attacks are in the white-box union.
        details: numbers behind the value (curves, rates per loss); a name maps to numbers.
        created: UTC, ISO 8601.
    """

    checkpoint: str
    dataset: str
    images: str
    threat: ThreatModel
    seed: int
    examples: int
    diagnostic: str
    state: str
    value: float | None
    threshold: str
    proof: tuple[int, ...] = ()
    note: str = ""
    is_adaptive: bool = False
    details: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True)
class Measurement:
    """What an analysis measured on one checkpoint: numbers by name, nothing to pass or fail.

    Args:
        checkpoint: digest of the function.
        dataset: name of the dataset.
        images: SHA-256 of its test images.
        threat: norm and epsilon of the attacked images, or of the board where none were attacked.
        seed: run seed.
        examples: how many test images were looked at.
        analysis: registered name, such as `relationship_score`.
        on: `clean`, the label of the attack whose images were looked at, or `training` where the
            training images or the run itself were.
        values: a name maps to numbers; what they are is said by the analysis.
        note: one sentence.
        created: UTC, ISO 8601.
    """

    checkpoint: str
    dataset: str
    images: str
    threat: ThreatModel
    seed: int
    examples: int
    analysis: str
    on: str
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    note: str = ""
    created: str = ""


@dataclass(frozen=True)
class Gallery:
    """The first test images of a dataset, as a page can show them.

    Args:
        dataset: name of the dataset.
        images: SHA-256 of its test images.
        indices: n positions in the test split, ascending; `PICTURES` at most.
        labels: the true class of each.
        shape: (C, H, W) of one image.
        pixels: uint8 [n, C, H, W], contiguous, as bytes.
    """

    dataset: str
    images: str
    indices: tuple[int, ...]
    labels: tuple[int, ...]
    shape: tuple[int, int, int]
    pixels: bytes


@dataclass(frozen=True)
class AdversarialGallery:
    """What the worst stored attack made of the pictures of a `Gallery`, in grey levels.

    Rounding to 8 bits may mend an image or move it, so each is judged again as it is stored.

    Args:
        checkpoint: digest of the function.
        dataset: name of the dataset.
        images: SHA-256 of its test images.
        threat: norm and epsilon, which every picture keeps.
        attack: label of the attack.
        seed: run seed of the attack.
        indices: n positions in the test split, ascending; `PICTURES` at most.
        broken: whether the decision is right on the clean image and wrong on this one.
        predicted: the deployed decision on each; -1 where its logits are not finite.
        shape: (C, H, W) of one image.
        pixels: uint8 [n, C, H, W], contiguous, as bytes; the clean image where it was never
            attacked, since it is decided wrongly as it is.
        created: UTC, ISO 8601.
    """

    checkpoint: str
    dataset: str
    images: str
    threat: ThreatModel
    attack: str
    seed: int
    indices: tuple[int, ...]
    broken: tuple[bool, ...]
    predicted: tuple[int, ...]
    shape: tuple[int, int, int]
    pixels: bytes
    created: str = ""


@dataclass(frozen=True)
class Claim:
    """One published figure, as printed. Nobody here measured it.

    Args:
        source: id of the text, such as `ancra_iclr`.
        place: table in it, or `text_4.1`.
        dataset: name; also `imagenet` and `cifar10_c`, which are not datasets here.
        architecture: name, or `unspecified`.
        defense: name, as `harness list defenses` and `harness list quoted` have it.
        metric: such as `robust_accuracy`.
        attack: such as `pgd`; `none` for clean accuracy, `mean` of several.
        attack_iterations: whole number as text, empty where not stated.
        knowledge: `white_box`, `adaptive`, `transfer`, `query`, `corruption`, `none` or
            `unspecified`; ANCRA's `white_box` ignores what its models decide with.
        variant: what else tells two figures apart, empty mostly.
        epsilon, norm: as stated, or empty.
        printed: the digits as printed.
        unit: `percent`, `percentage_points`, `seconds` or `minutes`.
        spread: printed error, empty mostly.
        quoted_from: where the text itself took it from, empty for own runs.
        note: a remark, such as a contradiction within the text.
    """

    source: str
    place: str
    dataset: str
    architecture: str
    defense: str
    metric: str
    attack: str
    attack_iterations: str
    knowledge: str
    variant: str
    epsilon: str
    norm: str
    printed: str
    unit: str
    spread: str = ""
    quoted_from: str = ""
    note: str = ""

    @property
    def value(self) -> float:
        """The figure as a number, in `unit`."""
        return float(self.printed)


@dataclass(frozen=True)
class CheckpointRecord:
    """A trained or added checkpoint as the store and the pages know it; all plain values.

    Args:
        name: unique, chosen by the person or derived from the run.
        digest: identity of the deployed function (weights, architecture, composition).
        kind: `trained` here or `added` from elsewhere.
        defense: registered name, empty for an added model.
        composition: the parts as text, for people (`objective`, `maximiser`, `head`, ...).
        settings: every keyword of the defense.
        architecture: registered name, or empty.
        architecture_settings: every keyword of the architecture.
        recipe: epochs, learning rate and the rest, as run.
        scale: `smoke`, `reduced`, `full`, or empty.
        seed: training seed.
        dataset: what it decides on.
        threat: the threat model of training; for an added model the dataset's default.
        weights: path of the weights, relative to the checkpoint folder.
        weights_sha256: of that file.
        model: `FILE.py:CALLABLE` of an added model, else empty.
        model_sha256: of that file, else empty.
        parameters: number of trainable numbers.
        capabilities: what an attacker can reach.
        paper: title, arxiv and so on, as text.
        training: seconds, device, versions, digest of the training images.
        curves: per-epoch numbers; a name maps to one number per epoch.
        created: UTC, ISO 8601.
    """

    name: str
    digest: str
    kind: str
    dataset: str
    threat: ThreatModel
    weights: str
    weights_sha256: str
    capabilities: Capabilities
    defense: str = ""
    composition: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Value] = field(default_factory=dict)
    architecture: str = ""
    architecture_settings: Mapping[str, Value] = field(default_factory=dict)
    recipe: Mapping[str, Value] = field(default_factory=dict)
    scale: str = ""
    seed: int = 0
    model: str = ""
    model_sha256: str = ""
    parameters: int = 0
    paper: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Value] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    created: str = ""

    @property
    def scale_mark(self) -> str:
        """What stands beside every number of it: the scale of training, and what went wrong.

        Such as `smoke, other training pixels, collapsed at epoch 12`.
        """
        marks = [self.scale]
        if self.training.get("exact_images") == "false":
            marks.append("other training pixels")
        collapsed = self.training.get("collapsed_at", 0)
        if isinstance(collapsed, int) and collapsed > 0:
            marks.append(f"collapsed at epoch {collapsed}")
        return ", ".join(mark for mark in marks if mark)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its weights, relative to the checkpoint folder: last and best epoch's."""
        best = self.training.get("best_weights", "")
        return (self.weights, f"{best}.safetensors") if best else (self.weights,)


@dataclass(frozen=True)
class Failure:
    """That a job ended without an outcome, and why: the campaign went on with the rest.

    `attack` is the label of the attack, empty when the checkpoint itself failed. `first` and
    `last` bound the slice that failed; both 0 when it was no particular slice.
    """

    checkpoint: str
    dataset: str
    images: str
    threat: ThreatModel
    attack: str
    status: str
    message: str
    created: str = ""
    first: int = 0
    last: int = 0
