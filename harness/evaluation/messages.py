"""What is said about a pass between two processes: plain words, and tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from harness.errors import ModelError
from harness.outputs import Outputs, Select, SoftSelect, Stripped

Words = dict[str, Any]
Tensors = dict[str, Tensor]

_MOST_HEADS = 10_000


def spoken_select(select: Select) -> tuple[Words, Tensors]:
    """How a pass is steered."""
    if isinstance(select, Tensor):
        return {"select": "labels"}, {"select": select}
    if isinstance(select, SoftSelect):
        return {"select": "soft", "temperature": select.temperature}, {}
    return {"select": "stripped" if isinstance(select, Stripped) else ""}, {}


def heard_select(words: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Select:
    """What `spoken_select` said."""
    if words["select"] == "labels":
        return tensors["select"]
    if words["select"] == "soft":
        return SoftSelect(words["temperature"])
    return Stripped() if words["select"] == "stripped" else None


def spoken_outputs(outputs: Outputs) -> tuple[Words, Tensors]:
    """What a model answered.

    Raises:
        ModelError: a part of it is no tensor.
    """
    tensors: dict[str, Any] = {"logits": outputs.logits}
    tensors |= {f"auxiliary {place}": one for place, one in enumerate(outputs.auxiliary)}
    tensors |= {f"vectors {place}": one for place, one in enumerate(outputs.vectors)}
    single = {"features": outputs.features, "gated": outputs.gated}
    tensors |= {name: one for name, one in single.items() if one is not None}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                "wrong_type", f"the model returned a {type(value).__name__} as {name.split()[0]}."
            )
    words = {
        "auxiliary": len(outputs.auxiliary),
        "vectors": len(outputs.vectors),
        "scale": float(outputs.logit_scale),
    }
    return words, tensors


def heard_outputs(words: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Outputs:
    """What `spoken_outputs` said, believed in nothing.

    Raises:
        ModelError: it is not complete.
    """
    try:
        heads = min(int(words["auxiliary"]), _MOST_HEADS)
        vectors = min(int(words["vectors"]), _MOST_HEADS)
        return Outputs(
            tensors["logits"],
            tuple(tensors[f"auxiliary {place}"] for place in range(heads)),
            tensors.get("features"),
            float(words["scale"]),
            tuple(tensors[f"vectors {place}"] for place in range(vectors)),
            tensors.get("gated"),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError("bad_answer", "the model's process said what is no answer.") from error
