"""Making a stream of memory references small enough to keep, exactly for LRU and the optimum.

The algorithm and what it preserves are in c/reduce.h. A reduced trace says so in its
metadata: `reduction` is "collapsed" or "collapsed, sad", `k` the number of frames from
which misses of LRU and of the optimum are exact (1 when only collapsed).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from edm_policy.errors import EdmError, UsageError
from edm_workload.trace import Trace
from edm_workload.units import PAGE_SIZE


class Reducer:
    """Takes references, as lackey's text or as pages; gives the reduced Trace."""

    def __init__(self, k: int = 0, instructions: bool = False) -> None:
        """k: frames from which the result is exact, 0 to collapse only.

        instructions: whether lackey's instruction fetches count as references.
        """
        # Here and not above: everything else in the package works without the extension.
        from edm_workload._core import ffi, lib

        if not 0 <= k < 2**31:
            raise UsageError(f"k: {k} frames cannot be; give 0 (collapse only) or more")
        self._ffi, self._lib, self.k = ffi, lib, k
        shift = PAGE_SIZE.bit_length() - 1
        raw = lib.edm_reduce_new(k, shift, int(instructions))
        if raw == ffi.NULL:
            raise MemoryError("reducer")
        self._reducer = ffi.gc(raw, lib.edm_reduce_free)
        self._rest = b""

    def feed_lackey(self, text: bytes) -> None:
        """A piece of lackey's output, cut anywhere. Raises EdmError for a damaged line."""
        whole, newline, rest = text.rpartition(b"\n")
        if not newline:
            self._rest += text
            return
        lines = self._rest + whole + newline
        self._rest = rest
        self._check(self._lib.edm_reduce_lackey(self._reducer, lines, len(lines)))

    def feed_references(self, raw: bytes) -> None:
        """A piece of what valgrind/tracer.c writes (struct edm_reference), cut anywhere."""
        raw = self._rest + raw
        n, rest = divmod(len(raw), self._ffi.sizeof("struct edm_reference"))
        self._rest = raw[len(raw) - rest :]
        references = self._ffi.from_buffer("struct edm_reference[]", raw, require_writable=False)
        self._check(self._lib.edm_reduce_references(self._reducer, n, references))

    @property
    def ended(self) -> bool:
        """Whether tracer.c's mark of the end has come."""
        return self._rest == b"\n"

    def seen(self) -> tuple[int, int]:
        """References that have come, and how many pages they were to."""
        pages = self._ffi.new("uint64_t *")
        return int(self._lib.edm_reduce_seen(self._reducer, pages)), int(pages[0])

    def feed(self, trace: Trace) -> None:
        """References of a trace, whose own `hits` are kept."""
        pointer, null = self._ffi.from_buffer, self._ffi.NULL
        page = trace.page.astype(np.uint64)
        write, t_ns, hits = trace.write, trace.t_ns, trace.hits
        self._check(
            self._lib.edm_reduce_pages(
                self._reducer,
                len(trace),
                pointer("uint64_t[]", page),
                null if write is None else pointer("uint8_t[]", write.view(np.uint8)),
                null if t_ns is None else pointer("uint64_t[]", t_ns),
                null if hits is None else pointer("uint32_t[]", hits),
            )
        )

    def result(self, metadata: dict[str, Any]) -> Trace:
        """What has come so far, reduced; all columns are there (t_ns 0 if it was not given)."""
        n = int(self._lib.edm_reduce_count(self._reducer))
        page, t_ns = np.empty(n, np.uint64), np.empty(n, np.uint64)
        write, hits = np.empty(n, np.uint8), np.empty(n, np.uint32)
        pointer = self._ffi.from_buffer
        self._lib.edm_reduce_take(
            self._reducer,
            pointer("uint64_t[]", page),
            pointer("uint8_t[]", write),
            pointer("uint64_t[]", t_ns),
            pointer("uint32_t[]", hits),
        )
        reduction = {"reduction": "collapsed, sad" if self.k else "collapsed", "k": max(1, self.k)}
        return Trace(page, write.view(bool), t_ns=t_ns, hits=hits, metadata=metadata | reduction)

    def _check(self, code: int) -> None:
        if code == 0:
            return
        if -code == 22:  # EINVAL
            raise EdmError("lackey: a line that cannot be read; is this lackey --trace-mem=yes?")
        raise EdmError(f"reducing the trace: {os.strerror(-code)}; give a larger k or less work")


def reduce_trace(trace: Trace, k: int = 0) -> Trace:
    """The trace with consecutive references to a page collapsed and, for k > 0, reduced by SAD.

    Misses of LRU and of the optimum are exact for sizes of max(k, k of the trace) and more.
    Raises UsageError for a trace of several threads (their order is not one stack's).
    """
    if trace.tid is not None:
        raise UsageError(f"{trace.name}: cannot reduce a trace of several threads")
    if trace.size is not None:
        raise UsageError(f"{trace.name}: split blocks into pages first (--blocks)")
    reducer = Reducer(k)
    reducer.feed(trace)
    reduced = reducer.result(trace.metadata)
    if trace.write is None:
        reduced.write = None
    if trace.t_ns is None:
        reduced.t_ns = None
    reduced.metadata["k"] = max(reduced.metadata["k"], int(trace.metadata.get("k", 1)))
    if "sad" in str(trace.metadata.get("reduction")):
        reduced.metadata["reduction"] = "collapsed, sad"
    return reduced
