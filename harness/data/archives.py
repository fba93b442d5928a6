"""Named files from a tar archive, straight into memory: no name in it can lead outside."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from harness.errors import HarnessError

_LONGEST_NAME = 64 * 1024
_NAMES = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


def read_tar(archive: Path, names: Sequence[str], limit: int) -> dict[str, bytes]:
    """The content of the files called `names`, in that order.

    Args:
        archive: a tar file, compressed or not.
        names: full names inside it.
        limit: bytes that no file may exceed.

    Raises:
        HarnessError: the archive is damaged, or a file is missing or above the limit.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, tarinfo=_Entry) as tar:
            for member in tar:
                if member.name in names and member.isfile():
                    found[member.name] = _content(tar, member, limit, archive)
                if len(found) == len(names):
                    break
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise HarnessError(
            f"{archive} is no whole tar archive ({error}). Fetch it again."
        ) from error
    missing = [name for name in names if name not in found]
    if missing:
        raise HarnessError(f"{archive} lacks {', '.join(missing)}: it is another archive.")
    return {name: found[name] for name in names}


class _Entry(tarfile.TarInfo):
    """A header; tarfile reads the name that follows one whole, however long it says it is."""

    @classmethod
    def frombuf(cls, *values: Any) -> Self:
        """See `tarfile.TarInfo`."""
        entry = super().frombuf(*values)
        if entry.type in _NAMES and entry.size > _LONGEST_NAME:
            raise tarfile.ReadError(f"a name of {entry.size} bytes")
        return entry


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int, archive: Path) -> bytes:
    if member.size > limit:
        raise HarnessError(
            f"{member.name} in {archive} has {member.size} bytes: the limit is {limit}."
        )
    file = tar.extractfile(member)
    return b"" if file is None else file.read()
