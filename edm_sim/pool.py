"""Worker processes that end with their parent: by Ctrl-C, an error, or when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from types import TracebackType

from edm_policy.errors import UsageError

UNGUARDED = (
    "the worker processes could not start: a script that uses them has its own code under "
    'if __name__ == "__main__": (or asks for jobs=1)'
)


def cores() -> int:
    """Those this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerPool:
    """A ProcessPoolExecutor as a context. Left by an exception, its workers are ended at once,
    whatever they are at; otherwise they have nothing left to do. Raises UsageError where none
    can start.
    """

    def __init__(self, workers: int):
        # Spawned, not forked: this process has threads (Arrow's, a notebook's).
        context = multiprocessing.get_context("spawn")
        self.executor = ProcessPoolExecutor(workers, context, initializer=_begin)
        with _interrupts_ignored():
            # Each starts one more, as none is idle yet.
            started = [self.executor.submit(_nothing) for _ in range(workers)]
        # Before there is work: a long message to a worker that died at its start would be waited
        # for without end (CPython 3.11, issue 94777).
        try:
            for one in started:
                one.result()
        except BrokenProcessPool as error:
            self.executor.shutdown(wait=True, cancel_futures=True)
            raise UsageError(UNGUARDED) from error

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            # All: one that was ended may have held the lock of the queue that others wait at.
            for worker in list((self.executor._processes or {}).values()):
                worker.kill()
        self.executor.shutdown(wait=True, cancel_futures=True)


def _nothing() -> None:
    pass


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's to handle, and without a parent it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can say so; a worker that is importing then says it itself
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
