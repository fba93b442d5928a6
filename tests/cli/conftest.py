"""The command line in this process, in an empty folder, on thin nets trained once per session."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from harness.attacks.attack import attack_spec
from harness.cli import main
from harness.identity import AttackSpec
from harness.protocols import PROTOCOLS, Suite

TRADES = ("trades", "--name", "plain")
ANCRA = ("trades_ancra", "--name", "gated")
THIN = ("--dataset", "digits", "--epochs", "4", "--set", "width=8", "--set", "inner_steps=1")

MODELS = """
import torch
from torch import nn

print("a model that prints on import")


class Model(nn.Module):
    def __init__(self, trouble):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.trouble = trouble

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        if images.detach().min().item() == 0:  # not the random images with which it is added
            return self.trouble(logits)
        return logits


def fail(logits):
    raise RuntimeError("out of order")


def with_nan(logits):
    return torch.where(torch.arange(len(logits))[:, None] == 3, torch.nan, logits)


def chatter(logits):
    print("a model that prints on every pass")
    return logits


def build():
    return Model(lambda logits: logits)


def failing():
    return Model(fail)


def nan():
    return Model(with_nan)


def narrow():
    return Model(lambda logits: logits[:, :7])


def chatty():
    return Model(chatter)


def seven():
    model = build()
    model.linear = nn.Linear(64, 7)
    return model
"""


FEWER = {"steps": 2, "queries": 8, "guides": 1, "targets": 2, "draws": 2, "vertices": 2, "pairs": 2}
"""Settings that cost passes. Tests run every attack of a protocol, and each of them briefly."""


def briefly(spec: AttackSpec) -> AttackSpec:
    """The same attack with fewer passes."""
    loss = None if spec.loss == "own" else spec.loss
    parameters = dict(spec.parameters)
    parameters |= {key: few for key, few in FEWER.items() if key in parameters}
    return attack_spec(spec.attack, surface=spec.surface, loss=loss, **parameters)


def shorten_protocols(patch: pytest.MonkeyPatch) -> None:
    """`standard` and `adaptive` keep their attacks and lose their strength."""

    def brief(suite: Suite | None) -> Suite | None:
        if suite is None:
            return None
        return lambda target: list(dict.fromkeys(briefly(spec) for spec in suite(target)))

    for name in ("standard", "adaptive"):
        whole = PROTOCOLS[name]
        short = replace(whole, first=brief(whole.first), second=brief(whole.second))
        patch.setitem(PROTOCOLS, name, short)


@pytest.fixture(autouse=True)
def short_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every test here, as for what they all start from."""
    shorten_protocols(monkeypatch)


class Called(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


Harness = Callable[..., Called]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Thin nets gain nothing from a second thread and wait for it where cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; nothing of the person's own is read or written, or fetched."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HARNESS_DB", str(folder / "results.db"))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_CHECKPOINTS", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", _refuse)
    return folder


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no network in tests")


@pytest.fixture
def harness(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness("eval", "plain")` -> what `harness eval plain` would leave."""

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        logging.getLogger("harness").handlers.clear()  # they hold the stderr of the test before
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Called(ended.value.code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with `plain` (trades) and `gated` (trades_ancra), attacked adaptively once."""
    folder = tmp_path_factory.mktemp("made_once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DB", str(folder / "results.db"))
        patch.setenv("HARNESS_DATA", str(folder / "data"))
        patch.delenv("HARNESS_CHECKPOINTS", raising=False)
        shorten_protocols(patch)
        _run_each(
            patch,
            ("train", *TRADES, *THIN),
            ("train", *ANCRA, *THIN),
            ("eval", "--all", "--adaptive", "--examples", "10", "--workers", "1"),
        )
    return folder


def _run_each(patch: pytest.MonkeyPatch, *commands: tuple[str, ...]) -> None:
    """Run commands in this process; each must end well."""
    for command in commands:
        patch.setattr(sys, "argv", ["harness", *command, "-q"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0


@pytest.fixture
def stored(home: Path, made_once: Path) -> Path:
    """The working folder with a copy of that database and its checkpoints."""
    shutil.copytree(made_once, home, dirs_exist_ok=True)
    return home


@pytest.fixture(scope="session")
def small_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with `plain` (trades), attacked twice on two slices, and its images kept."""
    folder = tmp_path_factory.mktemp("small_once")
    attacks = ("--attack", "pgd(steps=3)", "--attack", "fgsm", "--examples", "120")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DB", str(folder / "results.db"))
        patch.setenv("HARNESS_DATA", str(folder / "data"))
        patch.delenv("HARNESS_CHECKPOINTS", raising=False)
        _run_each(
            patch,
            ("train", *TRADES, *THIN),
            ("eval", "plain", *attacks, "--workers", "1", "--keep-adversarial", "uint8"),
        )
    return folder


@pytest.fixture
def small(home: Path, small_once: Path) -> Path:
    """The working folder with a copy of that database, its checkpoints and its kept images."""
    shutil.copytree(small_once, home, dirs_exist_ok=True)
    return home


@pytest.fixture
def model_file(home: Path) -> Path:
    """A file of models trained elsewhere, and `weights.pt` beside it that fits them all."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 10)
    torch.save({f"linear.{k}": v for k, v in linear.state_dict().items()}, home / "weights.pt")
    file = home / "models.py"
    file.write_text(MODELS)
    return file


@pytest.fixture
def add(harness: Harness, model_file: Path) -> Callable[..., Called]:
    """`add(NAME, CALLABLE)` with the weights of `model_file`."""

    def call(name: str, function: str = "build", *more: object) -> Called:
        where = ("--model", f"{model_file}:{function}", "--weights", "weights.pt")
        return harness("add", name, *where, "--dataset", "digits", *more)

    return call


@pytest.fixture
def outside(home: Path) -> dict[str, str]:
    """The environment for commands that run in a process of their own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
