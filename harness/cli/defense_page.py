"""`harness show` for defenses: what one is made of, how it trains, what is claimed of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from harness.cli.catalogue_cache import is_grid

if TYPE_CHECKING:
    from harness.catalogue import DefenseEntry, Paper, Variant
    from harness.identity import Claim, Value

Block = str | tuple[str, list[str], list[list[str]]]
"""A line of text, or a table: its title, its heads and its lines."""

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "word",
}


def print_page(page: Iterable[Block]) -> None:
    """Print what `defense_page` or `quoted_page` tells, or its like from JSON."""
    from harness.cli.tables import table

    for block in page:
        if isinstance(block, str):
            click.echo(block)
        else:
            table(*block)


def is_page(found: object) -> bool:
    """Whether `print_page` can print what was read."""
    return isinstance(found, list) and all(
        isinstance(one, str)
        or (
            isinstance(one, list)
            and len(one) == 3
            and isinstance(one[0], str)
            and is_grid(*one[1:])
        )
        for one in found
    )


def defense_page(name: str) -> Iterator[Block]:
    """A defense, named or `BASE+ADDITION`.

    Raises:
        HarnessError: nothing has that name, or its parts exclude each other.
    """
    from harness.catalogue import DEFENSES

    entry = DEFENSES[name]
    defense, _ = entry.compose({})
    yield f"{entry.name}: {entry.description}"
    yield f"{entry.family}, {entry.status}; scales {', '.join(entry.scales)}"
    for part, paper in _papers(entry):
        yield f"{part}: {_paper(paper)}"
    yield "\nComposition", ["part", "is"], [list(p) for p in defense.composition().items()]
    columns = ["key", "of", "default", "takes", "meaning and source"]
    yield "\nSettings (--set KEY=VALUE)", columns, list(_settings(entry))
    if entry.variants:
        yield "\nElsewhere", ["on", "recipe", "settings"], list(map(_elsewhere, entry.variants))
    yield _recipe(entry)
    yield _claims(entry.name)


def quoted_page(name: str) -> Iterator[Block]:
    """A method that is only quoted: why it is not built, and its claims."""
    from harness.catalogue import QUOTED

    entry = QUOTED[name]
    yield f"{name}: only quoted in the papers, there is nothing to train: {entry.reason}"
    yield _paper(entry.paper)
    yield _claims(name)


def _papers(entry: DefenseEntry) -> Iterator[tuple[str, Paper]]:
    """Where the defense and each of its parts come from."""
    from harness.catalogue import ADDITIONS, DEFENSES, UNVALIDATED

    if not entry.additions:
        yield "paper", entry.paper
        return
    if entry.status != UNVALIDATED:
        yield "paper", entry.paper
    yield entry.base, DEFENSES[entry.base].paper
    for addition in entry.additions:
        yield addition, ADDITIONS[addition].paper


def _paper(paper: Paper) -> str:
    from harness.cli.defense_rows import cited

    who = f", {cited(paper)}" if paper.authors else ""
    return f"{paper.title}{who}{f' (arXiv:{paper.arxiv})' if paper.arxiv else ''}"


def _settings(entry: DefenseEntry) -> Iterator[list[str]]:
    """Key, part, default, what it takes, and what the part's docstring says of it."""
    from harness.catalogue import ADDITIONS, DEFENSES
    from harness.cli.defense_rows import in_words
    from harness.docstrings import argument_texts

    base = DEFENSES[entry.base] if entry.base else entry
    parts = [(base.name, base.function, base.settings)]
    parts += [(name, ADDITIONS[name].apply, ADDITIONS[name].settings) for name in entry.additions]
    for part, function, keys in parts:
        said = argument_texts(function) if function else {}
        for key in keys:
            default = entry.settings[key]
            yield [key, part, in_words(default), _takes(default), said.get(key, "")]


def _takes(default: Value) -> str:
    """Kind and range; a docstring narrows it."""
    return _KINDS[type(default)] + (", 0 to 1e6" if type(default) in (int, float) else "")


def _elsewhere(variant: Variant) -> list[str]:
    from harness.cli.defense_rows import in_words

    where = {
        "": variant.dataset,
        "architecture ": variant.architecture,
        "base=": variant.base,
    }
    settings = (f"{key}={in_words(value)}" for key, value in variant.settings.items())
    return [
        ", ".join(f"{word}{value}" for word, value in where.items() if value),
        variant.recipe or "-",
        ", ".join(settings) or "-",
    ]


def _recipe(entry: DefenseEntry) -> Block:
    """Every number at every scale; digits have two of their own."""
    from harness.cli.defense_rows import in_words
    from harness.recipe import RECIPE_KEYS, scaled

    columns = {scale: scaled(entry.recipe, scale, "") for scale in entry.scales}
    for scale in ("smoke", "reduced"):
        columns[f"{scale}, digits"] = scaled(entry.recipe, scale, "digits")
    lines = [
        [key, *(in_words(getattr(recipe, key)) for recipe in columns.values())]
        for key in RECIPE_KEYS
    ]
    title = f"\nRecipe {entry.recipe_id} (smoke has a quarter of the architecture's width)"
    return title, ["key", *columns], lines


def _claims(name: str) -> Block:
    from harness.claims import claims

    found = [claim for claim in claims() if claim.defense == name]
    if not found:
        return "\nNo paper here has a figure of it."
    columns = ["table", "on", "clean", "lowest robust", "under", "figures", "above clean"]
    title = f"\nClaimed, not measured here (all: harness list claims --defense {name})"
    return title, columns, list(_claimed(found))


def _claimed(claims: Iterable[Claim]) -> Iterator[list[str]]:
    """Per table and model: clean accuracy and the lowest robust one, in percent, as printed.

    Robust accuracy above clean accuracy is counted: such an attack did not work.
    """
    from harness.claims import claims as published
    from harness.claims.recomputed import above_clean

    impossible = {claim for claim, _ in above_clean(published())}
    groups: dict[tuple[str, str, str, str], list[Claim]] = {}
    for claim in claims:
        where = (claim.source, claim.place, claim.dataset, claim.architecture)
        groups.setdefault(where, []).append(claim)
    for (source, place, dataset, architecture), found in groups.items():
        clean = [claim for claim in found if claim.metric == "clean_accuracy"]
        robust = [claim for claim in found if claim.metric == "robust_accuracy"]
        lowest = min(robust, key=lambda claim: claim.value, default=None)
        yield [
            f"{source} {place}",
            f"{dataset} {architecture}",
            _span(clean),
            lowest.printed if lowest else "-",
            _under(lowest) if lowest else "-",
            str(len(found)),
            str(len(impossible & {*found}) or "-"),
        ]


def _span(claims: list[Claim]) -> str:
    """One figure, or the lowest and the highest of several."""
    ends = {f(claims, key=lambda claim: claim.value).printed: None for f in (min, max) if claims}
    return " to ".join(ends) or "-"


def _under(claim: Claim) -> str:
    steps = f" {claim.attack_iterations}" if claim.attack_iterations else ""
    return f"{claim.attack}{steps}, {claim.knowledge}".replace("_", " ")
