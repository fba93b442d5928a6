"""Progress for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from harness.runlog import event

_PLAIN_EVERY = 30.0
"""Seconds between two plain lines."""


class _Bar:
    """One bar on stderr, started late and stopped in any case."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=1)
        self._progress.start()

    def show(self, description: str, done: float, total: float) -> None:
        self._progress.update(self._task, description=description, completed=done, total=total)

    def line(self, text: str) -> None:
        """A line above the bar; printed around it, it would begin at the bar's end."""
        self._progress.console.print(Text(text))

    def stop(self) -> None:
        self._progress.stop()


class Display:
    """Shows how far a command is; `quiet` shows nothing. A context manager."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar = _Bar() if not quiet and sys.stderr.isatty() else None
        self._last_line = time.monotonic()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, description: str, done: float, total: float) -> None:
        """Move the bar; without a terminal, a line every half minute."""
        if self._bar:
            self._bar.show(description, done, total)
        elif time.monotonic() - self._last_line > _PLAIN_EVERY:
            self._last_line = time.monotonic()
            self.line(f"{description}: {done:.0f} of {total:.0f}")

    def line(self, text: str) -> None:
        """One line that stays."""
        if self._bar:
            self._bar.line(text)
        elif not self._quiet:
            click.echo(text, err=True)


class TrainingDisplay:
    """Training progress: one line per epoch."""

    def __init__(self, display: Display, name: str) -> None:
        self._display = display
        self._name = name
        self._epochs = self._steps = 1

    def started(self, epochs: int, steps: int, resumed_at: int) -> None:
        self._epochs, self._steps = epochs, steps
        event("planned", name=self._name, epochs=epochs, steps=steps, resumed_at=resumed_at)
        if resumed_at:
            self._display.line(
                f"{self._name}: goes on after {resumed_at} of {epochs * steps} steps"
            )
        else:
            self._display.line(f"{self._name}: {epochs} epochs of {steps} steps")

    def stepped(self, epoch: int, step: int, loss: float | None) -> None:
        done = (epoch - 1) * self._steps + step
        total = self._epochs * self._steps
        if loss is not None or step == self._steps:
            self._display.advance(f"{self._name} epoch {epoch}/{self._epochs}", done, total)

    def finished_epoch(self, epoch: int, loss: float, seconds: float) -> None:
        event("epoch done", name=self._name, epoch=epoch, loss=loss, seconds=round(seconds, 3))
        self._display.line(
            f"{self._name}: epoch {epoch}/{self._epochs}  loss {loss:.4f}  {seconds:.1f} s"
        )


class CampaignDisplay:
    """Evaluation progress: pieces of work done in the running stage."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._done = self.pieces = 0

    def planned(self, pieces: int) -> None:
        self.pieces += pieces

    def done(self, work_done: str, seconds: float) -> None:
        self._done += 1
        self._display.advance(f"{work_done} ({seconds:.1f} s)", self._done, self.pieces)
