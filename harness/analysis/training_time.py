"""Time per epoch, as measured while the checkpoint was trained."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import Exhibit, NotRun


@analysis(
    "training_time",
    title="Seconds per epoch",
    shown=("median", "total"),
    source="FRPAT, table 3",
    follows_attack=False,
)
def training_time(exhibit: Exhibit) -> Iterator[Reading]:
    """Seconds per epoch of training; what else ran on the machine is not known.

    Values: `median` and `total` seconds, `epochs`. The training probe is not counted.
    """
    record = exhibit.record
    seconds = record.curves.get("seconds", ())
    if not seconds:
        raise NotRun(f"'{record.name}' was not trained here: nobody timed its epochs.")
    values = {
        "median": (median(seconds),),
        "total": (sum(seconds),),
        "epochs": (float(len(seconds)),),
    }
    yield Reading("training", values, f"On {record.training.get('device', 'an unknown device')}.")
