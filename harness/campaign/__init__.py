"""Campaigns: evaluate checkpoints and record what is found."""

from harness.campaign.campaign import PRECISION, Campaign, describe, missing_slices
from harness.campaign.request import (
    Estimate,
    EvaluationRequest,
    Provenance,
    Report,
    Scope,
    Subjects,
)

__all__ = [
    "PRECISION",
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
