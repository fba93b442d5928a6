"""Memory that a pass has used stays with the process for the next one.

By default glibc asks the kernel for every block of some megabytes anew and gives it back when it
is free again. Passes free and ask for the same blocks all the time, and each block then costs as
many page faults as it has pages. Only time changes, no bit of any result.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3), as malloc.h numbers them
_SETTINGS = {
    _TRIM_THRESHOLD: 2**31 - 1,  # the largest: what is free is kept
    _MMAP_THRESHOLD: 2**30,  # bytes; no map of a batch is as large
}
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_big_blocks() -> bool:
    """Let this process keep what it frees; twice is no error.

    A person who set the allocator up through the environment has the last word.

    Returns:
        Whether the C library took it: only glibc knows these settings.
    """
    if not _is_glibc() or any(name in os.environ for name in _VARIABLES):
        return False
    library = ctypes.CDLL(None)
    taken = [library.mallopt(name, value) for name, value in _SETTINGS.items()]
    return taken == [1] * len(taken)


def _is_glibc() -> bool:
    name = "CS_GNU_LIBC_VERSION"
    if name not in getattr(os, "confstr_names", {}):
        return False
    return (os.confstr(name) or "").startswith("glibc")
