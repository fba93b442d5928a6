"""Weights are data: read without running anything, written whole, named by SHA-256."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from harness.errors import HarnessError, first_line
from harness.files import replace_file
from harness.models.inspection import inspect_safetensors, inspect_torch

LARGEST_FILE = 8 * 2**30
"""Bytes; far above any model this project trains, far below what would fill a machine."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a crash.

    Raises:
        HarnessError: the folder cannot be written or the disk is full; the old file stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise HarnessError(
            f"cannot write {path}: {error.strerror or error}. Free some space or choose another "
            "folder (for checkpoints: HARNESS_CHECKPOINTS)."
        ) from error


def write_weights(state: Mapping[str, Tensor], folder: Path) -> tuple[str, str]:
    """Store a state dict as safetensors under its own SHA-256.

    Returns:
        name: of the file, relative to `folder`.
        sha256: of its content.
    """
    content = save_safetensors(
        {key: value.detach().cpu().contiguous() for key, value in state.items()}
    )
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"{sha256}.safetensors"
    path = folder / name
    if not path.exists() or file_sha256(path) != sha256:  # training again mends a damaged file
        write_whole(path, content)
    return name, sha256


def read_weights(path: Path, sha256: str = "") -> dict[str, Any]:
    """Read safetensors or a tensor-only PyTorch file; nothing in it is ever executed.

    Its header is compared with its size first, so that no file takes more memory than it fills.
    Numbers are not judged: a network of NaN is read, and fails when it answers with NaN.

    Args:
        path: the file.
        sha256: what its content must be, or empty.

    Raises:
        HarnessError: missing, too large, changed, or holding more than tensors and plain values.
    """
    content = _content(path)
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise HarnessError(
            f"the weights {path.name} have SHA-256 {found[:12]}, recorded is {sha256[:12]}: the "
            "file was changed or damaged. Restore it, or train or add the checkpoint again."
        )
    # safetensors start with the length of their JSON, whose first bytes may be those of a pickle
    if content[8:9] != b"{" and (content[:2] == b"PK" or content[:1] == b"\x80"):
        return _read_torch(path, content)
    try:
        inspect_safetensors(content)
        return dict(load_safetensors(content))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise HarnessError(
            f"{path} is neither safetensors nor a PyTorch state dict ({_said(error)}). Save the "
            "weights with safetensors, or with torch.save(model.state_dict(), FILE)."
        ) from error


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise HarnessError(f"there is no file {path}: the weights are a state dict in a file.")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise HarnessError(f"{path} is {size / 2**30:.0f} GiB, above the limit of 8 GiB.")
        return path.read_bytes()
    except OSError as error:
        raise HarnessError(f"cannot read the weights {path}: {error.strerror or error}.") from error


def _read_torch(path: Path, content: bytes) -> dict[str, Any]:
    try:
        inspect_torch(content)
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes fail in every way: IndexError, struct.error, ...
        raise HarnessError(
            f"{path} holds more than tensors, or is damaged, and was not run ({_said(error)}). "
            "Save the weights alone: torch.save(model.state_dict(), FILE), or as safetensors."
        ) from error
    if not isinstance(found, Mapping):
        raise HarnessError(f"{path} holds a {type(found).__name__}, not a state dict of tensors.")
    return dict(found)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:150]}"
