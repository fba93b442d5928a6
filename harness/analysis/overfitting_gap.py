"""FRPAT's GAP: what robust accuracy was lost between the best epoch and the last?"""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import PGD_20, Attacked, Exhibit, NotRun, check_still, look
from harness.identity import CheckpointRecord
from harness.outputs import Model


@analysis(
    "overfitting_gap",
    title="PGD-20 accuracy, best epoch minus last",
    shown=("gap", "best", "last", "best_epoch"),
    source="FRPAT, supplement tables 4 and 5; `frpat.md` section 7",
    follows_attack=False,
)
def overfitting_gap(exhibit: Exhibit) -> Iterator[Reading]:
    """PGD-20 accuracy on test images of the best epoch's weights minus that of the last epoch's.

    Robust is what the clean image and every iterate leave right. No test image chose the epoch;
    the note says what did.

    Values: `gap`, and `best`, `last`, accuracies in [0, 1]; `clean_best`, `clean_last`;
    `best_epoch`, `last_epoch`, 1-based; `is_held_out`, 1 where no image of the probe was learnt.
    """
    record = exhibit.record
    check_still(record)
    if exhibit.best is None:
        raise NotRun(f"of '{record.name}' the weights of the best epoch were not kept.")
    best_model = exhibit.best()
    best, last = _robust(exhibit.pgd(best_model)), _robust(exhibit.under_pgd_20)
    values = {
        "gap": (best - last,),
        "best": (best,),
        "last": (last,),
        "clean_best": (_clean(exhibit, best_model),),
        "clean_last": (_clean(exhibit, exhibit.model),),
        "best_epoch": (float(record.training.get("best_epoch", 0)),),
        "last_epoch": (float(len(record.curves.get("probe_pgd", ()))),),
        "is_held_out": (float(bool(record.training.get("probe_held_out", False))),),
    }
    yield Reading(PGD_20.label, values, _note(record))


def _robust(found: Attacked) -> float:
    return 1.0 - float(found.broken.double().mean())


def _clean(exhibit: Exhibit, model: Model) -> float:
    decided = look(model, exhibit.images).logits.argmax(1)
    return float(decided.eq(exhibit.labels).double().mean())


def _note(record: CheckpointRecord) -> str:
    count = record.training.get("probed", 0)
    if record.training.get("probe_held_out", False):
        which = f"{count} training images that were held out"
    else:
        which = f"{count} training images that were learnt too"
    return f"The best epoch was chosen by PGD-10 accuracy on {which}."
