"""What the documents say about the program is true of it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness.cli import harness as root

HERE = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/promises.md")


def _lines(page: str) -> list[str]:
    """Every `harness ...` command of a page, in blocks and within sentences."""
    text = (HERE / page).read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    inline = re.findall(r"`(harness [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return re.findall(r"^harness .+$", blocks, re.MULTILINE) + inline


COMMANDS = [(page, line) for page in PAGES for line in _lines(page)]


def _parse(
    command: click.Command, name: str, words: list[str], parent: click.Context | None = None
) -> None:
    """Read a command line as click would, without running anything."""
    with command.make_context(name, list(words), parent=parent) as context:
        if isinstance(command, click.Group):
            found, inner, rest = command.resolve_command(context, context._protected_args)
            assert inner is not None
            _parse(inner, str(found), [*rest, *context.args], context)


def test_the_command_reference_is_what_help_says():
    """In a process of its own, as `make reference` does: a command keeps the help option of its
    first context, so that a test that had called it alone would change the text."""
    written = (HERE / "docs" / "commands.md").read_text()
    printed = subprocess.run(
        [sys.executable, "-m", "harness.cli.reference"], capture_output=True, text=True, check=True
    ).stdout

    assert written == printed, "run `make reference`"


def test_every_promise_names_tests_that_are_there():
    text = (HERE / "docs" / "promises.md").read_text()
    for promise in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        named = re.findall(r"tests/[a-z_/.0-9]+", promise)
        assert named, promise.partition("\n")[0]
        assert all((HERE / one).exists() for one in named), named


def test_every_status_of_a_failed_row_is_explained():
    """`ModelError("status", ...)` anywhere in the code, and the table of promises."""
    source = "".join(file.read_text() for file in (HERE / "harness").rglob("*.py"))
    raised = set(re.findall(r"ModelError\(\s*\"([a-z_]+)\"", source))
    explained = set(re.findall(r"`([a-z_]+)`", (HERE / "docs" / "promises.md").read_text()))
    assert raised - explained == set()


def test_the_documents_hold_commands():
    assert len([page for page, _ in COMMANDS if page == "README.md"]) >= 8


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[line for _, line in COMMANDS])
def test_a_command_of_the_documents_can_be_typed(page, line):
    _parse(root, "harness", shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("line", ["harness eval --exampels 3", "harness trian x", "harness list"])
def test_a_command_that_does_not_exist_would_be_noticed(line):
    with pytest.raises(click.UsageError):
        _parse(root, "harness", shlex.split(line)[1:])


@pytest.mark.parametrize("page", [*PAGES, "docs/architecture.md", "CHANGELOG.md"])
def test_a_link_to_a_file_leads_somewhere(page):
    text = (HERE / page).read_text()
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)

    assert [t for t in targets if not (HERE / page).parent.joinpath(t).exists()] == []


def test_every_folder_of_the_harness_is_on_the_page_about_architecture():
    page = (HERE / "docs" / "architecture.md").read_text()
    folders = [path.parent.name for path in (HERE / "harness").glob("*/__init__.py")]

    assert [name for name in folders if f"{name}/" not in page] == []


def test_the_defense_that_contributing_shows_is_the_one_in_the_tree():
    (shown,) = re.findall(
        r"```python\n(\"\"\"ALP: .*?)```",
        (HERE / "CONTRIBUTING.md").read_text(),
        re.DOTALL,
    )

    assert shown == (HERE / "defenses" / "alp.py").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_make_knows_the_targets_that_a_page_names(page):
    known = re.findall(r"^([a-z-]+):", (HERE / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^|`)make ([a-z-]+)", (HERE / page).read_text(), re.MULTILINE)

    assert named
    assert set(named) <= set(known)
