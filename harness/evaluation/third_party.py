"""Models trained elsewhere: imported from `FILE.py:CALLABLE`, fitted with weights, probed once."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.data import Dataset
from harness.errors import HarnessError, ModelError, first_line
from harness.evaluation.confined import RemoteModule
from harness.evaluation.handle import Handle, as_outputs
from harness.evaluation.recording import HIDDEN_HEADS, record
from harness.evaluation.relaxed import Relaxed
from harness.heads.linear import Linear
from harness.identity import Capabilities, CheckpointRecord, digest
from harness.models.architectures import ARCHITECTURES
from harness.models.layouts import to_network_layout
from harness.models.network import Network, parameter_count
from harness.models.weights import file_sha256, read_weights, write_weights
from harness.outputs import Outputs

_INSTALLED = {"site-packages", "dist-packages"}
_WRAPPERS = ("state_dict", "model_state_dict", "net", "model")


class Foreign(NamedTuple):
    """A model from elsewhere, with random weights.

    Args:
        module: as its callable returned it.
        sha256: over every file of the model's own folder that was imported; empty for an
            architecture of our own.
    """

    module: nn.Module
    sha256: str


def foreign_model(reference: str, dataset: Dataset, sha256: str = "") -> Foreign:
    """The model that a reference means.

    Args:
        reference: an architecture's name, for the public layouts of plain networks, or as
            `import_model` takes it.
        dataset: what it decides on.
        sha256: what its files' content must be, or empty.

    Raises:
        HarnessError: as `import_model`.
    """
    if reference not in ARCHITECTURES:
        return import_model(reference, sha256)
    trunk = ARCHITECTURES[reference].build(dataset.shape)
    return Foreign(Network(trunk, Linear().build(trunk.features, len(dataset.classes))), "")


def import_model(reference: str, sha256: str = "", folder: Path | None = None) -> Foreign:
    """Call `FILE.py:CALLABLE` or `package.module:CALLABLE`; this runs that code.

    A file and the neighbours that it imports are kept apart from every other model's: two
    folders may hold different files of the same name.

    Args:
        reference: what to call; it takes no arguments and returns an `nn.Module`.
        sha256: what its files' content must be, or empty.
        folder: where packages may lie that are not installed; the working directory by default.

    Raises:
        HarnessError: not found, changed since it was added, or not returning a module.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise HarnessError(
            f"'{reference}' is no model: write FILE.py:CALLABLE, package.module:CALLABLE or an "
            f"architecture ({', '.join(ARCHITECTURES)})."
        )
    if place.endswith(".py"):
        found = _from_file(_file(place), name, reference)
    else:
        found = _from_package(place, name, reference, folder or Path.cwd())
    if sha256 and found.sha256 != sha256:
        raise HarnessError(
            f"{place}, or a file beside it that it imports, was changed since the checkpoint was "
            "added. Restore it, or remove the checkpoint and add it again."
        )
    return found


def load_foreign_weights(module: nn.Module, weights: Mapping[str, Any], name: str) -> None:
    """Put a state dict into a foreign module, unwrapping what training scripts wrap.

    A network of our own also takes the public layouts.

    Raises:
        HarnessError: keys or shapes that do not fit, by name.
    """
    if isinstance(module, Network):
        module.load_state_dict(to_network_layout(weights, module.state_dict()))
        return
    state = unwrapped(weights)
    expected = module.state_dict()
    if any(key.startswith("module.") for key in state) and not any(
        key.startswith("module.") for key in expected
    ):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    missing = [key for key in expected if key not in state and "num_batches_tracked" not in key]
    unexpected = [key for key in state if key not in expected]
    shapes = [key for key in state if key in expected and state[key].shape != expected[key].shape]
    if missing or unexpected or shapes:
        raise HarnessError(
            f"the weights do not fit the model of '{name}': {_some('missing', missing)}"
            f"{_some('unexpected', unexpected)}{_some('of another shape', shapes)}"
            "Give the weights that belong to this CALLABLE."
        )
    module.load_state_dict(state, strict=False)


