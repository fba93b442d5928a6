"""The training loop: the same lines train every defense, and a kill costs minutes at most."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from harness.attacks.streams import generator
from harness.batch import Batch, InnerBudget
from harness.data import Split, augment
from harness.defense import Defense, Players
from harness.errors import HarnessError
from harness.recipe import Recipe
from harness.steps.schedules import one_cycle, parse_drops, step_drops
from harness.training.request import TrainingRequest
from harness.training.state import Progress, load_state, save_state, state_file

SAVE_EVERY = 300.0
"""Seconds of training that a kill may cost, besides the end of every epoch."""

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
    """

    players: Players
    progress: Progress
    device: str


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
        HarnessError: the loss or a weight became NaN or infinite; the last good state stays.
    """
    run = Training(request, data, folder, device)
    if report:
        report.started(request.recipe.epochs, run.steps_per_epoch, run.progress.steps)
    while run.progress.steps < request.recipe.epochs * run.steps_per_epoch:
        run.one_epoch(report)
    for network in run.players.modules().values():
        network.eval()
    return Trained(run.players, run.progress, device)


def discard_state(request: TrainingRequest, data: Split, folder: Path) -> None:
    """Forget the state for resuming, once the finished checkpoint is stored."""
    state_file(folder, request.digest(data)).unlink(missing_ok=True)


class Training:
    """One run in memory: networks, optimiser, data on the device, and where it stands."""

    def __init__(self, request: TrainingRequest, data: Split, folder: Path, device: str) -> None:
        self.request, self.recipe, self.device = request, request.recipe, device
        self.defense: Defense = request.compose()
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.path = state_file(folder, request.digest(data))
        self.steps_per_epoch = step_count(len(data), self.recipe.batch_size)
        statistics = _channel_statistics(data.images) if self.defense.normalised else None
        self.players = self.defense.build(request.build(), statistics)
        parameters = []
        for network in self.players.modules().values():
            network.to(device).train()
            parameters += list(network.parameters())
        self.optimiser = torch.optim.SGD(
            parameters,
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
        )
        self.progress = Progress()
        load_state(self.path, self.players, self.optimiser, self.progress)

    def one_epoch(self, report: Report | None) -> None:
        """Finish the running epoch and save."""
        epoch, first = divmod(self.progress.steps, self.steps_per_epoch)
        order = torch.randperm(
            len(self.labels), generator=generator(self.request.seed, "order", epoch)
        ).to(self.device)
        started = saved = time.monotonic()
        before = self.progress.seconds
        waiting: list[Tensor] = []
        for step in range(first, self.steps_per_epoch):
            waiting.append(self.step(epoch, step, order))
            is_last = step + 1 == self.steps_per_epoch
            looked = None
            if len(waiting) == _CHECK_EVERY or is_last:
                looked = self._look(waiting, epoch, step)
                waiting = []
            self.progress.seconds = before + time.monotonic() - started
            if report:
                report.stepped(epoch + 1, step + 1, looked)
            if not waiting and not is_last and time.monotonic() - saved > SAVE_EVERY:
                self._save(epoch, step + 1)
                saved = time.monotonic()
        loss = self.progress.sum / self.steps_per_epoch
        self.progress.losses.append(loss)
        self.progress.epoch_seconds.append(self.progress.seconds - sum(self.progress.epoch_seconds))
        self.progress.sum = 0.0
        self._save(epoch + 1, 0)
        if report:
            report.finished_epoch(epoch + 1, loss, self.progress.epoch_seconds[-1])

    def step(self, epoch: int, step: int, order: Tensor) -> Tensor:
        """One update; 0-based epoch and step, the epoch's order of images; the loss before it."""
        done = (epoch * self.steps_per_epoch + step) / (self.recipe.epochs * self.steps_per_epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, epoch + 1, done)
        loss = self.defense.loss(self._batch(epoch, step, order))
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def _batch(self, epoch: int, step: int, order: Tensor) -> Batch:
        size, seed, threat = self.recipe.batch_size, self.request.seed, self.request.threat
        chosen = order[step * size : (step + 1) * size]
        images = self.images[chosen].float() / 255
        if self.recipe.augment:
            draws = generator(seed, "augment", epoch, step)
            images = augment(images, self.request.dataset.augmentation, draws)
        length = self.recipe.relative_step * float(threat.epsilon)
        return Batch(
            self.players.network,
            images,
            self.labels[chosen],
            budget=InnerBudget(threat, self.recipe.inner_steps, length),
            combine=self.defense.combine,
            generator=generator(seed, "attack", epoch, step),
            maximiser=self.defense.maximiser,
            negatives=self.defense.negatives,
            companion=self.players.companion,
            epoch=epoch + 1,
            epochs=self.recipe.epochs,
        )

    def _look(self, waiting: list[Tensor], epoch: int, last: int) -> float:
        """Add the waiting losses up; stop where one is not finite."""
        values: list[float] = torch.stack(waiting).tolist()
        for offset, value in enumerate(values):
            if not math.isfinite(value):
                step = last - len(values) + 1 + offset
                raise self._diverged(f"the loss became {value}", epoch, step)
        self.progress.sum += sum(values)
        return values[-1]

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
        save_state(self.path, self.players, self.optimiser, self.progress)

    def _check_weights(self) -> None:
        """The last loss was finite, its gradient need not have been."""
        last = divmod(self.progress.steps - 1, self.steps_per_epoch)
        for network in self.players.modules().values():
            for name, values in network.state_dict().items():
                if not values.isfinite().all():
                    raise self._diverged(f"{name} became NaN or infinite", *last)


def learning_rate(recipe: Recipe, epoch: int, progress: float) -> float:
    """The rate of one step.

    Args:
        recipe: its schedule.
        epoch: 1-based.
        progress: fraction of the run that is done.
    """
    if recipe.schedule == "one_cycle":
        return one_cycle(recipe.learning_rate, progress)
    return step_drops(recipe.learning_rate, epoch, parse_drops(recipe.drops))


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
