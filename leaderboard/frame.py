"""What every page has around its content: the way to the others, and the line at the foot."""

from __future__ import annotations

from dataclasses import dataclass

from leaderboard import addresses


@dataclass(frozen=True)
class Link:
    """A name and where it leads; `is_here` on the page itself and those below it."""

    name: str
    href: str
    is_here: bool = False


_ROOMS = (
    ("Boards", addresses.HOME, "boards/", "checkpoints/"),
    ("Families", addresses.FAMILIES, "families/"),
    ("Attacks", addresses.ATTACKS, "attacks/"),
    ("Studies", addresses.STUDIES, "studies/"),
    ("Claims", addresses.CLAIMS),
    ("Museum", addresses.MUSEUM),
    ("How to read this", addresses.READING),
)


@dataclass(frozen=True)
class Frame:
    """The frame of one page.

    Args:
        root: from the page back to the site's folder, empty or `../`.
        rooms: the parts of the site.
        trail: pages above this one, from the top.
        generated: when and from what, as text; empty for nothing.
    """

    root: str
    rooms: tuple[Link, ...]
    trail: tuple[Link, ...]
    generated: str

    @classmethod
    def of(cls, path: str, *trail: tuple[str, str], generated: str = "") -> Frame:
        """The frame of the page at that path; `trail` has names and paths of the pages above."""
        root = addresses.root_of(path)
        rooms = (
            Link(name, f"{root}{page}", path == page or path.startswith(tuple(below)))
            for name, page, *below in _ROOMS
        )
        above = (Link(name, f"{root}{page}") for name, page in trail)
        return cls(root, tuple(rooms), tuple(above), generated)
