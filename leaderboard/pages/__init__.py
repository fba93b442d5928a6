"""One module per kind of page: a frozen dataclass with everything its template may use.

Templates loop and place; every decision about a number or a word is made in these modules. To add
a page, add a module that registers a function here, and its template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.registry import Registry
from leaderboard.material import Material


@dataclass(frozen=True)
class Draft:
    """One file of the site that may have to be written.

    Args:
        path: relative to the site's folder, from `addresses`.
        facts: everything that its bytes follow from, as plain values whose `repr` says all; what
            is read from the archive is covered by the stamp of its checkpoint and by what it says
            is `known`.
        make: the typed page object, or the bytes of the file where `template` is empty; None for
            no file after all. Called only if the facts changed.
        template: in `templates/`.
    """

    path: str
    facts: object
    make: Callable[[], object]
    template: str = ""


Drafts = Callable[[Material], Iterable[Draft]]

PAGES: Registry[Drafts] = Registry("page", "leaderboard.pages", "robust_harness.pages")


def page(drafts: Drafts) -> Drafts:
    """Register a function that says which pages of its kind the material gives."""
    PAGES.add(drafts.__module__.rpartition(".")[2], drafts)
    return drafts


def all_drafts(material: Material) -> list[Draft]:
    """Every page of every kind, those of a kind together."""
    return [draft for name in PAGES for draft in PAGES[name](material)]
