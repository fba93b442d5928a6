"""Public checkpoints in our names: `trunk.*`, `head.*`, `normalisation.mean`, `normalisation.std`.

Names change, values never: a tensor that fits no name, or a name without tensor, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from harness.errors import HarnessError

WRAPPERS = ("state_dict", "model_state_dict", "net", "model")
"""Keys under which training scripts store the tensors, next to epoch, optimiser and so on."""

_PREFIX = re.compile(r"^(?:(?:module|model|_orig_mod|[01])\.)+")  # parallel, compiled, Sequential
_UNUSED = re.compile(r"^sub_block1\.")  # registered by the TRADES code, used by nothing
_CLASSIFIER = re.compile(r"^(?:linear|fc|classifier)\.(?=weight$|bias$)")
_NORMALISATION = re.compile(r"^(?:norm\.|normali[sz](?:e|er|ation)\.)?(mean|std|mu|sigma)$")
_OURS = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}

_OUR_CHILDREN = ("trunk.", "head.", "normalisation.")
_DEEPEST = 4
_SHOWN = 3


def to_network_layout(state: object, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a public state dict, possibly wrapped, to the keys of our network.

    Counters (`num_batches_tracked`) that the file lacks keep the value in `expected`: nothing
    computes with them. So do mean and standard deviation of the inputs if the file has neither,
    as most public code keeps them outside of the model. What the file does have always wins.

    Args:
        state: what the file held: names to tensors, at most four wrappers deep.
        expected: the network's own state dict; gives the keys and shapes to reach.

    Returns:
        Exactly the keys of `expected`, with the file's tensors.

    Raises:
        HarnessError: no tensors by name, two tensors for one place, another number of classes,
            or names or shapes that differ; the sentence shows the first few of each.
    """
    given = _rename(_tensors(_unwrap(state)), expected)
    found = {**_kept(given, expected), **given}
    _check_classes(found, expected)
    _check_fit(found, expected)
    return {name: found[name] for name in expected}


def _unwrap(state: object) -> object:
    for _ in range(_DEEPEST):
        inner = _wrapped(state)
        if inner is None:
            break
        state = inner
    return state


def _wrapped(state: object) -> Mapping[object, object] | None:
    if isinstance(state, Mapping):
        for wrapper in WRAPPERS:
            inner = state.get(wrapper)
            if isinstance(inner, Mapping):
                return inner
    return None


def _tensors(state: object) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not state:
        kind = "an empty one" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise HarnessError(
            f"the checkpoint must hold a state dict, names to tensors, but holds {kind}. "
            "Save it again with torch.save(model.state_dict(), path)."
        )
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    others = [
        f"{_quote(name)} ({type(state[name]).__name__})" for name in state if name not in tensors
    ]
    if others:
        raise HarnessError(
            f"a state dict holds only tensors by name, but {_listed(others)} "
            f"{'is' if len(others) == 1 else 'are'} not. Its tensors may also lie under one of the "
            f"keys {', '.join(WRAPPERS)}. Save it again with torch.save(model.state_dict(), path)."
        )
    return tensors


def _rename(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for public, tensor in state.items():
        name = _our_name(public, expected)
        if name is None:
            continue
        if name in found:
            raise HarnessError(
                f"the checkpoint has two tensors for {_quote(name)}: {_quote(origin[name])} and "
                f"{_quote(public)}. Save one network per file."
            )
        found[name], origin[name] = _shaped(name, tensor, expected), public
    return found


def _our_name(public: str, expected: Mapping[str, Tensor]) -> str | None:
    """Our name for a public one; None for what nothing uses."""
    bare = _PREFIX.sub("", public)
    if bare in expected or bare.startswith(_OUR_CHILDREN):
        return bare
    if _UNUSED.match(bare):
        return None
    if _CLASSIFIER.match(bare):
        return _CLASSIFIER.sub("head.", bare)
    if match := _NORMALISATION.match(bare):
        return f"normalisation.{_OURS[match[1]]}"
    return f"trunk.{bare}"


def _shaped(name: str, tensor: Tensor, expected: Mapping[str, Tensor]) -> Tensor:
    """Channel statistics come as [C], [C, 1, 1] and [1, C, 1, 1]: the same numbers in order."""
    if name.startswith("normalisation.") and name in expected:
        wanted = expected[name]
        return tensor.reshape(wanted.shape) if tensor.numel() == wanted.numel() else tensor
    return tensor


def _kept(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the network may keep of its own because the file need not have it."""
    kept = {name: t for name, t in expected.items() if name.endswith(".num_batches_tracked")}
    if not any(name.startswith("normalisation.") for name in given):
        kept |= {name: t for name, t in expected.items() if name.startswith("normalisation.")}
    return kept


def _check_classes(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    given, wanted = found.get("head.weight"), expected.get("head.weight")
    if given is None or wanted is None or given.ndim != 2:
        return
    if len(given) != len(wanted):
        raise HarnessError(
            f"the checkpoint tells {len(given)} classes apart but the network {len(wanted)}: "
            "choose the dataset that the checkpoint was trained on."
        )


def _check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    complaints = {
        "missing": [_quote(name) for name in expected if name not in found],
        "unexpected": [_quote(name) for name in found if name not in expected],
        "of another shape": [
            f"{_quote(name)} is {list(tensor.shape)}, expected {list(expected[name].shape)}"
            for name, tensor in found.items()
            if name in expected and tensor.shape != expected[name].shape
        ],
    }
    sentences = [f"{kind}: {_listed(names)}" for kind, names in complaints.items() if names]
    if not sentences:
        return
    if any(name.startswith("normalisation.") for name in found if name not in expected):
        sentences.append("it normalises its inputs: give the network a normalisation too")
    raise HarnessError(
        f"the checkpoint does not fit the network of {len(expected)} tensors; "
        f"{'; '.join(sentences)}. Choose the architecture and the settings, such as width, "
        "that it was trained with."
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {more} more ({len(names)} in all)" if more > 0 else shown


def _quote(name: object) -> str:
    """A name from a file that may hold anything: short, and without control characters."""
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:77]}..."
