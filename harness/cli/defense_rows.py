"""Rows of `harness list` about defenses: what is built, what can be combined, what is claimed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.catalogue import Paper
    from harness.identity import Claim

Rows = list[dict[str, Any]]

_REFUSED = "refused"
"""As `catalogue.pairs` calls parts that exclude each other."""

_SETTINGS = re.compile(r" \((?:[^()]|\([^()]*\))*\)")
"""What stands in brackets after a part, brackets inside them included."""


def defenses() -> Rows:
    """Every defense with a name, whole."""
    from harness.catalogue import DEFENSES

    counted = _claims_per_defense()
    return [
        {
            "name": entry.name,
            "family": entry.family,
            "status": entry.status,
            "description": entry.description,
            "paper": entry.paper.to_json(),
            "scales": list(entry.scales),
            "recipe": entry.recipe_id,
            "base": entry.base,
            "additions": list(entry.additions),
            "composition": entry.compose({})[0].composition(),
            "settings": dict(entry.settings),
            "variants": [{**asdict(v), "settings": dict(v.settings)} for v in entry.variants],
            "claims": counted.get(entry.name, 0),
        }
        for entry in (DEFENSES[name] for name in DEFENSES)
    ]


def shown_defenses(rows: Rows) -> Rows:
    """What of `defenses` fits into a table."""
    return [
        {
            "name": row["name"],
            "family, status": f"{row['family']}, {row['status']}",
            "composition": in_short(row["composition"]),
            "paper": cited(row["paper"]),
            "scales": row["scales"],
        }
        for row in rows
    ]


def combinations() -> Rows:
    """Every base with every single addition."""
    from harness.catalogue import pairs

    return [
        {
            "base": base,
            "addition": added,
            "status": status,
            "name": "" if status == _REFUSED else told,
            "reason": told if status == _REFUSED else "",
        }
        for base, added, status, told in pairs()
    ]


def shown_combinations(rows: Rows) -> Rows:
    """Name and reason share a column."""
    return [
        {key: row[key] for key in ("base", "addition", "status")}
        | {"name or reason": row["name"] or row["reason"]}
        for row in rows
    ]


def quoted() -> Rows:
    """Methods that the papers only quote."""
    from harness.catalogue import QUOTED

    counted = _claims_per_defense()
    return [
        {
            "name": entry.name,
            "paper": entry.paper.to_json(),
            "claims": counted.get(entry.name, 0),
            "reason": entry.reason,
        }
        for entry in (QUOTED[name] for name in QUOTED)
    ]


def shown_quoted(rows: Rows) -> Rows:
    """The paper in short."""
    return [row | {"paper": cited(row["paper"])} for row in rows]


def recipes() -> Rows:
    """Every training recipe at scale full, and who trains by it."""
    from harness.catalogue import DEFENSES
    from harness.recipe import RECIPES

    entries = [DEFENSES[name] for name in DEFENSES]
    return [
        {
            "name": name,
            **recipe.to_json(),
            "defenses": [
                entry.name
                for entry in entries
                if name in {entry.recipe_id, *(variant.recipe for variant in entry.variants)}
            ],
        }
        for name, recipe in sorted(RECIPES.items())
    ]


def shown_recipes(rows: Rows) -> Rows:
    """The numbers that tell recipes apart."""
    return [
        {
            "name": row["name"],
            "architecture": row["architecture"],
            "epochs": str(row["epochs"]),
            "learning rate": _rate(row),
            "decay": in_words(row["weight_decay"]),
            "training attack": _attack(row),
            "teacher": row["teacher"] or "-",
            "used by": str(len(row["defenses"])),
        }
        for row in rows
    ]


def _rate(row: Mapping[str, Any]) -> str:
    how = f"{row['schedule']} {row['drops']}".strip().replace("drops ", "down at ")
    return f"{in_words(row['learning_rate'])}, {how.replace('_', ' ')}"


def _attack(row: Mapping[str, Any]) -> str:
    """Steps times their size as a fraction of epsilon."""
    within = f" of {row['epsilon']}" if row["epsilon"] else ""
    return f"{row['inner_steps']} x {row['relative_step']:.3g}{within}, bn {row['attack_bn']}"


def claims(defense: str | None) -> Rows:
    """Published figures, of one defense or all."""
    return [vars(claim) for claim in claims_of(defense)]


def claims_of(defense: str | None) -> list[Claim]:
    """Published figures, of one defense or all.

    Raises:
        HarnessError: nothing has that name.
    """
    from harness.claims import claims as published

    if defense is None:
        return [*published()]
    found = [claim for claim in published() if claim.defense == defense]
    if not found:
        _check_known(defense)
    return found


def shown_claims(rows: Rows) -> Rows:
    """Figures per defense and source; one defense's own figures where there is only one."""
    if len({row["defense"] for row in rows}) == 1:
        return [_figure(row) for row in rows]
    groups: dict[tuple[str, str], Rows] = {}
    for row in rows:
        groups.setdefault((row["defense"], row["source"]), []).append(row)
    return [
        {
            "defense": defense,
            "is": _kind(defense),
            "source": source,
            "figures": str(len(found)),
            "tables": ", ".join(dict.fromkeys(row["place"] for row in found)),
            "data": ", ".join(dict.fromkeys(row["dataset"] for row in found)),
        }
        for (defense, source), found in sorted(groups.items())
    ]


def _figure(row: Mapping[str, str]) -> dict[str, str]:
    """One claim in few columns, with blanks where a line may be broken."""
    attack = " ".join(word for word in (row["attack"], row["attack_iterations"]) if word)
    unit = "" if row["unit"] == "percent" else f" {row['unit']}"
    return {
        "source": f"{row['source']} {row['place']}",
        "on": f"{row['dataset']} {row['architecture']}",
        "figure": row["metric"].replace("_", " "),
        "attack": "-" if attack == "none" else f"{attack}, {row['knowledge']}".replace("_", " "),
        "where": row["variant"].replace(",", ", ") or "-",
        "printed": row["printed"] + unit.replace("_", " "),
    }


def in_short(composition: Mapping[str, str]) -> str:
    """The parts of a composition without their settings; plain heads go without saying."""
    names = (_SETTINGS.sub("", text) for text in composition.values())
    return " + ".join(name for name in names if name != "linear")


def cited(paper: Mapping[str, str] | Paper) -> str:
    """`Zhou et al., 2023`, or the title of a paper without authors."""
    known = paper if isinstance(paper, Mapping) else paper.to_json()
    if "authors" not in known:
        return known["title"]
    return ", ".join(known[key] for key in ("authors", "year") if key in known)


def in_words(value: object) -> str:
    """A setting for people: short numbers, `true` and `false`, a dash for nothing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) or "-"


def _claims_per_defense() -> dict[str, int]:
    from collections import Counter

    from harness.claims import claims as published

    return Counter(claim.defense for claim in published())


def _kind(defense: str) -> str:
    from harness.catalogue import DEFENSES, QUOTED

    return "built" if defense in DEFENSES else "quoted" if defense in QUOTED else "not built"


def _check_known(defense: str) -> None:
    from harness.catalogue import DEFENSES, QUOTED
    from harness.claims import claims as published
    from harness.errors import unknown_name

    known: Iterable[str] = {*DEFENSES, *QUOTED, *(claim.defense for claim in published())}
    if defense not in DEFENSES and defense not in known:
        raise unknown_name("defense", defense, known)
