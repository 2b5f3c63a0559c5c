"""A thread's references as the C core takes them, and the time between them."""

from __future__ import annotations

import numpy as np
from edm_policy._core import ffi
from numpy.typing import NDArray

from edm_workload import Trace


class References:
    """References of one thread: `c` for edm_consume, pages and writes by index, think times.

    think_ns(i, j): time the program computes for records i .. j-1. From the trace's times
    where it has them, else `think` ns for every reference, collapsed ones included.
    """

    def __init__(self, trace: Trace, think: int):
        page, write = trace.arrays()
        self._keep = page, write
        self.n = len(page)
        self.c = ffi.new("edm_refs *")
        self.c.page = ffi.from_buffer("uint32_t[]", page)
        self.c.n = self.n
        if write is not None:
            self.c.write = ffi.from_buffer("uint8_t[]", write)
        self.pages = memoryview(page.data)
        self.writes = None if write is None else memoryview(write.data)
        self._think = think
        self._clock = _clock(trace, think)
        if self._clock is not None:
            self.think_ns = self._from_clock  # type: ignore[method-assign]

    def think_ns(self, i: int, j: int) -> int:
        return (j - i) * self._think

    def _from_clock(self, i: int, j: int) -> int:
        clock = self._clock
        assert clock is not None
        return clock[j] - clock[i]

    def records_in(self, ns: int) -> int:
        """How many records take about `ns`."""
        mean = self.think_ns(0, self.n) / max(1, self.n)
        return max(1, min(self.n, int(ns / mean))) if mean else max(1, self.n)


def _clock(trace: Trace, think: int) -> memoryview | None:
    """clock[i]: ns the program has computed before record i (length n + 1); None: evenly."""
    n = len(trace)
    clock: NDArray[np.int64] = np.zeros(n + 1, np.int64)
    if trace.t_ns is not None and n:
        clock[1:n] = np.diff(trace.t_ns.astype(np.int64))
        clock[n] = think  # what follows the last reference is not in the trace
    elif trace.hits is not None:
        clock[1:] = (1 + trace.hits.astype(np.int64)) * think
    else:
        return None
    return np.cumsum(clock).data


def split(trace: Trace, threads: int) -> list[Trace]:
    """The references of each thread: by tid where the trace has it, else every k-th record."""
    if threads == 1:
        return [trace]
    who = trace.tid if trace.tid is not None else np.arange(len(trace))
    return [trace._select(who % threads == k) for k in range(threads)]
