"""What a checkpoint is: composition, settings, recipe, paper, and where its files are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.identity import CheckpointRecord
from leaderboard import wording
from leaderboard.evaluations import Fact


@dataclass(frozen=True)
class Facts:
    """A titled list of facts."""

    title: str
    facts: tuple[Fact, ...]


def about(record: CheckpointRecord) -> tuple[Facts, ...]:
    """Every group of facts that is not empty."""
    groups = (
        ("Checkpoint", _checkpoint_facts(record)),
        ("Composition", _facts(record.composition)),
        ("Settings of the defense", _facts(record.settings)),
        ("Architecture", (*_architecture_facts(record), *_facts(record.architecture_settings))),
        ("Recipe", _facts(record.recipe)),
        ("Training", _training_facts(record.training)),
        ("Paper", _paper_facts(record.paper)),
    )
    return tuple(Facts(title, facts) for title, facts in groups if facts)


def _checkpoint_facts(record: CheckpointRecord) -> tuple[Fact, ...]:
    is_ours = record.kind == "trained"
    return (
        Fact("Origin", "trained by this harness" if is_ours else "trained elsewhere, then added"),
        Fact("Defense", record.defense or "not one of the harness"),
        Fact("Scale of training", wording.scale(record) or "not known"),
        Fact("Seed of training", str(record.seed)),
        Fact("Threat model of training", wording.threat(record.threat)),
        Fact("An attacker can reach", wording.reachable(record.capabilities)),
        Fact("Classes", str(record.capabilities.classes)),
    )


def _architecture_facts(record: CheckpointRecord) -> tuple[Fact, ...]:
    facts = [Fact("Name", record.architecture)] if record.architecture else []
    if record.parameters:
        facts.append(Fact("Parameters", wording.count(record.parameters)))
    return tuple(facts)


def _facts(mapping: Mapping[str, object]) -> tuple[Fact, ...]:
    """What was set; an empty word means "none" and has no line."""
    return tuple(Fact(name, text) for name, text in wording.settings(mapping) if text)


def _paper_facts(paper: Mapping[str, str]) -> tuple[Fact, ...]:
    return tuple(
        Fact(key.replace("_", " "), text, wording.link(key, text))
        for key, text in paper.items()
        if text
    )


def _training_facts(training: Mapping[str, object]) -> tuple[Fact, ...]:
    """Without what there is none of: no teacher, no collapse."""
    return tuple(
        _training_fact(key, entry)
        for key, entry in training.items()
        if entry != "" and (key, entry) != ("collapsed_at", 0)
    )


def _training_fact(key: str, entry: object) -> Fact:
    if key == "seconds" and isinstance(entry, int | float) and math.isfinite(entry):
        return Fact("time", wording.duration(float(entry)))
    return Fact(key.replace("_", " "), wording.value(entry))


def provenance(record: CheckpointRecord) -> tuple[Fact, ...]:
    """Digests, files and the date."""
    facts = (
        Fact("Checkpoint digest", record.digest),
        Fact("Weights", record.weights),
        Fact("Weights, SHA-256", record.weights_sha256),
        Fact("Model code", record.model),
        Fact("Model code, SHA-256", record.model_sha256),
        Fact("Stored", record.created),
    )
    return tuple(fact for fact in facts if fact.text)
