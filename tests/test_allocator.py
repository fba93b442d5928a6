"""Big blocks are kept where the C library can, and nothing happens where it cannot."""

import os
import subprocess
import sys

import pytest

from harness import allocator

needs_glibc = pytest.mark.skipif(not allocator._is_glibc(), reason="glibc alone has the settings")

FAULTS = """
import ctypes, resource, sys
from harness.allocator import keep_big_blocks
if sys.argv[1] == "keep":
    print(keep_big_blocks(), keep_big_blocks())
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def use():
    block = library.malloc(100 << 20)
    library.memset(block, 1, 100 << 20)
    library.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def plain():
    return {name: value for name, value in os.environ.items() if name not in allocator._VARIABLES}


def faults(mode, **variables):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode],
        env={**plain(), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    *told, found = done.stdout.split()
    return told, int(found)


@needs_glibc
def test_a_block_of_100_megabytes_that_was_used_before_costs_no_page_fault_again():
    assert faults("keep") == (["True", "True"], pytest.approx(0, abs=9))
    _, usual = faults("leave")
    assert usual >= 5 * 50  # 50 where the kernel gives pages of 2 megabytes


@needs_glibc
def test_what_the_environment_says_of_the_allocator_is_left_alone():
    told, found = faults("keep", MALLOC_MMAP_THRESHOLD_="1048576")
    assert told == ["False", "False"]
    assert found >= 5 * 50


@pytest.mark.parametrize("names", [{}, {"CS_PATH": 0}])
def test_another_c_library_is_not_asked(names, monkeypatch):
    monkeypatch.setattr(os, "confstr_names", names)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not allocator.keep_big_blocks()


def test_a_system_without_confstr_is_not_asked(monkeypatch):
    monkeypatch.delattr(os, "confstr_names", raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not allocator.keep_big_blocks()
