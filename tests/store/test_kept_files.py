"""Files of kept images: whole, named by their SHA-256, and believed in nothing."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.identity import Job, Kept, Outcome
from harness.store.kept import (
    forget,
    job_facts,
    kept_folder,
    read_images,
    read_note,
    write_images,
    write_note,
)

SHAPE = (1, 2, 2)
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, *SHAPE)


@pytest.fixture
def job(outcome_of: Callable[..., Outcome]) -> Job:
    return outcome_of().job


@pytest.fixture
def kept(tmp_path: Path, job: Job) -> Kept:
    """Three images of the job in a file, and a note about them."""
    found = Kept("uint8", write_images(tmp_path, PIXELS), (0, 3, 6), (9,))
    write_note(tmp_path, job, found)
    return found


def _note(folder: Path) -> Path:
    (file,) = folder.glob("notes/*/*.json")
    return file


def _forged(folder: Path, content: bytes, kept: Kept) -> Kept:
    """Any bytes under the name that their SHA-256 gives them."""
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / f"{sha256}.npy").write_bytes(content)
    return replace(kept, sha256=sha256)


def _npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_images_and_their_note_come_back(tmp_path, job, kept):
    assert read_note(tmp_path, job, "uint8") == kept
    assert read_note(tmp_path, job, "float32") is None
    assert np.array_equal(read_images(tmp_path, kept, SHAPE), PIXELS)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == ["", ".npy"]


def test_they_lie_beside_the_checkpoints(tmp_path):
    assert kept_folder(tmp_path / "checkpoints") == tmp_path / "adversarial"


@pytest.mark.parametrize(
    "name", ["checkpoint", "dataset", "images", "population", "seed", "first", "last"]
)
def test_every_field_of_a_job_tells_its_note_from_others(tmp_path, job, kept, name):
    value = getattr(job, name)
    other = replace(job, **{name: value + 1 if isinstance(value, int) else "a" * 64})

    assert job_facts(other) != job_facts(job)
    assert read_note(tmp_path, other, "uint8") is None


def test_a_flipped_bit_in_the_file_is_found(tmp_path, kept):
    file = tmp_path / f"{kept.sha256}.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    with pytest.raises(HarnessError, match="changed or damaged"):
        read_images(tmp_path, kept, SHAPE)


def test_a_missing_file_is_said_to_be_missing(tmp_path, kept):
    (tmp_path / f"{kept.sha256}.npy").unlink()

    with pytest.raises(HarnessError, match="not here"):
        read_images(tmp_path, kept, SHAPE)


@pytest.mark.parametrize(
    "content",
    [
        _npy(PIXELS[:2]),
        _npy(PIXELS.astype(np.float32)),
        _npy(np.asfortranarray(PIXELS)),
        _npy(PIXELS.reshape(3, 2, 2, 1)),
        _npy(PIXELS)[:-1],
        _npy(PIXELS) + b"x",
        _npy(np.array([print], dtype=object), allow_pickle=True),
        b"no array",
        b"",
    ],
    ids=["fewer", "dtype", "order", "shape", "short", "long", "pickle", "text", "empty"],
)
def test_a_file_of_anything_else_is_refused_whatever_its_sha256(tmp_path, kept, content):
    with pytest.raises(HarnessError):
        read_images(tmp_path, _forged(tmp_path, content, kept), SHAPE)


def test_a_file_that_is_far_too_long_is_not_read(tmp_path, kept, monkeypatch):
    forged = _forged(tmp_path, bytes(10**5), kept)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))

    with pytest.raises(HarnessError, match="changed or damaged"):
        read_images(tmp_path, forged, SHAPE)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../../etc/passwd"},
        {"sha256": ""},
        {"sha256": 7},
        {"images": [0, 3, 99]},
        {"images": [3, 0, 6]},
        {"images": [0, 0, 6]},
        {"images": [0, True, 6]},
        {"images": "036"},
        {"lost": [3]},
        {"dtype": "float32"},
        {"job": {}},
    ],
)
def test_a_note_that_contradicts_itself_or_its_job_is_refused(tmp_path, job, kept, change):
    note = _note(tmp_path)
    note.write_text(json.dumps({**json.loads(note.read_text()), **change}))

    with pytest.raises(HarnessError, match="is damaged"):
        read_note(tmp_path, job, "uint8")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 10**5, b"null"])
def test_a_note_that_is_none_is_refused(tmp_path, job, kept, content):
    _note(tmp_path).write_bytes(content)

    with pytest.raises(HarnessError, match="is damaged"):
        read_note(tmp_path, job, "uint8")


def test_forgetting_a_function_leaves_files_that_another_one_names(tmp_path, job, kept):
    other = replace(job, checkpoint="a" * 64)
    write_note(tmp_path, other, kept)
    forget(tmp_path, job.checkpoint)

    assert read_note(tmp_path, job, "uint8") is None
    assert np.array_equal(read_images(tmp_path, kept, SHAPE), PIXELS)

    forget(tmp_path, other.checkpoint)
    assert [*tmp_path.glob("*.npy")] == []


def test_no_name_of_a_function_leads_out_of_the_folder(tmp_path):
    with pytest.raises(HarnessError, match="is no digest"):
        forget(tmp_path, "../..")
