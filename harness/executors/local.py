"""Run jobs on this machine, in this process or in several, and yield results as they finish."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self, TypeVar

import torch

from harness.allocator import keep_big_blocks
from harness.errors import HarnessError

Item = TypeVar("Item")
Result = TypeVar("Result")


class LocalExecutor:
    """Worker processes that start with the first map that needs them; a context manager.

    Args:
        workers: processes; each computes on one thread, since small networks gain little from a
            second one. Measured on the CPU: bits do not depend on the number of threads.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()  # children of the program that are not ours

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """`function(item)` for every item, in the order in which they finish.

        Args:
            function: importable by name, so that another process can call it.
            items: what to do; picklable.

        Raises:
            HarnessError: a worker process died (killed, or out of memory).
        """
        if self._workers <= 1 or len(items) <= 1:
            keep_big_blocks()
            yield from map(function, items)
            return
        if self._pool is None:
            self._others = set(multiprocessing.active_children())
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=context, initializer=_prepare_worker
            )
        try:
            futures = [self._pool.submit(function, item) for item in items]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise HarnessError(
                "a worker process died, probably for want of memory. What it had finished is "
                "stored: run the same command again, with fewer --workers."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    sys.stdout = sys.stderr  # a model that prints must not print between the parent's results
    torch.set_num_threads(1)
    keep_big_blocks()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """A killed parent stops nobody, and its workers would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
