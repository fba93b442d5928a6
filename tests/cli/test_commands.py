"""The words of the command line: they are what people type and scripts contain, and they stay."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import click
import pytest

from harness.cli import harness as root

EVERYWHERE = {"--db", "--device", "-q", "-v", "--version", "-h", "--help"}
PROMISED = {
    "train": {
        "defense",
        *("--dataset", "--data-dir", "--arch", "--scale", "--epochs", "--seed", "--set", "--name"),
        *("--norm", "--epsilon", "--no-download", "--dry-run"),
    },
    "add": {"name", "--model", "--weights", "--dataset", "--card"},
    "analyse": {"names", "--all", "--analysis", "--dataset", "--examples", "--pictures", "--json"},
    "eval": {
        "names",
        *("--all", "--adaptive", "--protocol", "--attacks", "--attack", "--dataset", "--data-dir"),
        *("--examples", "--norm", "--epsilon", "--seed", "--batch-size", "--json", "--bits"),
        *("--no-download", "--dry-run", "--workers", "--time-limit", "--keep-adversarial"),
    },
    "verify": {
        "names",
        *(
            "--all",
            "--sample",
            "--whole",
            "--seed",
            "--attack",
            "--kept",
            "--dataset",
            "--data-dir",
        ),
        *("--corrupted-dir", "--workers", "--time-limit", "--json", "--no-download"),
    },
    "search": {
        "names",
        *("--all", "--budget", "--dataset", "--data-dir", "--examples", "--norm", "--epsilon"),
        *("--seed", "--workers", "--json", "--no-download"),
    },
    "diagnose": {
        "names",
        *("--all", "--only", "--dataset", "--data-dir", "--examples", "--norm", "--epsilon"),
        *("--seed", "--workers", "--json", "--no-download"),
    },
    "corrupt": {
        "names",
        *("--all", "--corruptions", "--severities", "--dataset", "--data-dir", "--corrupted-dir"),
        *("--examples", "--batch-size", "--workers", "--json", "--no-download"),
    },
    "list": {"kind", "--defense", "--json"},
    "show": {"name"},
    "remove": {"name"},
    "results merge": {"file"},
    "results export": {"file"},
    "site": {"--out"},
    "data fetch": {"dataset"},
    "demo": {"--out"},
    "museum": {"--only", "--json"},
}


def _command(path: str) -> click.Command:
    found: Any = root
    for word in path.split():
        found = found.commands[word]
    return found


def _words(command: click.Command) -> set[str]:
    found = {word for parameter in command.params for word in parameter.opts}
    return found | {*command.get_help_option_names(click.Context(command, parent=_ROOT))}


_ROOT = click.Context(root, **root.context_settings)


@pytest.mark.parametrize("path", PROMISED)
def test_a_command_has_every_word_that_was_promised(path):
    assert PROMISED[path] | EVERYWHERE <= _words(_command(path))


def test_there_is_no_command_that_was_not_promised():
    assert set(root.commands) == {path.split()[0] for path in PROMISED}


def test_list_knows_exactly_these_kinds():
    (kind,) = (p for p in _command("list").params if p.name == "kind")

    assert kind.type.choices == (
        "defenses",
        "combinations",
        "quoted",
        "claims",
        "recipes",
        "attacks",
        "surfaces",
        "protocols",
        "diagnostics",
        "corruptions",
        "datasets",
        "architectures",
        "checkpoints",
    )


@pytest.mark.parametrize("path", ["train", "add", "eval", "search", "diagnose", "list", "demo"])
def test_devices_are_auto_cpu_and_cuda(path):
    (device,) = (p for p in _command(path).params if p.name == "device")

    assert device.type.choices == ("auto", "cpu", "cuda")
    assert device.default == "auto"


@pytest.mark.parametrize("path", PROMISED)
def test_every_command_explains_itself_and_says_its_version(harness, path):
    helped, version = harness(*path.split(), "--help"), harness(*path.split(), "--version")

    assert (helped.code, version.code) == (0, 0)
    assert helped.out.startswith("Usage: harness")
    assert version.out.startswith("harness, version ")


def test_the_help_of_eval_fits_on_one_screen(harness, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = harness("eval", "--help").out.splitlines()

    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80


def test_help_comes_at_once_without_importing_what_only_work_needs(outside):
    code = (
        "import sys, time\n"
        "from harness.cli import main\n"
        "sys.argv = ['harness', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'sqlalchemy', 'sklearn', 'scipy', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), time.process_time(), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=outside, capture_output=True, text=True, check=True
    )
    imported, _, seconds = done.stderr.strip().rpartition(" ")

    assert imported == "[]"
    assert float(seconds) < 0.5


@pytest.mark.parametrize("line", ["", "trian", "eval --example 3", "train", "list", "list attack"])
def test_a_line_that_cannot_be_read_ends_with_code_2_and_says_why(harness, line):
    found = harness(*line.split())

    assert found.code == 2
    assert "Usage: harness" in found.err
    assert not found.out


@pytest.mark.parametrize("raised", [KeyboardInterrupt, click.Abort])
def test_an_interruption_anywhere_ends_with_code_130(harness, monkeypatch, raised):
    def interrupt(*_: object) -> None:
        raise raised

    monkeypatch.setattr("harness.cli.options.speak", lambda **_: interrupt())
    found = harness("train", "trades", "--dataset", "digits")

    assert found.code == 130
    assert "the same command goes on" in found.err


def test_a_bug_keeps_its_traceback(harness, monkeypatch):
    def bug(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("harness.cli.options.speak", bug)
    with pytest.raises(ZeroDivisionError):
        harness("train", "trades", "--dataset", "digits")


def test_a_reader_that_leaves_early_gets_no_traceback(outside):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "--help"],
        env=outside,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (1, b"")
