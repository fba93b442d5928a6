"""What auxiliary heads decide, clean and attacked, and whether that moves a gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.analysis.analysis import Reading, analysis
from harness.analysis.exhibit import Exhibit, NotRun


@analysis(
    "gate_flips",
    title="Decisions of auxiliary heads, and of the gates that follow them",
    shown=("agreement", "accuracy", "flips", "gate_flips"),
    source="ANCRA, section 3.3",
)
def gate_flips(exhibit: Exhibit) -> Iterator[Reading]:
    """How often an attack changes what each auxiliary head decides, and with it a gate's class.

    Reverse attention multiplies the channels of a block by the weights of one class, which the
    argmax of the block's own auxiliary logits selects. An image whose gate flips is classified
    through another mask than it would be without the attack.

    Values, one number per head, shallow to deep, shares in [0, 1]: `agreement` of its argmax with
    the deployed decision; `accuracy`, its own; `selects_gate`, 1 where a gate follows it, absent
    where that is not known; under the attack `flips`, whose argmax is another than on the clean
    image. One number: `deployed_accuracy`; under the attack `deployed_flips`, and `gate_flips`,
    where the class of any gate changes.
    """
    clean = exhibit.outputs(exhibit.clean)
    heads = len(clean.auxiliary)
    if not heads:
        raise NotRun(f"'{exhibit.record.name}' has neither auxiliary outputs nor a gate it shows.")
    selecting, note = _selecting(exhibit, heads)
    before = _decisions(clean.every_logits())
    shared = {} if selecting is None else {"selects_gate": tuple(map(float, selecting))}
    yield Reading(exhibit.clean.on, _shares(before, exhibit.labels) | shared, note)
    seen = exhibit.attacked
    after = _decisions(exhibit.outputs(seen).every_logits())
    flips = before != after
    values = _shares(after, exhibit.labels) | shared
    values |= {"flips": _means(flips[1:]), "deployed_flips": _means(flips[:1])}
    if selecting is not None and any(selecting):
        values["gate_flips"] = _means(flips[1:][torch.tensor(selecting)].any(0, keepdim=True))
    yield Reading(seen.on, values, " ".join(filter(None, (seen.note, note))))


def _selecting(exhibit: Exhibit, heads: int) -> tuple[list[bool] | None, str]:
    """Which heads a gate follows, if that is known, and a sentence about it.

    Every gate of a hook follows the head of its own block (`ReverseAttentionHook`).
    """
    if exhibit.network is None:
        return None, "Which of these heads selects a gate is not known of a model from elsewhere."
    hook = exhibit.network.hook
    if hook is not None and hook.has_gate:
        return [True] * heads, "Each head selects the gate of its own block."
    return [False] * heads, "No gate follows these heads."


def _decisions(every: Sequence[Tensor]) -> Tensor:
    """[1 + H, N] int64: the deployed decision, then that of each head."""
    return torch.stack([logits.argmax(1) for logits in every])


def _shares(decided: Tensor, labels: Tensor) -> dict[str, tuple[float, ...]]:
    right = decided == labels
    return {
        "agreement": _means(decided[1:] == decided[:1]),
        "accuracy": _means(right[1:]),
        "deployed_accuracy": _means(right[:1]),
    }


def _means(facts: Tensor) -> tuple[float, ...]:
    return tuple(facts.double().mean(1).tolist())
