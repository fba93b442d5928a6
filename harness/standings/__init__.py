"""What is derived from stored bits: unions, intervals, rank groups. Never stored, never stale.

Serves `--json`, `show`, `results export` and the site, so that no two of them can disagree.
"""

from harness.standings.derivation import Question, boards, losses, measure, still_right
from harness.standings.export import as_csv, as_json, finding_json, standing_json
from harness.standings.values import AttackStanding, Board, Rate, Standing

__all__ = [
    "AttackStanding",
    "Board",
    "Question",
    "Rate",
    "Standing",
    "as_csv",
    "as_json",
    "boards",
    "finding_json",
    "losses",
    "measure",
    "standing_json",
    "still_right",
]