def probe(module: nn.Module, images: Tensor, classes: int) -> Capabilities:
    """Find out what a foreign model exposes and what it hides, from one recorded forward pass.

    What a model returns in `Outputs.auxiliary` is exposed; it is then attacked as it says, and
    its recording only adds signs. Of any other model, hidden heads and hard operations are opened
    (`relaxed.Relaxed`), so they count as exposed from here on.

    Args:
        module: as loaded.
        images: [N, C, H, W] in [0, 1], two or more that differ.
        classes: K of the dataset.

    Raises:
        HarnessError: it raises, or returns another number of classes or something else.
    """
    try:
        with torch.no_grad():
            found = as_outputs(module.eval()(images))
        _check_answer(found, classes)
        has_gate = bool(found.auxiliary) and _takes_select(module)
        with torch.no_grad():
            Handle(module, classes, has_gate=has_gate)(images)
        seen = record(module, images)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        raise HarnessError(
            f"the model cannot take images {tuple(images.shape)} in [0, 1]: {first_line(error)}"
        ) from error
    exposes = bool(found.auxiliary)
    return Capabilities(
        classes=classes,
        auxiliary=len(found.auxiliary) if exposes else seen.heads,
        select=has_gate if exposes else seen.select,
        features=found.features is not None,
        scale=found.logit_scale,
        hard=() if exposes else seen.hard,
        is_random=seen.is_random,
        signs=tuple(sign for sign in seen.signs if not (exposes and sign == HIDDEN_HEADS)),
    )


def opened(module: nn.Module, capabilities: Capabilities) -> nn.Module:
    """The module, or what opens the hidden heads and hard operations that `probe` found in it."""
    if not is_opened(capabilities):
        return module
    has_gradient = "inference_gradient" in capabilities.signs
    return Relaxed(module, capabilities.auxiliary, has_gradient=has_gradient)


def is_opened(capabilities: Capabilities) -> bool:
    """Whether `opened` puts something around a model."""
    return bool(capabilities.hard) or HIDDEN_HEADS in capabilities.signs


def _check_answer(found: Outputs, classes: int) -> None:
    given = found.logits.shape[-1] if found.logits.ndim == 2 else classes
    if given != classes:
        raise HarnessError(
            f"the model returns {given} classes but the dataset has {classes}: choose the "
            "dataset that it was trained for."
        )
    if type(found.logit_scale) not in {int, float} or not 1e-4 <= found.logit_scale < 1e6:
        raise HarnessError(
            f"the model's logit_scale is {found.logit_scale!s:.40}: it must be a plain number "
            "from 0.0001 to 1000000, what the training loss multiplied the logits by."
        )


def _takes_select(module: nn.Module) -> bool:
    return "select" in inspect.signature(module.forward).parameters


def _from_file(path: Path, name: str, reference: str) -> Foreign:
    files = {path}
    with _apart(path.parent, files):
        module = _loaded(path)
        foreign = _call(_callable(module, name, str(path)), reference)
    contents = [[str(file.relative_to(path.parent)), file_sha256(file)] for file in sorted(files)]
    return Foreign(foreign, digest(contents))


def _from_package(place: str, name: str, reference: str, folder: Path) -> Foreign:
    sys.path.insert(0, str(folder))  # a package of the person's own lies where they stand
    try:
        module = importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise HarnessError(f"cannot import {place}: {type(error).__name__}: {error}.") from error
    finally:
        sys.path.remove(str(folder))
    foreign = _call(_callable(module, name, place), reference)
    return Foreign(foreign, _package_sha256(place))


def _package_sha256(place: str) -> str:
    """SHA-256 over the Python files of a module's top package; an installed one has a version."""
    top = place.partition(".")[0]
    file = getattr(sys.modules[top], "__file__", None)
    if file is None or _INSTALLED.intersection(Path(file).parts):
        versions = [
            importlib.metadata.version(name)
            for name in importlib.metadata.packages_distributions().get(top, [])
        ]
        return digest([place, versions])
    path = Path(file).resolve()
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return digest([[str(one.relative_to(path.parent)), file_sha256(one)] for one in files])


