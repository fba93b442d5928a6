"""What the papers claim of a row: the lowest figure they print for the same thing."""

from __future__ import annotations

from harness.claims import claims
from harness.identity import CheckpointRecord
from harness.threat import ThreatModel, parse_fraction

_KNOWLEDGE = {"white_box", "adaptive", "query"}


def claimed_accuracy(record: CheckpointRecord, dataset: str, threat: ThreatModel) -> float | None:
    """Robust accuracy that the papers claim of a defense, in [0, 1]; None where they claim none.

    The lowest printed figure counts, of whatever attack: a paper that prints 83 under one attack
    and 60 under another claims 60. Only a checkpoint that was trained at scale `full` can be held
    against it, on the same dataset, architecture, norm and epsilon. Figures under transfer and
    corruption, and of variants (other settings, parts of the model), are about something else.

    Args:
        record: the checkpoint.
        dataset: that it was tested on, as rows name it.
        threat: norm and exact epsilon.
    """
    if record.scale != "full":
        return None
    found = [
        claim.value / 100
        for claim in claims()
        if claim.metric == "robust_accuracy"
        and claim.knowledge in _KNOWLEDGE
        and not claim.variant
        and (claim.defense, claim.dataset) == (record.defense, dataset)
        and claim.architecture == record.architecture
        and claim.norm == threat.norm
        and parse_fraction(claim.epsilon) == threat.epsilon
    ]
    return min(found, default=None)
