"""What the papers claim: every published figure, as printed. Nobody here measured them.

Kept as package data in `claims.csv`; `python -m harness.claims.regenerate SOURCE.csv` checks a
source file and writes it anew. `checks` says what must hold, `recomputed` what follows from other
figures, `expected` where the papers contradict themselves.
"""

from harness.claims.table import claims

__all__ = ["claims"]
