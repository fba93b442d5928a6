"""Named things found by folder: dropping one file into a package is all it takes to add one."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar

from harness.errors import HarnessError, unknown_name

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Everything of one kind, by name; its packages are imported on the first look-up.

    Args:
        kind: the word that errors use, such as `defense`.
        package: the package whose modules register themselves when imported.
        group: entry-point group through which other distributions add modules of their own.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._entries: dict[str, Entry] = {}
        self._is_complete = False

    def add(self, name: str, entry: Entry) -> None:
        """Register `entry`.

        Raises:
            HarnessError: another entry already has that name.
        """
        if name in self._entries:
            raise HarnessError(f"two {self.kind}s are named '{name}': rename one of them.")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> Entry:
        self._discover()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def _discover(self) -> None:
        if self._is_complete:
            return
        self._is_complete = True  # at once: a module may look something up while it is imported
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
                importlib.import_module(module.name)
            for point in importlib.metadata.entry_points(group=self._group):
                point.load()
        except BaseException:
            self._is_complete = False
            raise
