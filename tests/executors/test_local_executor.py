"""Work in other processes: every result comes back, every failure is told, nobody stays behind."""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from harness.allocator import _is_glibc
from harness.errors import HarnessError
from harness.executors import local
from harness.executors.local import LocalExecutor, processors


@pytest.mark.parametrize("items", [[], [3], [3, 1, 2]])
def test_one_worker_is_this_process_and_keeps_the_order(items):
    with LocalExecutor(1) as executor:
        assert list(executor.map(lambda item: (item, os.getpid()), items)) == [
            (item, os.getpid()) for item in items
        ]


def test_one_item_needs_no_other_process():
    with LocalExecutor(4) as executor:
        assert list(executor.map(lambda _: os.getpid(), [0])) == [os.getpid()]


def test_one_worker_stops_at_the_first_failure():
    with LocalExecutor(1) as executor:
        results = executor.map(math.sqrt, [4, -1, 9])

        assert next(results) == 2
        with pytest.raises(ValueError, match="math domain"):
            next(results)


def test_workers_return_every_result_tell_a_failure_and_do_not_print_between_results(capfd):
    with LocalExecutor(2) as executor:
        assert sorted(executor.map(math.factorial, range(6))) == [1, 1, 2, 6, 24, 120]
        assert list(executor.map(print, ["loud", "louder"])) == [None, None]
        with pytest.raises(ValueError, match="math domain"):
            list(executor.map(math.sqrt, [4, -1, 9]))
        assert sorted(executor.map(math.sqrt, [4, 9])) == [2, 3]
        workers = multiprocessing.active_children()
        assert len(workers) == 2
    printed = capfd.readouterr()

    assert printed.out == ""
    assert "loud" in printed.err
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_a_sentence_for_the_person_and_leaves_nobody_behind():
    sentence = "worker process died.*fewer --workers"
    with pytest.raises(HarnessError, match=sentence), LocalExecutor(2) as executor:
        list(executor.map(os._exit, [9, 9]))

    assert multiprocessing.active_children() == []


def test_work_in_this_process_lets_it_keep_big_blocks(monkeypatch):
    asked = []
    monkeypatch.setattr(local, "keep_big_blocks", lambda: asked.append(1))
    with LocalExecutor(1) as executor:
        assert list(executor.map(abs, [-3])) == [3]
    assert asked == [1]


@pytest.mark.skipif(not _is_glibc(), reason="glibc alone has the settings")
def test_a_worker_that_used_100_megabytes_uses_them_again_without_page_faults(monkeypatch):
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    use = (  # both workers get one of the two, or one of them both
        "(lambda fill, faults: (fill(), faults(), fill(), faults()))"
        "(lambda: len(b'x' * (100 << 20)),"
        " lambda: __import__('resource').getrusage(0).ru_minflt)"
    )
    with LocalExecutor(2) as executor:
        for _, before, _, after in executor.map(eval, [use, use]):
            assert after - before < 50  # 50 where the kernel gives pages of 2 megabytes


@pytest.mark.slow
def test_an_exception_in_the_parent_stops_workers_that_would_go_on_for_minutes():
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), LocalExecutor(2) as executor:
        list(map(interrupt, executor.map(time.sleep, [0, 300, 300])))

    assert time.monotonic() - started < 60
    assert multiprocessing.active_children() == []


def test_there_is_at_least_one_processor_and_no_more_than_this_process_may_use():
    assert 1 <= processors() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_a_process_that_is_confined_to_one_processor_counts_one():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import sys, types; sys.modules['torch'] = types.ModuleType('torch');"
        "from harness.executors.local import processors; print(processors())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "1"
