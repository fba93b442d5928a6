"""The files beneath a folder, or inside a zip archive as if it were unpacked."""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from harness.errors import HarnessError

LIMIT = 32 * 1024**2
"""Bytes of the largest file read: a thousand times the largest image of any dataset here."""


# What zipfile and its decompressors raise at files that are damaged, encrypted or too new.
_DAMAGED = (
    *(OSError, EOFError, ValueError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


class Tree(Protocol):
    """Files by name; names are relative, with `/` between folders."""

    where: Path

    def folders(self, parent: str) -> list[str]:
        """Names of the folders right beneath `parent`, sorted; none if there is no `parent`."""
        ...

    def files(self, parent: str) -> list[str]:
        """Full names of all files anywhere beneath `parent`, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file that `files` names.

        Raises:
            HarnessError: it is not there, cannot be read, or is above the limit.
        """
        ...


def open_tree(path: Path) -> Tree:
    """The tree of a folder or a zip archive.

    Raises:
        HarnessError: it is neither.
    """
    if path.is_dir():
        return FolderTree(path)
    if not path.exists():
        raise HarnessError(f"there is no {path}: give a folder or a zip archive that exists.")
    try:
        return ZipTree(path)
    except _DAMAGED as error:
        raise HarnessError(
            f"{path} is neither a folder nor a whole zip archive ({error})."
        ) from error


class FolderTree:
    """Files beneath a folder."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def folders(self, parent: str) -> list[str]:
        folder = self.where / parent
        try:
            entries = list(folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise HarnessError(f"{folder} cannot be read: {error}.") from error
        return sorted(entry.name for entry in entries if entry.is_dir() and _is_data(entry.name))

    def files(self, parent: str) -> list[str]:
        return sorted(self._walk(parent)) if (self.where / parent).is_dir() else []

    def read(self, name: str) -> bytes:
        path = self.where / name
        try:
            if path.stat().st_size > LIMIT:
                raise _too_large(self.where, name)
            return path.read_bytes()
        except OSError as error:
            raise HarnessError(f"{path} cannot be read: {error}.") from error

    def _walk(self, parent: str) -> Iterator[str]:
        for folder, folders, names in os.walk(self.where / parent, onerror=_refuse):
            folders[:] = [name for name in folders if _is_data(name)]
            relative = Path(folder).relative_to(self.where).as_posix()
            yield from (f"{relative}/{name}" for name in names if _is_data(name))


class ZipTree:
    """Files inside a zip archive; nothing is unpacked to disk, so no name can lead outside."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self._archive = zipfile.ZipFile(where)
        self._names = sorted(
            name
            for name in self._archive.namelist()
            if all(map(_is_data, name.strip("/").split("/")))
        )

    def folders(self, parent: str) -> list[str]:
        depth = len(parent) + 1
        beneath = (name[depth:] for name in self._beneath(parent))
        return sorted({name.split("/")[0] for name in beneath if "/" in name})

    def files(self, parent: str) -> list[str]:
        return [name for name in self._beneath(parent) if not name.endswith("/")]

    def read(self, name: str) -> bytes:
        try:
            if self._archive.getinfo(name).file_size > LIMIT:
                raise _too_large(self.where, name)
            return self._archive.read(name)
        except (KeyError, *_DAMAGED) as error:
            raise HarnessError(f"{name} in {self.where} cannot be read: {error}.") from error

    def _beneath(self, parent: str) -> list[str]:
        # By bisection: Tiny-ImageNet asks 200 times for a part of 110,000 names.
        first = bisect_left(self._names, parent + "/")
        return self._names[first : bisect_left(self._names, parent + chr(ord("/") + 1))]


def _refuse(error: OSError) -> None:
    """`os.walk` would silently leave out a folder that it may not list."""
    raise HarnessError(f"{error.filename} cannot be read: {error}.") from error


def _is_data(name: str) -> bool:
    """Not what file managers and editors leave behind."""
    return not name.startswith((".", "__MACOSX"))


def _too_large(where: Path, name: str) -> HarnessError:
    return HarnessError(
        f"{name} in {where} is above {LIMIT // 1024**2} MiB: no image of a benchmark is that large."
    )
