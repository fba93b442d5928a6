"""The training loop: the same lines train every defense, and a kill costs minutes at most."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from harness.allocator import keep_big_blocks
from harness.attacks.streams import generator
from harness.batch import Batch, InnerBudget, Memory, sent
from harness.data import Split, augment
from harness.defense import Defense, Players
from harness.errors import HarnessError
from harness.models.prepared import can_fold
from harness.recipe import Recipe
from harness.steps.schedules import cyclic, one_cycle, parse_drops, parse_factors, step_drops
from harness.training.probe import best_epoch, collapsed_at, divide, probe
from harness.training.request import TrainingRequest
from harness.training.state import (
    Progress,
    Resumable,
    load_state,
    only_one,
    save_state,
    state_file,
)

SAVE_EVERY = 300.0
"""Seconds after which the next step ends with a saved state, as the end of every epoch does.

Half of the 10 minutes that a kill may cost: a step and the probe come on top."""

_CHECK_EVERY = 16
"""Steps between two looks at the loss: each look makes a GPU wait."""


class Report(Protocol):
    """Where the loop tells how far it is."""

    def started(self, epochs: int, steps: int, resumed_at: int) -> None:
        """A run of `epochs` x `steps` begins or goes on after `resumed_at` steps."""

    def stepped(self, epoch: int, step: int, loss: float | None) -> None:
        """One step is done; the loss is there only where it was looked at."""

    def finished_epoch(self, epoch: int, loss: float, seconds: float) -> None:
        """One epoch is done, with its mean loss."""


@dataclass(frozen=True)
class Trained:
    """What a finished run leaves.

    Args:
        players: the networks, in evaluation mode.
        progress: curves and time.
        device: it ran on.
        probed: images of the training probe.
        is_held_out: whether none of them was learnt.
        best: weights of the deployed network after its best epoch by the probe.
    """

    players: Players
    progress: Progress
    device: str
    probed: int
    is_held_out: bool
    best: Mapping[str, Tensor]

    @property
    def best_epoch(self) -> int:
        """1-based, by PGD accuracy on the probe."""
        return best_epoch(self.progress.probe_pgd, self.progress.probe_clean)

    @property
    def collapse(self) -> int:
        """The 1-based epoch at which robustness collapsed, 0 if it did not."""
        return collapsed_at(self.progress.probe_pgd, self.probed)


class Taken(NamedTuple):
    """What one step leaves: its mean loss and what parts measured, scalars all."""

    loss: Tensor
    measures: Mapping[str, Tensor]


def train(
    request: TrainingRequest,
    data: Split,
    folder: Path,
    *,
    device: str = "cpu",
    report: Report | None = None,
) -> Trained:
    """Train, from where a killed run of the same request stopped if there is one.

    Every random draw comes from a stream keyed by (seed, epoch, step), so a resumed run on the
    CPU ends with the same bits as one that was never stopped.

    Args:
        request: what to train.
        data: the training split.
        folder: where the state for resuming is kept.
        device: `cpu` or `cuda`.
        report: told about progress.

    Raises:
        HarnessError: the loss or a weight became NaN or infinite, or robustness collapsed where
            the recipe stops then; the last good state stays.
    """
    keep_big_blocks()
    with only_one(folder, request.digest(data)[:32], f"the very run of '{request.name}'"):
        return _train(request, data, folder, device, report)


def _train(
    request: TrainingRequest, data: Split, folder: Path, device: str, report: Report | None
) -> Trained:
    run = Training(request, data, folder, device)
    if report:
        report.started(request.recipe.epochs, run.steps_per_epoch, run.progress.steps)
    run.make_up_for_a_probe()
    run.check_collapse()  # a resumed run may have stopped there before
    while run.progress.steps < request.recipe.epochs * run.steps_per_epoch:
        run.one_epoch(report)
        run.check_collapse()
    for network in run.players.modules().values():
        network.eval()
    division = run.division
    return Trained(
        run.players,
        run.progress,
        device,
        len(division.probed),
        division.is_held_out,
        run.run.best,
    )


def discard_state(request: TrainingRequest, data: Split, folder: Path) -> None:
    """Forget the state for resuming, once the finished checkpoint is stored."""
    state_file(folder, request.digest(data)).unlink(missing_ok=True)


class Training:
    """One run in memory: networks, optimiser, data on the device, and where it stands."""

    def __init__(self, request: TrainingRequest, data: Split, folder: Path, device: str) -> None:
        self.request, self.recipe, self.device = request, request.recipe, device
        self.defense: Defense = request.compose()
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.labels_on_cpu = data.labels
        self.path = state_file(folder, request.digest(data))
        self.division = divide(len(data), request.scale)
        self.steps_per_epoch = step_count(len(self.division.learnt), self.recipe.batch_size)
        statistics = _channel_statistics(data.images) if self.recipe.normalise else None
        teacher = request.load_teacher(folder)
        self.players = self.defense.build(request.build(), statistics, teacher=teacher)
        self.memory = Memory(self.labels, self.division.learnt)
        self.run = Resumable(self.players, _optimiser(self), self.memory, Progress())
        load_state(self.path, self.run)
        self.folds = can_fold(self.players.network, self.images[:4].float() / 255)

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self.run.progress

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Of every module that learns."""
        return self.run.optimiser

    def order(self, epoch: int) -> Tensor:
        """Positions of the learnt images in the order of this 0-based epoch, on the CPU."""
        draws = generator(self.request.seed, "order", epoch)
        chosen = self.division.learnt
        return chosen[torch.randperm(len(chosen), generator=draws)]

    def one_epoch(self, report: Report | None) -> None:
        """Finish the running epoch, probe and save."""
        epoch, first = divmod(self.progress.steps, self.steps_per_epoch)
        order = self.order(epoch)
        started = saved = time.monotonic()
        before = self.progress.seconds
        waiting: list[Taken] = []
        for step in range(first, self.steps_per_epoch):
            waiting.append(self.step(epoch, step, order))
            is_last = step + 1 == self.steps_per_epoch
            is_due = time.monotonic() - saved > SAVE_EVERY
            looked = None
            if len(waiting) == _CHECK_EVERY or is_due or is_last:
                looked = self._look(waiting, epoch, step)
                waiting = []
            self.progress.seconds = before + time.monotonic() - started
            if report:
                report.stepped(epoch + 1, step + 1, looked)
            if is_due and not is_last:
                self._save(epoch, step + 1)
                saved = time.monotonic()
        self._close_epoch()
        if time.monotonic() - saved > SAVE_EVERY / 5:  # a large network's probe takes minutes
            self._save(epoch + 1, 0)
        self._probe()
        self._save(epoch + 1, 0)
        if report:
            report.finished_epoch(
                epoch + 1, self.progress.losses[-1], self.progress.epoch_seconds[-1]
            )

    def make_up_for_a_probe(self) -> None:
        """Probe a run that was killed between the end of an epoch and its probe."""
        if len(self.progress.probe_pgd) < len(self.progress.losses):
            self._probe()

    def check_collapse(self) -> None:
        """Stop where robustness collapsed and the recipe wants no more of it."""
        curve = self.progress.probe_pgd
        epoch = collapsed_at(curve, len(self.division.probed))
        if self.recipe.on_collapse == "stop" and epoch:
            raise HarnessError(
                f"training collapsed at epoch {epoch}: PGD-10 accuracy on the probe fell from "
                f"{max(curve[: epoch - 1]):.2f} to {curve[epoch - 1]:.2f}. Take more steps or a "
                "smaller one, or go on with --set on_collapse=flag."
            )

    def step(self, epoch: int, step: int, order: Tensor) -> Taken:
        """Every update of one batch; 0-based epoch and step, the epoch's order of images."""
        policy, made = self.defense.policy, 0
        batch = self._batch(epoch, step, order)

        def update(batch: Batch) -> Tensor:
            nonlocal made
            steps = epoch * self.steps_per_epoch + step + made / policy.updates
            made += 1
            rate = learning_rate(
                self.recipe, epoch + 1, steps / (self.recipe.epochs * self.steps_per_epoch)
            )
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.zero_grad()
            loss = self._differentiate(batch)
            self.optimiser.step()
            return loss

        return Taken(policy(batch, update), dict(batch.measures))

    def _differentiate(self, batch: Batch) -> Tensor:
        """Gradients of the loss, taken where the defense wants the weights to be."""
        batch.prepare(self.defense.needs)
        perturbation = self.defense.perturbation
        inside = perturbation(batch, self.defense.loss) if perturbation else nullcontext()
        with inside:
            loss = self.defense.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _batch(self, epoch: int, step: int, order: Tensor) -> Batch:
        recipe, seed, threat = self.recipe, self.request.seed, self.request.threat
        places = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        chosen = sent(places, self.images.device)
        images = self.images[chosen].float() / 255
        if recipe.augment:
            draws = generator(seed, "augment", epoch, step)
            images = augment(images, self.request.dataset.augmentation, draws)
        length = recipe.relative_step * float(threat.epsilon)
        return Batch(
            self.players.network,
            images.contiguous(memory_format=torch.channels_last),  # convolutions are faster so
            self.labels[chosen],
            budget=InnerBudget(threat, recipe.inner_steps, length, recipe.attack_bn),
            combine=self.defense.combine,
            generator=generator(seed, "attack", epoch, step),
            maximiser=self.defense.maximiser,
            negatives=self.defense.negatives,
            companion=self.players.companion,
            epoch=epoch + 1,
            epochs=recipe.epochs,
            step=step,
            indices=chosen,
            memory=self.memory,
            extras=self.players.extras,
            precision=recipe.precision,
            labels_on_cpu=self.labels_on_cpu[places],
            folds=self.folds,
        )

    def _close_epoch(self) -> None:
        """Turn the running sums into one number each per epoch."""
        progress = self.progress
        progress.losses.append(progress.sum / self.steps_per_epoch)
        progress.epoch_seconds.append(progress.seconds - sum(progress.epoch_seconds))
        progress.sum = 0.0
        done = len(progress.losses)
        for name in sorted({*progress.measures, *progress.sums}):
            total, count = progress.sums.get(name, [math.nan, 1.0])
            curve = progress.measures.setdefault(name, [math.nan] * (done - 1))
            curve.append(total / count)
        progress.sums = {}

    def _probe(self) -> None:
        """Look at the training images of the probe; keep the weights of the best epoch."""
        chosen = self.division.probed.to(self.device)
        network = self.players.network
        clean, robust = probe(
            network,
            self.images[chosen],
            self.labels[chosen],
            self.request.threat,
            self.defense.combine,
        )
        progress = self.progress
        progress.probe_clean.append(clean)
        progress.probe_pgd.append(robust)
        if best_epoch(progress.probe_pgd, progress.probe_clean) == len(progress.probe_pgd):
            self.run.best = {
                name: value.detach().cpu().clone() for name, value in network.state_dict().items()
            }

    def _look(self, waiting: list[Taken], epoch: int, last: int) -> float:
        """Add the waiting losses and measures up; stop where a loss is not finite."""
        values: list[float] = torch.stack([taken.loss for taken in waiting]).tolist()
        for offset, value in enumerate(values):
            if not math.isfinite(value):
                step = last - len(values) + 1 + offset
                raise self._diverged(f"the loss became {value}", epoch, step)
        self.progress.sum += sum(values)  # float32 in float64: exact, whenever we looked
        self._add_up([pair for taken in waiting for pair in taken.measures.items()])
        return values[-1]

    def _add_up(self, measures: list[tuple[str, Tensor]]) -> None:
        """Add what parts measured to the sums of the epoch, in one transfer."""
        if not measures:
            return
        values: list[float] = torch.stack([value.double() for _, value in measures]).tolist()
        for (name, _), value in zip(measures, values, strict=True):
            total, count = self.progress.sums.get(name, [0.0, 0.0])
            self.progress.sums[name] = [total + value, count + 1]

    def _diverged(self, what: str, epoch: int, step: int) -> HarnessError:
        kept = (
            f"The last good state is kept in {self.path.name}; try" if self.path.exists() else "Try"
        )
        return HarnessError(
            f"{what} at epoch {epoch + 1}, step {step + 1}. {kept} a lower rate, for instance "
            f"--set learning_rate={self.recipe.learning_rate / 10:g}."
        )

    def _save(self, epoch: int, step: int) -> None:
        self.progress.steps = epoch * self.steps_per_epoch + step
        self._check_weights()
        save_state(self.path, self.run)

    def _check_weights(self) -> None:
        """The last loss was finite, its gradient need not have been."""
        last = divmod(self.progress.steps - 1, self.steps_per_epoch)
        for module in self.run.modules().values():
            for name, values in module.state_dict().items():
                if not values.isfinite().all():
                    raise self._diverged(f"{name} became NaN or infinite", *last)


