"""What commands print of the registries, kept so that PyTorch is not imported to print it again.

One file per listing in the person's cache folder: a seal, a line break, JSON. The seal is the
SHA-256 of the JSON and of everything that it follows from: Python's version, every file of the
packages whose modules register something, and the plugins with their versions. Whatever is not
exactly that is computed anew and written over; a folder that cannot be used only costs time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from harness.files import replace_file

_PACKAGES = ("harness", "defenses")
_PLUGINS = "robust_harness."
"""How the entry-point groups begin through which others add modules."""

_LARGEST = 16 * 1024**2


def remembered(name: str, compute: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    """What `compute` returns, after a trip through JSON, from the cache if it is there.

    Args:
        name: what tells it from everything else that is kept, such as `list attacks`.
        compute: imports what it needs; what it raises is raised.
        fits: whether a value has the shape that the caller can print.
    """
    sources = _sources()
    path = _path(name)
    if sources is None or path is None:
        return json.loads(json.dumps(compute()))
    kept = _read(path, sources)
    if kept is not None and fits(kept):
        return kept
    body = json.dumps(compute()).encode()
    if _sources() == sources:  # nobody edited a file while its neighbours were imported
        _write(path, _seal(sources, body) + b"\n" + body)
    return json.loads(body)


def is_grid(columns: object, cells: object) -> bool:
    """Whether these are the heads and the lines of a table, all of them texts."""
    if not are_texts(columns) or not isinstance(cells, list):
        return False
    return all(are_texts(line) and len(line) == len(columns) for line in cells)


def are_texts(found: object) -> TypeGuard[list[str]]:
    """Whether that is a list of nothing but texts."""
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _path(name: str) -> Path | None:
    """A file of its own for every name; None where the person has no home."""
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    mark = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]
    if not caches.is_absolute():  # as the specification of these folders asks
        return None
    return caches / "robust-harness" / "listings" / f"{mark}.json"


def _read(path: Path, sources: bytes) -> Any:
    """The JSON behind an unbroken seal; None if there is none."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        seal, _, body = path.read_bytes().partition(b"\n")
        return json.loads(body) if seal == _seal(sources, body) else None
    except (OSError, ValueError, RecursionError):
        return None


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content, wait=False)
    except OSError:
        return  # the next command computes it again


def _seal(sources: bytes, body: bytes) -> bytes:
    return hashlib.sha256(sources + body).hexdigest().encode()


def _sources() -> bytes | None:
    """SHA-256 of all that listings follow from; None where a file cannot be read."""
    digest = hashlib.sha256()
    try:
        for piece in _pieces():
            digest.update(len(piece).to_bytes(8, "big") + piece)
    except (OSError, ImportError, ValueError):
        return None
    return digest.digest()


def _pieces() -> Iterator[bytes]:
    yield sys.version.encode()
    plugins = _plugins()
    yield repr(plugins).encode()
    modules = (value.partition(":")[0].partition(".")[0] for _, _, value, _ in plugins)
    for package in dict.fromkeys((*_PACKAGES, *modules)):
        for root in _roots(package):
            for file in _files(root):
                yield os.fsencode(file.relative_to(root.parent))
                yield file.read_bytes()


def _plugins() -> list[tuple[str, str, str, str]]:
    """Group, name, `module:attribute` and version of every entry point of ours."""
    found = importlib.metadata.entry_points()
    return sorted(
        (group, point.name, point.value, point.dist.version if point.dist else "")
        for group in found.groups
        if group.startswith(_PLUGINS)
        for point in found.select(group=group)
    )


def _roots(package: str) -> list[Path]:
    """Where a package or a module lies; it is not imported for that."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return sorted(Path(place) for place in places)


def _files(root: Path) -> list[Path]:
    """Every file in it, or it alone, without what Python makes of them."""
    if root.is_file():
        return [root]
    return sorted(
        Path(folder, name)
        for folder, _, names in os.walk(root)
        if Path(folder).name != "__pycache__"
        for name in names
    )
