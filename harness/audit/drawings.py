"""Written pages, compared byte by byte with what the rows give when they are drawn again.

This catches what somebody changed by hand, wherever it stands. It is no second opinion: pages are
drawn by the code that drew them. `pages` reads numbers back by code of its own.
"""

from __future__ import annotations

from pathlib import Path

from leaderboard.material import Material
from leaderboard.site import differing

NAMED = 10
"""Files that are named; the rest is a number."""


def drawing_problems(folder: Path, material: Material) -> list[str]:
    """One sentence per file of the site that is not what the material gives now.

    Args:
        folder: written by `harness site`.
        material: of the same store.

    Raises:
        HarnessError: the site was cut down to a board that is not there any more.
    """
    found = differing(material, folder)
    problems = [
        f"{name}: not what the rows give now; rows or the harness changed since, or the file did: "
        "build it again with `harness site`"
        for name in found[:NAMED]
    ]
    if len(found) > NAMED:
        problems.append(f"{len(found) - NAMED} more files are not what the rows give now")
    return problems
