"""A board with everything that its pictures are drawn of."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from synthetic_boards import board, finding, rate, record, standing

from harness.standings.significance import Significance
from leaderboard import addresses
from leaderboard.material import Material

SWEEP = finding(
    "D08",
    details={
        "epsilon_255ths": (0.0, 8.0, 255.0),
        "security_curve": (100.0, 50.0, 0.0),
        "as_run": (100.0, 50.0, 0.0),
        "clean": (90.0,),
    },
)


def transferred(**sources):
    """D05 with what six attacks from each source broke."""
    details = {name.replace("_", "(", 1) + ")": values for name, values in sources.items()}
    return finding("D05", details={**details, "standard_white_box": (0.0,)}, value=0.5)


def row(name, clean, robust, **changes):
    """A ranked row with so many of 200 images right, and not broken."""
    about = record(name, defense=name.split("-")[0], digest=sha256(name.encode()).hexdigest())
    changes = {"rank": (1, 1), "findings": (), **changes}
    return standing(
        name, checkpoint=about, clean=rate(clean, 200), robust=rate(robust, 200), **changes
    )


def compared(one, adjusted):
    """Significances of a board whose rows come in order, all pairs with that p."""
    names = tuple(each.checkpoint.name for each in one.standings)
    robust = np.array([each.robust.fraction for each in one.standings])
    p = np.full((len(names), len(names)), adjusted)
    examples = np.full((len(names), len(names)), 200)
    return {
        addresses.board_slug(one): Significance(names, examples, robust[:, None] - robust, p, p)
    }


def pictured(name="d{}", rows=12):
    """A board on which no picture is missing, with names made from that pattern."""
    first = row(f"{name.format(0)}-digits-cnn-s0", 190, 150, findings=(SWEEP,))
    digits = first.checkpoint.digest[:12]
    moved = transferred(**{f"surrogate_{digits}": (3.0, 21.5), "surrogate_eeeeeeeeeeee": (1.0,)})
    others = [
        row(
            f"{name.format(n)}-digits-cnn-s{n % 3}",
            199 - 5 * n,
            150 - 9 * n,
            findings=(SWEEP, moved),
            is_adaptive=n % 2 == 0,
        )
        for n in range(1, rows)
    ]
    one = board(first, *others)
    return Material(boards=[one], significances=compared(one, 0.01))
