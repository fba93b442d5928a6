"""Adversarial images that were kept: files named by their SHA-256, and which job each is of.

They lie beside the checkpoints and are no part of the database: what they show follows from a job
that is stored, and a copy without them is as complete. Nothing in them is believed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.files import replace_file
from harness.identity import Job, Kept, digest
from harness.threat import format_fraction

FORMATS = ("uint8", "float32")

Pixels = NDArray[np.uint8] | NDArray[np.float32]

_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("u1"), "float32": np.dtype("<f4")}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_NOTE = 2**20
_LONGEST_HEADER = 4096


class NotWrittenError(HarnessError):
    """The machine could not write what is to be kept, for which no model may be blamed."""


def kept_folder(checkpoints: Path) -> Path:
    """Where kept images lie: `adversarial/` beside the folder of the weights."""
    return checkpoints.absolute().parent / "adversarial"


def job_facts(job: Job) -> dict[str, Any]:
    """The whole key of a job as plain values."""
    return {
        "checkpoint": job.checkpoint,
        "dataset": job.dataset,
        "images": job.images,
        "norm": job.threat.norm,
        "epsilon": format_fraction(job.threat.epsilon),
        "attack": job.attack.hash,
        "population": job.population,
        "seed": job.seed,
        "precision": job.precision,
        "first": job.first,
        "last": job.last,
    }


def write_images(folder: Path, pixels: Pixels) -> str:
    """Write images as a `.npy` file, whole or not at all; its SHA-256.

    Raises:
        NotWrittenError: the folder cannot be written or the disk is full.
    """
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    content = buffer.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    _write(folder / f"{sha256}.npy", content)
    return sha256


def read_images(folder: Path, kept: Kept, shape: tuple[int, ...]) -> Pixels:
    """The kept images, if the file is the one that was written.

    Args:
        folder: `kept_folder`.
        kept: what `read_note` found.
        shape: of one image; the file must hold as many of it as `kept` says, which is checked
            before memory is taken.

    Raises:
        HarnessError: missing, changed, or of another size, type or shape.
    """
    path, dtype = folder / f"{kept.sha256}.npy", _DTYPES[kept.dtype]
    expected = (len(kept.images), *shape)
    most = int(np.prod(expected)) * dtype.itemsize + _LONGEST_HEADER
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= most else b""
    except OSError as error:
        raise HarnessError(
            f"the kept images {path.name} are not here ({error.strerror}): they stayed on another "
            "machine, or were deleted. Repeat `harness eval` with --keep-adversarial."
        ) from error
    if hashlib.sha256(content).hexdigest() != kept.sha256:
        raise HarnessError(
            f"the kept images {path.name} were changed or damaged: their SHA-256 is another. "
            "Delete the file and repeat `harness eval` with --keep-adversarial."
        )
    return _parsed(content, path.name, expected, dtype)


def _parsed(content: bytes, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Pixels:
    buffer = io.BytesIO(content)
    try:
        np.lib.format.read_magic(buffer)
        found = np.lib.format.read_array_header_1_0(buffer)
    except ValueError as error:
        raise HarnessError(f"the kept images {name} are no .npy file: {error}.") from error
    if found != (shape, False, dtype):
        raise HarnessError(
            f"the kept images {name} are {found[0]} {found[2]}, expected {shape} {dtype}: keep "
            "them again with `harness eval --keep-adversarial`."
        )
    body = content[buffer.tell() :]
    if len(body) != int(np.prod(shape)) * dtype.itemsize:
        raise HarnessError(f"the kept images {name} do not end where their header says.")
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def write_note(folder: Path, job: Job, kept: Kept) -> None:
    """Note which file has the images of a job.

    Raises:
        NotWrittenError: the folder cannot be written or the disk is full.
    """
    said = {
        "job": job_facts(job),
        "dtype": kept.dtype,
        "sha256": kept.sha256,
        "images": list(kept.images),
        "lost": list(kept.lost),
    }
    _write(_note(folder, job, kept.dtype), f"{json.dumps(said, indent=1)}\n".encode())


def read_note(folder: Path, job: Job, dtype: str) -> Kept | None:
    """What is kept of a job in that format, None if nobody has asked for it.

    Raises:
        HarnessError: the note is damaged, or that of another job.
    """
    path = _note(folder, job, dtype)
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_NOTE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HarnessError(f"the note {path} cannot be read: {error.strerror}.") from error
    try:
        return _checked(json.loads(text), job, dtype)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HarnessError(
            f"the note {path} is damaged ({error!s:.200}): delete it and repeat `harness eval` "
            "with --keep-adversarial."
        ) from error


def _checked(said: Any, job: Job, dtype: str) -> Kept:
    if said["job"] != job_facts(job) or said["dtype"] != dtype:
        raise ValueError("it is about another job")
    images, lost = (_indices(said[name], job) for name in ("images", "lost"))
    if set(images) & set(lost):
        raise ValueError("an image is both kept and lost")
    sha256 = said["sha256"]
    is_name = isinstance(sha256, str) and _SHA256.fullmatch(sha256) is not None
    if not (is_name if images else sha256 == ""):
        raise ValueError(f"sha256 is {sha256!r:.80}")
    return Kept(dtype, sha256, images, lost)


def _indices(found: Any, job: Job) -> tuple[int, ...]:
    if not isinstance(found, list) or not all(type(index) is int for index in found):
        raise TypeError("its images are no list of indices")
    if found != sorted(set(found)) or not all(job.first <= index < job.last for index in found):
        raise ValueError("its images are not in order, or not of its slice")
    return tuple(found)


def forget(folder: Path, checkpoint: str) -> None:
    """Delete what is kept of a function, but for files that another one's notes name too.

    Args:
        folder: `kept_folder`.
        checkpoint: digest of the function.

    Raises:
        OSError: a file cannot be deleted.
    """
    mine = _notes(folder, checkpoint)
    files = {_file_of(note) for note in mine.glob("*.json")}
    others = {
        _file_of(note)
        for note in (folder / "notes").glob("*/*.json")
        if note.parent.name != checkpoint
    }
    for name in files - others - {""}:
        (folder / f"{name}.npy").unlink(missing_ok=True)
    for note in mine.glob("*.json"):
        note.unlink(missing_ok=True)
    if mine.is_dir():
        mine.rmdir()


def _file_of(note: Path) -> str:
    """The SHA-256 that a note names, empty where it is damaged."""
    try:
        found = json.loads(note.read_bytes())["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return found if isinstance(found, str) and _SHA256.fullmatch(found) else ""


def _note(folder: Path, job: Job, dtype: str) -> Path:
    return _notes(folder, job.checkpoint) / f"{digest(job_facts(job))}-{dtype}.json"


def _notes(folder: Path, checkpoint: str) -> Path:
    if _SHA256.fullmatch(checkpoint) is None:
        raise HarnessError(f"'{checkpoint[:80]}' is no digest of a checkpoint.")
    return folder / "notes" / checkpoint


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise NotWrittenError(
            f"cannot write {path}: {error.strerror or error}. Free some space or choose another "
            "folder with HARNESS_CHECKPOINTS, beside which kept images lie."
        ) from error