@contextmanager
def _apart(folder: Path, files: set[Path]) -> Iterator[None]:
    """Import from `folder` inside; afterwards its modules are forgotten and are in `files`."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = Path(getattr(sys.modules[name], "__file__", None) or "/").resolve()
            if file.is_relative_to(folder) and not _INSTALLED.intersection(file.parts):
                files.add(file)
                del sys.modules[name]


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"harness_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise HarnessError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and others look their own module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that parses arguments exits
        raise HarnessError(f"{path} fails on import: {type(error).__name__}: {error}.") from error
    return module


def _callable(module: ModuleType, name: str, place: str) -> Callable[[], Any]:
    function: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(function):
        raise HarnessError(f"{place} has no callable '{name}'.")
    return function


def _call(function: Callable[[], Any], reference: str) -> nn.Module:
    try:
        module = function()
    except (Exception, SystemExit) as error:
        raise HarnessError(f"{reference} raised {type(error).__name__}: {error}.") from error
    if not isinstance(module, nn.Module):
        raise HarnessError(
            f"{reference} returned a {type(module).__name__}: it must return an nn.Module."
        )
    return module


def _file(place: str) -> Path:
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise HarnessError(f"there is no file {path}.")
    return path


def unwrapped(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict without what training scripts wrap around it.

    Raises:
        HarnessError: it holds more than tensors.
    """
    for key in _WRAPPERS:
        inner = weights.get(key)
        if isinstance(inner, Mapping):
            weights = inner
            break
    foreign = [str(key) for key, value in weights.items() if not isinstance(value, Tensor)]
    if foreign:
        raise HarnessError(f"the weights hold more than tensors: {_some('these', foreign)}")
    return {str(key): value for key, value in weights.items()}


def _some(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    shown = ", ".join(key[:80] for key in keys[:3])
    return f"{len(keys)} {what} ({shown}{', ...' if len(keys) > 3 else ''}). "


def added_record(
    name: str, reference: str, weights: Path, dataset: Dataset, folder: Path
) -> CheckpointRecord:
    """Import, fit and probe a model, and keep its weights as safetensors.

    Args:
        name: of the new checkpoint.
        reference: `FILE.py:CALLABLE`, `package.module:CALLABLE` or an architecture.
        weights: safetensors or a plain PyTorch state dict.
        dataset: what it decides on.
        folder: where weights are kept.

    Raises:
        HarnessError: anything that does not fit.
    """
    reference, state = _absolute(reference), unwrapped(read_weights(weights))
    images = torch.rand(4, *dataset.shape, generator=torch.Generator().manual_seed(0))
    module: nn.Module
    try:
        if reference in ARCHITECTURES:  # our own code, which also takes the public layouts
            module, source = foreign_model(reference, dataset)
            parameters = parameter_count(module)
            load_foreign_weights(module, state, name)
            capabilities, state = probe(module, images, len(dataset.classes)), module.state_dict()
        else:
            module, source, parameters = RemoteModule.built(reference, "", Path.cwd(), "cpu")
            module.fit(state, name)
            capabilities = module.probe(images, len(dataset.classes))
    except (ModelError, torch.OutOfMemoryError) as error:
        raise HarnessError(f"'{name}' cannot be added: {first_line(error)}") from error
    stored, sha256 = write_weights(state, folder)
    return CheckpointRecord(
        name=name,
        digest=digest(["added", sha256, source, reference.rpartition(":")[2], dataset.name]),
        architecture="" if source else reference,
        kind="added",
        dataset=dataset.name,
        threat=dataset.threat,
        weights=stored,
        weights_sha256=sha256,
        capabilities=capabilities,
        model=reference,
        model_sha256=source,
        parameters=parameters,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _absolute(reference: str) -> str:
    place, _, name = reference.rpartition(":")
    return f"{_file(place)}:{name}" if place.endswith(".py") else reference
