"""What diagnostics look at: a model, some images, and every attack run on them once.

Early drop is off: every attack sees every image, those that are wrong as they are included, else
set relations such as "broken by queries only" and accuracy after an attack could not be computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor, nn

from harness.attacks.attack import ATTACKS, attack_spec, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss, check_classes, split_loss
from harness.attacks.search import Guides, Search, is_right
from harness.attacks.streams import Streams
from harness.attacks.surface_text import check_reachable, surface_named
from harness.attacks.surfaces import Points, Surface, TrainingLoss
from harness.errors import HarnessError, ModelError, first_line
from harness.identity import AttackSpec, Capabilities
from harness.outputs import Model, Outputs
from harness.threat import ThreatModel


class NotRun(Exception):  # noqa: N818 - an answer, not an error
    """A diagnostic cannot be computed here; the message says why and what would help."""


class NoGradient(NotRun):
    """The model cannot be differentiated."""


@dataclass(frozen=True)
class Trial:
    """What one attack did to every examined image, on the CPU.

    Args:
        broken: [N] bool, any candidate inside the ball was wrong; the clean image is one.
        last_wrong: [N] bool, the last candidate was.
        last: [N, C, H, W], the last candidate.
        adversarial: [N, C, H, W], the first that was wrong, else the one of the highest value.
        loss_start, loss_best: [N], of what the attack climbs.
        nearest: [N] float64, distance of the nearest wrong decision; for attacks that search it.
        first_success: [N] int64, number of the look that broke it, -1 where none did.
        trace: [L, N], the value of every look; NaN where the image was not looked at.
        queries: [N], forward passes.
    """

    broken: Tensor
    last_wrong: Tensor
    last: Tensor
    adversarial: Tensor
    loss_start: Tensor
    loss_best: Tensor
    nearest: Tensor
    first_success: Tensor
    trace: Tensor
    queries: Tensor


@dataclass(frozen=True)
class RowFacts:
    """What standings and claims say about the model, for diagnostics about rows.

    Every accuracy lies in [0, 1]; None where it is not known.

    Args:
        robust: the headline.
        standard: of the standard protocol alone.
        is_adaptive: whether the adaptive protocol is complete.
        claimed: robust accuracy that the paper claims.
        best: headline of the best other row at level E3 of the same dataset and data regime, with
            at most twice the parameters.
        level: evidence level, `E0` to `E4`.
        examples: how many images the row counts.
    """

    robust: float | None = None
    standard: float | None = None
    is_adaptive: bool = False
    claimed: float | None = None
    best: float | None = None
    level: str = "E0"
    examples: int | None = None


@dataclass
class Examination:
    """One model on some images; everything expensive is computed once, on first use.

    Args:
        model: the way to the model (frozen, padded, checked).
        module: the model itself, for diagnostics that watch a raw forward pass.
        images: [N, C, H, W] in [0, 1].
        labels: [N] int64.
        indices: index of each image in the test split.
        threat: norm and epsilon.
        capabilities: what the model exposes.
        training_loss: the defense's own.
        surrogates: other models by the start of their digest.
        guides: training images.
        row: what standings say.
        seed: run seed.
        effort: steps and queries of every attack are multiplied by this and rounded up (1 in
            reports; less in the museum, which says so).
    """

    model: Model
    module: nn.Module
    images: Tensor
    labels: Tensor
    indices: Sequence[int]
    threat: ThreatModel
    capabilities: Capabilities
    training_loss: TrainingLoss | None = None
    surrogates: Mapping[str, Model] = field(default_factory=dict)
    guides: Guides | None = None
    row: RowFacts = field(default_factory=RowFacts)
    seed: int = 0
    effort: float = 1.0
    _trials: dict[tuple[str, ThreatModel, str], Trial] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        """Where images and model are."""
        return self.images.device

    @cached_property
    def logits(self) -> Tensor:
        """[N, K], deployed logits of the clean images."""
        with torch.no_grad():
            return self.model(self.images).logits

    @cached_property
    def right(self) -> Tensor:
        """[N] bool on the CPU, clean-correct images; percentages are of these."""
        return is_right(self.logits, self.labels).cpu()

    @property
    def accuracy(self) -> float:
        """Of the clean images, in [0, 1]."""
        return float(self.right.float().mean())

    def spec(self, name: str, **settings: object) -> AttackSpec:
        """An attack with its settings; `steps`, `queries` and `draws` are scaled by the effort."""
        for key in ("steps", "queries", "draws", "vertices"):
            if key in settings and self.effort != 1.0:
                settings[key] = max(1, -int(-float(str(settings[key])) * self.effort // 1))
        return attack_spec(name, **settings)  # type: ignore[arg-type]

    def run(self, spec: AttackSpec, *, epsilon: Fraction | None = None, stream: str = "") -> Trial:
        """One attack on every image, early drop off; run once per examination.

        Args:
            spec: what to run.
            epsilon: instead of the threat model's.
            stream: key of the random numbers, so that runs of other lengths start at the same
                points; the attack's own if empty.

        Raises:
            NotRun: the model does not expose the surface, has too few classes for the loss, or
                the norm is not the attack's.
            NoGradient: the model cannot be differentiated.
        """
        threat = self.threat if epsilon is None else ThreatModel(self.threat.norm, epsilon)
        key = (spec.hash, threat, stream or spec.hash)
        if key not in self._trials:
            self._trials[key] = self._run(spec, threat, stream or spec.hash)
        return self._trials[key]

    def broken(self, *specs: AttackSpec) -> Tensor:
        """[N] bool: clean-correct and broken by any of these."""
        found = torch.zeros(len(self.labels), dtype=torch.bool)
        for spec in specs:
            found |= self.run(spec).broken
        return found & self.right

    def outputs(self, images: Tensor) -> Outputs:
        """Everything the model returns, no gradient."""
        with torch.no_grad():
            return self.model(images)

    def gradient(self, images: Tensor, loss: AttackLoss, surface: str = "logits") -> Tensor:
        """[N, C, H, W], of the loss on a surface at these images, non-finite numbers as they are.

        Raises:
            NotRun: the model does not expose the surface.
            NoGradient: the model cannot be differentiated.
        """
        view = self._surface(surface)
        candidate = images.detach().clone().requires_grad_()
        try:
            with torch.enable_grad():
                value, _ = view(candidate, Points(self.images, self.labels), loss)
                (gradient,) = torch.autograd.grad(value.sum(), candidate)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise NoGradient(f"back-propagation raises: {first_line(error)}") from error
        return gradient

    def random_points(self, purpose: str, *, epsilon: Fraction | None = None) -> Tensor:
        """[N, C, H, W], a uniform point of each ball from a stream of its own per image."""
        threat = self.threat if epsilon is None else ThreatModel(self.threat.norm, epsilon)
        streams = Streams(self.seed, "diagnostic", self.indices)
        everyone = torch.arange(len(self.labels))
        uniform = streams.uniform(everyone, self.images.shape[1:], restart=0, purpose=purpose)
        ball = Ball.around(self.images, threat)
        return ball.project(self.images + ball.epsilon * (2 * uniform.to(self.device) - 1))

    def _surface(self, text: str) -> Surface:
        try:
            check_reachable(text, self.capabilities)
            return surface_named(
                text, self.model, self.capabilities, self.training_loss, self.surrogates
            )
        except HarnessError as error:
            raise NotRun(str(error)) from error

    def _check_defined(self, spec: AttackSpec) -> None:
        entry = ATTACKS[spec.attack]
        if self.threat.norm not in entry.norms:
            raise NotRun(f"{spec.attack} is not defined for {self.threat.norm}.")
        if entry.needs_guides and self.guides is None:
            raise NotRun(f"{spec.attack} draws from training images, which are not here.")
        if spec.loss != "own":
            try:
                check_classes(split_loss(spec.loss)[0], self.capabilities.classes)
            except HarnessError as error:
                raise NotRun(str(error)) from error

    def _run(self, spec: AttackSpec, threat: ThreatModel, stream: str) -> Trial:
        self._check_defined(spec)
        if self.capabilities.is_random:
            raise NotRun(
                "the model is random: single passes would count lucky ones, and diagnostics do "
                "not vote yet. D16 and I2 measure how random it is."
            )
        surface = self._surface(spec.surface)
        search = Search(
            surface,
            Ball.around(self.images, threat),
            self.labels,
            Streams(self.seed, stream, self.indices),
            drops_broken=False,
            keeps_trace=True,
            guides=self.guides,
        )
        try:
            run_attack(spec, search)
        except ModelError as error:
            if error.status == "no_gradient":
                raise NoGradient(str(error)) from error
            raise
        trace = torch.stack(search.trace) if search.trace else torch.empty(0, len(self.labels))
        found = (
            search.broken,
            search.last_wrong,
            search.last,
            search.adversarial,
            search.loss_start,
            search.loss_best,
            search.nearest,
            search.first_success,
            trace,
            search.forwards,
        )
        return Trial(*(each.detach().cpu() for each in found))
