"""Campaigns: evaluate checkpoints and record what is found."""

from harness.campaign.campaign import Campaign, describe, missing_slices
from harness.campaign.request import (
    Estimate,
    EvaluationRequest,
    Provenance,
    Report,
    Scope,
    Subjects,
)

__all__ = [
    "Campaign",
    "Estimate",
    "EvaluationRequest",
    "Provenance",
    "Report",
    "Scope",
    "Subjects",
    "describe",
    "missing_slices",
]
