"""The file `leaderboard/texts.json`, from the registries."""

from __future__ import annotations

import json
from typing import Any


def site_texts() -> str:
    """Everything that pages say of defenses, attacks, diagnostics and exhibits, as JSON."""
    found = {
        "defenses": [*_defenses(), *_quoted()],
        "attacks": _attacks(),
        "diagnostics": _diagnostics(),
        "exhibits": _exhibits(),
        "protocols": _protocols(),
        "analyses": _analyses(),
        "surfaces": _surfaces(),
        "losses": _losses(),
    }
    return f"{json.dumps(found, indent=1, ensure_ascii=False)}\n"


def _defenses() -> list[dict[str, Any]]:
    from harness.catalogue import DEFENSES

    entries = [DEFENSES[name] for name in DEFENSES]
    return [
        {
            "name": entry.name,
            "family": entry.family,
            "description": entry.description,
            "base": entry.base or str(entry.settings.get("base", "")),
            "status": entry.status,
            "paper": entry.paper.to_json(),
        }
        for entry in entries
    ]


def _quoted() -> list[dict[str, Any]]:
    from harness.catalogue import DEFENSES, QUOTED

    list(DEFENSES)  # quoted methods are registered beside the defenses
    return [
        {
            "name": name,
            "family": "quoted",
            "description": QUOTED[name].reason,
            "base": "",
            "status": "quoted",
            "paper": QUOTED[name].paper.to_json(),
        }
        for name in QUOTED
    ]


def _attacks() -> list[dict[str, str]]:
    from harness.attacks.attack import ATTACKS

    return [
        {
            "name": name,
            "description": ATTACKS[name].description,
            "knowledge": ATTACKS[name].knowledge,
            "source": ATTACKS[name].source,
        }
        for name in ATTACKS
    ]


def _diagnostics() -> list[dict[str, str]]:
    from harness.diagnostics.diagnostic import DIAGNOSTICS

    return [
        {
            name: getattr(DIAGNOSTICS[identity], name)
            for name in ("id", "title", "description", "amber", "red", "source")
        }
        for identity in DIAGNOSTICS
    ]


def _exhibits() -> list[dict[str, Any]]:
    from harness.museum.exhibit import EXHIBITS

    return [
        {
            "name": name,
            "description": EXHIBITS[name].description,
            "catches": dict(EXHIBITS[name].catches),
        }
        for name in EXHIBITS
    ]


def _protocols() -> dict[str, str]:
    from harness.protocols import PROTOCOLS

    return {name: PROTOCOLS[name].description for name in PROTOCOLS}


def _analyses() -> dict[str, str]:
    from harness.analysis.analysis import ANALYSES

    return {name: ANALYSES[name].title for name in ANALYSES}


def _surfaces() -> dict[str, str]:
    from harness.attacks.surface_text import SURFACES

    return {name: kind.meaning for name, kind in SURFACES.items()}


def _losses() -> dict[str, str]:
    from harness.attacks.losses import LOSSES

    return {name: (loss.__doc__ or "").strip().partition("\n")[0] for name, loss in LOSSES.items()}


def write() -> None:
    """Write the file anew, whole or not at all: it is read while its own text is collected."""
    from harness.files import replace_file
    from leaderboard.texts import FILE

    replace_file(FILE, site_texts().encode())
