"""The command line: each command parses, makes one call and prints."""

from __future__ import annotations

import sys

import click

from harness import __version__
from harness.cli.add import add
from harness.cli.analyse import analyse
from harness.cli.corrupt import corrupt
from harness.cli.data import data
from harness.cli.demo import demo
from harness.cli.diagnose import diagnose
from harness.cli.evaluate import evaluate
from harness.cli.listing import list_
from harness.cli.museum import museum
from harness.cli.results import remove, results
from harness.cli.search import search
from harness.cli.show import show
from harness.cli.site import site
from harness.cli.train import train
from harness.cli.verify import verify
from harness.errors import HarnessError
from harness.printable import printable


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="harness")
def harness() -> None:
    """Train or load defenses, attack what each really decides with, keep every outcome.

    \b
    harness demo                                   everything once, on digits, in minutes
    harness train trades_ancra --dataset cifar10   train a defense
    harness add NAME --model FILE.py:CALLABLE --weights FILE --dataset cifar10
    harness eval --adaptive --all                  attack every stored checkpoint
    harness site                                   render what is stored
    """  # noqa: D301 - click reads the backspace character


COMMANDS = (
    *(train, add, evaluate, search, diagnose, analyse, corrupt),
    *(list_, show, verify, results, remove, site, data, demo, museum),
)

for command in COMMANDS:
    harness.add_command(command)


def main() -> None:
    """Exit with 0 (done), 1 (some rows failed), 2 (to be fixed by the person) or 130."""
    try:
        code = harness.main(prog_name="harness", standalone_mode=False)
    except HarnessError as error:
        _complain(str(error))
        code = 2
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted. What was finished is stored; the same command goes on from there.")
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    click.echo(f"harness: {printable(message)}", err=True)
