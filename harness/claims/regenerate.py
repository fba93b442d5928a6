"""`python -m harness.claims.regenerate SOURCE.csv`: check the published figures and repackage them.

What is right is written into the package whole, byte for byte as before where nothing changed;
what is wrong is told, and the package stays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.claims.checks import problems
from harness.claims.table import PACKAGED, parse, render
from harness.errors import HarnessError
from harness.files import replace_file

_MOST_TOLD = 20


def regenerate(source: Path, target: Path) -> str:
    """Check `source` and write it to `target`.

    Returns:
        What was done, one sentence.

    Raises:
        HarnessError: it cannot be read, or a check failed; `target` stays.
    """
    try:
        claims = parse(source.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{source} cannot be read: {error}.") from error
    found = problems(claims)
    if found:
        told = [*found[:_MOST_TOLD], *(["..."] if len(found) > _MOST_TOLD else [])]
        raise HarnessError("\n".join((f"{source} has {len(found)} problem(s).", *told)))
    content = render(claims).encode()
    is_new = not target.is_file() or target.read_bytes() != content
    if is_new:
        replace_file(target, content)
    tables = {(claim.source, claim.place) for claim in claims}
    return f"{len(claims)} claims of {len(tables)} tables, {'written' if is_new else 'unchanged'}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with what is wrong on stderr."""
    parser = argparse.ArgumentParser(prog="python -m harness.claims.regenerate")
    parser.add_argument("source", metavar="SOURCE.csv", type=Path)
    try:
        told = regenerate(parser.parse_args(arguments).source, Path(str(PACKAGED)))
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
