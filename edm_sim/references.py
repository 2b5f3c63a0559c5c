"""References as the C core takes them, the time between them, and who runs which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from edm_policy._core import ffi, lib
from numpy.typing import NDArray

from edm_sim.cores import Thread
from edm_workload import Trace

GAPS, SMOOTH = 10, 64
"""References between two faults are told apart by powers of two, up to 512; over so many faults
their number is smoothed."""


@dataclass(frozen=True)
class Think:
    """What the program does between two faults.

    ns: for a reference. timed: for what the trace's own times say instead, where it has them.
    measured: a reference that faults is not among them, as Costs.between_ns has it. by_faults,
    by_pages: instead of `ns`, for who hits what was pushed out of the caches by then; [faults since
    the last reference to its page, ns], and [other pages since then, ns]; the dearer of the two.
    following: by_faults of those that do not come first after a fault (None: all are as those).
    """

    ns: int
    timed: bool = True
    measured: bool = False
    by_faults: list[list[float]] | None = None
    by_pages: list[list[float]] | None = None
    following: list[list[float]] | None = None


class References:
    """A stretch of references: `c` for edm_consume, pages and writes by index, think times.

    think_ns(i, j): time the program computes for records i .. j-1; see Think. own: 1 if a record
    that faults counts among them.
    """

    def __init__(self, trace: Trace, think: Think):
        page, write = trace.arrays()
        self._keep = page, write
        self.n = len(page)
        self.c = ffi.new("edm_refs *")
        self.c.page = ffi.from_buffer("uint32_t[]", page)
        self.c.n = self.n
        if write is not None:
            self.c.write = ffi.from_buffer("uint8_t[]", write)
        self.pages = page.data
        self.writes = None if write is None else write.data
        self._think = think.ns
        timed = think.timed and (trace.t_ns is not None or trace.hits is not None)
        self.own = int(timed or not think.measured)
        self._clock = None
        if timed:
            self._clock = _clock(trace, think.ns)
        self._clocks: list[memoryview] = []  # by how seldom references fault, as a power of two
        self._gap, self._level = 2.0, 1
        if not timed and think.by_faults and think.by_pages:
            since = _since(page)
            self._clocks = [_clock_by_reuse(since, think, 2.0**k) for k in range(GAPS)]
            self._clock = self._clocks[self._level]

    def faulted(self, gap: int) -> None:
        """A reference faults, the last one to do so was `gap` references before it."""
        self._gap += (gap - self._gap) / SMOOTH
        level = min(int(self._gap * 2**0.5).bit_length(), GAPS) - 1  # the nearest power
        if level != self._level and self._clocks:
            self._level, self._clock = level, self._clocks[level]

    def think_ns(self, i: int, j: int) -> int:
        clock = self._clock
        return (j - i) * self._think if clock is None else clock[j] - clock[i]

    def records_in(self, ns: int) -> int:
        """How many records take about `ns`."""
        mean = self.think_ns(0, self.n) / max(1, self.n)
        return max(1, min(self.n, int(ns / mean))) if mean else max(1, self.n)


def _clock(trace: Trace, think: int) -> memoryview:
    """clock[i]: ns the program has computed before record i (length n + 1)."""
    n = len(trace)
    clock: NDArray[np.int64] = np.zeros(n + 1, np.int64)
    if trace.t_ns is not None and n:
        clock[1:n] = np.diff(trace.t_ns.astype(np.int64))
        clock[n] = think  # what follows the last reference is not in the trace
    elif trace.hits is not None:
        clock[1:] = (1 + trace.hits.astype(np.int64)) * think
    return np.cumsum(clock).data


def _since(page: NDArray[np.uint32]) -> NDArray[np.int64]:
    """References since the last one to the same page."""
    n = len(page)
    since = np.full(n, n)
    order = np.argsort(page, kind="stable")
    again = page[order[1:]] == page[order[:-1]]
    since[order[1:][again]] = np.diff(order)[again]
    return since


def _clock_by_reuse(since: NDArray[np.int64], think: Think, gap: float) -> memoryview:
    """Where every gap-th reference faults."""

    def table(rows: list[list[float]] | None, of: NDArray[Any]) -> NDArray[np.float64]:
        known, ns = np.array(rows).T
        return np.interp(np.log(of), np.log(known), ns)

    by_faults = table(think.by_faults, since / gap)
    if think.following:  # the share that comes first, where faults come at random
        by_faults = (by_faults + (gap - 1) * table(think.following, since / gap)) / gap
    took = np.maximum(by_faults, table(think.by_pages, since))
    return np.rint(np.cumsum(np.concatenate([[0.0], took]))).astype(np.int64).data


class Share:
    """What one thread runs: references, and the stretches of them (first, end) it takes."""

    def __init__(self, refs: References, stretches: Iterator[tuple[int, int]]):
        self.refs = refs
        self.stretches = stretches
        self.at = (0, 0)  # what is left of the stretch under way
        self.running = True  # on a core or ready: false while it sleeps, and at the end
        self.core = Thread()
        self.last = -2  # the page it faulted on last
        self.near = 0  # draws.NEAR if its fault is on the page after that
        self.way = 0  # to the handler, of its last fault: draws.HERE to BY_NEAR
        self.interrupted_ns = 0  # that core, for TLB flushes: what has not cost the thread yet
        self.interrupted_at = 0  # the last time

    def put_back(self, first: int, end: int) -> None:
        """A stretch that was not run: whoever resumes this share takes it first."""
        self.stretches = chain([(first, end)], self.stretches)


def shares(trace: Trace, threads: int, think: Think) -> list[Share]:
    """By tid where the trace has it; else each thread takes the next chunk when it is free."""
    if threads > 1 and trace.tid is not None:
        found = []
        for k in range(threads):
            mine = trace.tid % threads == k
            columns = {name: getattr(trace, name)[mine] for name in trace.columns}
            part = References(Trace(**columns), think)
            found.append(Share(part, iter([(0, part.n)])))
        return found
    refs = References(trace, think)
    step = refs.n if threads == 1 else lib.EDM_CHUNK
    common = iter([(i, min(refs.n, i + step)) for i in range(0, refs.n, max(1, step))])
    return [Share(refs, common) for _ in range(threads)]