def _optimiser(run: Training) -> torch.optim.Optimizer:
    """SGD over everything that learns; puts the modules on the device, in train mode."""
    companion = run.defense.companion
    parameters: list[Tensor] = []
    for role, module in {**run.players.modules(), **run.players.extras}.items():
        module.to(run.device)
        module.to(memory_format=torch.channels_last)  # convolutions are faster so
        if role == "teacher" and companion is not None and companion.frozen:
            module.eval().requires_grad_(requires_grad=False)
            continue
        parameters += list(module.train().parameters())
    return torch.optim.SGD(
        parameters,
        lr=run.recipe.learning_rate,
        momentum=run.recipe.momentum,
        weight_decay=run.recipe.weight_decay,
    )


def learning_rate(recipe: Recipe, epoch: int, progress: float) -> float:
    """The rate of one step.

    Args:
        recipe: its schedule.
        epoch: 1-based.
        progress: fraction of the run that is done.
    """
    if recipe.warm_up and epoch == 1:
        return recipe.warm_up
    if recipe.schedule == "one_cycle":
        return one_cycle(recipe.learning_rate, progress)
    if recipe.schedule == "cyclic":
        return cyclic(recipe.learning_rate, progress)
    drops, factors = parse_drops(recipe.drops), parse_factors(recipe.factors)
    return step_drops(recipe.learning_rate, epoch, drops, factors)


def step_count(count: int, batch_size: int) -> int:
    """Steps per epoch; a last batch of one image is left out, BatchNorm cannot use it."""
    whole, rest = divmod(count, batch_size)
    steps = whole + (rest > 1)
    if steps == 0:
        raise HarnessError(f"{count} training images are too few: at least 2 are needed.")
    return steps


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of uint8 images [N, C, H, W], on the [0, 1] scale."""
    counts = torch.stack(
        [torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])]
    )
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    deviation = torch.where(variance > 0, variance.sqrt(), 1.0)  # a constant channel stays as it is
    return mean.float(), deviation.float()
