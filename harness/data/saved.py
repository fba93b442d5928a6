"""The harness's own files: one safetensors file per split, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from harness.data.datasets import Dataset, Layout, Pixels
from harness.data.splits import Split
from harness.errors import HarnessError
from harness.files import replace_file


def cache_folder() -> Path:
    """Where fetched datasets are kept: `$HARNESS_DATA`, or else the person's cache folder."""
    chosen = os.environ.get("HARNESS_DATA")
    if chosen:
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "robust-harness"


def file_of(folder: Path, name: str, split: str) -> Path:
    """The file in `folder` that holds a split."""
    return folder / f"{name}-{split}.safetensors"


def save(folder: Path, split: Split) -> Path:
    """Write one split; a reader, or a second writer, never meets half a file.

    The images are stored as [N, H, W, C] bytes without compression: test sets load in tens of
    milliseconds, and PNG would save a quarter of the space.
    """
    path = file_of(folder, split.dataset, split.split)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, _content(split))
    except OSError as error:
        raise HarnessError(
            f"{path} cannot be written: {error}. Choose another folder with HARNESS_DATA."
        ) from error
    return path


def _content(split: Split) -> bytes:
    from safetensors.numpy import save  # noqa: PLC0415 - only fetching needs it

    tensors = {
        "images": np.ascontiguousarray(split.images.numpy().transpose(0, 2, 3, 1)),
        "labels": split.labels.numpy(),
    }
    metadata = {"dataset": split.dataset, "split": split.split, "sha256": split.sha256}
    content: bytes = save(tensors, metadata)
    return content


def _read(folder: Path, dataset: Dataset, split: str) -> Pixels | None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - not every dataset needs it

    path = file_of(folder, dataset.name, split)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
    except (SafetensorError, OSError) as error:
        raise HarnessError(
            f"{path} cannot be read ({error}). "
            f"Delete it and run `harness data fetch {dataset.name}`."
        ) from error
    if images.ndim != 4:
        raise HarnessError(
            f"{path} holds images of shape {images.shape}: they must be [N, H, W, C]."
        )
    return Pixels(images, labels, metadata.get("sha256", ""))


SAVED = Layout(
    "what `harness data fetch` wrote (NAME-train.safetensors, NAME-test.safetensors)", _read
)
