"""Files appear whole or not at all: one way to write them for every part of the house."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from typing import IO

_CANNOT_LOCK = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems without locks answer, some of those of clusters among them."""


def replace_file(path: Path, content: bytes, *, wait: bool = True) -> None:
    """Write beside it, to the disk, then rename: nobody, not even after a crash, meets half a file.

    What a killed writer of this very file left beside it is written over.

    Args:
        path: of the file.
        content: all of it.
        wait: whether to wait for another writer of this very file.

    Raises:
        BlockingIOError: another process writes it, and `wait` is false.
        OSError: the folder cannot be written or the disk is full; the old file stays.
    """
    draft = draft_of(path)
    file = lock_file(draft, wait=wait)
    if file is None:  # two writers must not meet in one draft then
        draft = path.with_name(f".{secrets.token_hex(8)}.part")
        file = draft.open("xb")
    with file:
        try:
            file.truncate()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def draft_of(path: Path) -> Path:
    """Where a file is written before it gets its name: the same each time, to be found again."""
    mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".{mark}.part")


def publish(draft: Path, path: Path) -> None:
    """Give a file that another program wrote its name, once all of it is on the disk.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file stays.
    """
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def lock_file(path: Path, *, wait: bool) -> IO[bytes] | None:
    """Open a file, made if missing, that one process at a time can hold.

    The lock ends when the file is closed or its process dies, however it dies. Who holds it may
    rename or remove the file.

    Returns:
        The file for reading and writing; None where the file system has no locks.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        OSError: the folder cannot be written or the disk is full.
    """
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(path, file):
                return file
        except OSError as error:
            file.close()
            if error.errno not in _CANNOT_LOCK:
                raise
            path.unlink(missing_ok=True)
            return None
        file.close()  # whoever held it has renamed or removed it meanwhile


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """The new name is in the folder, which is written out apart from the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
