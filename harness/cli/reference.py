"""The command reference as Markdown, from the commands' own help."""

from __future__ import annotations

import click

from harness.cli import harness

_HEAD = """# Commands

Written by `make reference` from `--help`; a test compares the two.
"""


def reference() -> str:
    """Every command's help, in the order in which `harness --help` lists them."""
    pages = [_HEAD]
    for path, command in _commands("harness", harness):
        context = click.Context(
            command, info_name=path, terminal_width=100, **harness.context_settings
        )
        pages.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(pages)


def _commands(path: str, command: click.Command) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            found += _commands(f"{path} {name}", command.commands[name])
    return found


if __name__ == "__main__":
    click.echo(reference(), nl=False)
