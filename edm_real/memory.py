"""The memory of a region: numpy arrays over it, which pages they are, and its end.

The memory lives until it is closed, or until the last array and view of it are gone. A lost page
is told once, by the first call that can raise.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edm_policy.errors import EdmError, UsageError
from edm_real._core import ffi, lib
from edm_real.errors import PageLostError, WritebackError
from edm_workload.units import PAGE_SIZE


class Memory:
    """What a Region stands on: the memory of an edm_region that Region has opened."""

    _raw: Any = None
    pages: int
    page_size: int
    nbytes: int
    store_url: str

    def _own(self, raw: Any) -> None:
        """Of an edm_region * that was opened just now."""
        self._raw = raw
        self._calls, self._none_left = 0, threading.Condition()
        # Arrays keep the memory alive, and this closes it when the last of them is gone.
        self._memory = ffi.gc(lib.edm_region_memory(raw), _Closer(raw))
        self._spans: weakref.WeakSet[_Span] = weakref.WeakSet()
        self._used = 0
        self._lost_told = 0

    def _open(self) -> Any:
        if self._raw is None:
            raise ValueError("the region is closed")
        return self._raw

    def _call(self, function: Any, *args: Any) -> int:
        """function(region, *args), which close() in another thread waits for."""
        with self._none_left:
            raw = self._open()
            self._calls += 1
        try:
            return int(function(raw, *args))
        finally:
            with self._none_left:
                self._calls -= 1
                self._none_left.notify_all()

    def array(
        self, dtype: DTypeLike, shape: int | tuple[int, ...], align: int | None = None
    ) -> NDArray[Any]:
        """A new array in this region, behind those made before; its content is zeros.

        align: bytes (a power of two); a cache line, or a page for arrays of a page and more.
        Raises UsageError when the region has no room left for it. Space is not given back.
        """
        self._open()
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise UsageError("an array of Python objects cannot live in paged memory")
        dims = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        count = 1
        for n in dims:
            count *= int(n)
        size = count * kind.itemsize
        step = align or (PAGE_SIZE if size >= PAGE_SIZE else 64)
        start = -(-self._used // step) * step
        if start + size > self.nbytes:
            raise UsageError(
                f"region: {size} bytes asked for, {max(0, self.nbytes - start)} of "
                f"{self.nbytes} left; make the region larger"
            )
        self._used = start + size
        return self._array_at(start, size).view(kind).reshape(dims)

    def _array_at(self, start: int, size: int) -> NDArray[np.uint8]:
        span = _Span(self._memory, start, size)
        self._spans.add(span)
        return np.asarray(span)

    def memoryview(self) -> memoryview:
        """All of the region's bytes. It must be released before the region is closed."""
        self._open()
        array: Any = self._array_at(0, self.nbytes)
        return memoryview(array)

    def _span(self, what: Any) -> tuple[int, int]:
        """(first page, pages) of an array in this region, a slice of pages, or None: all."""
        if what is None:
            return 0, self.pages
        if isinstance(what, slice):
            first, stop, step = what.indices(self.pages)
            if step != 1:
                raise UsageError("a slice of pages must be contiguous")
            return first, max(0, stop - first)
        low, high = np.lib.array_utils.byte_bounds(np.asarray(what))
        base = int(ffi.cast("uintptr_t", self._memory))
        if not (base <= low and high <= base + self.nbytes):
            raise UsageError("this array is not in the region")
        first = (low - base) // self.page_size
        return first, -(-(high - base) // self.page_size) - first

    # ---- errors and the end ----

    @property
    def lost_pages(self) -> int:
        """Pages poisoned so far."""
        return int(self._runtime().lost_pages)

    def _runtime(self) -> Any:
        policy, runtime = ffi.new("edm_stats *"), ffi.new("edm_runtime_stats *")
        lib.edm_region_stats(self._open(), policy, runtime, ffi.new("edm_store_stats *"))
        return runtime

    def _raise_errors(self) -> None:
        """PageLostError if pages were lost since it was last raised."""
        runtime = self._runtime()
        if runtime.lost_pages > self._lost_told:
            self._lost_told = int(runtime.lost_pages)
            raise PageLostError(int(runtime.lost_page), self.store_url, -int(runtime.lost_error))

    def _writeback_error(self, code: int) -> WritebackError:
        cause = -int(self._runtime().writeback_error) or code
        return WritebackError(
            f"store {self.store_url}: {os.strerror(cause)}; the changed pages are still in "
            "local memory, make room in the store and flush again"
        )

    def _closing(self) -> None:
        """Called once, before the memory goes."""

    def close(self) -> None:
        """Ends it: its memory, threads and store. The content is given up.

        Waits for a flush(), evict(), discard() or prefault() of another thread. Raises
        BufferError while an array or view of it lives (it stays open then), and PageLostError
        (after closing) for a lost page nobody was told of.
        """
        if self._raw is None:
            return
        if live := len(self._spans):
            raise BufferError(f"the region has {live} live arrays or views; delete them first")
        lost: PageLostError | None = None
        try:
            self._raise_errors()
        except PageLostError as error:
            lost = error
        self._closing()
        with self._none_left:
            self._none_left.wait_for(lambda: not self._calls)
            raw, self._raw = self._raw, None
        if raw is None:  # another thread closed it meanwhile
            return
        ffi.gc(self._memory, None)
        code = lib.edm_region_close(raw)
        if lost:
            raise lost
        if code:
            raise EdmError(f"decision log: {os.strerror(-code)}; is the disc full?")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        try:  # the error under way matters more; its frames may hold arrays, too
            self.close()
        except (BufferError, EdmError) as second:
            assert error is not None
            error.add_note(f"the region was not closed: {second}")


class _Span:
    """What numpy is given to make an array of: it lives as long as the array and its views do."""

    def __init__(self, memory: Any, start: int, size: int):
        self._memory = memory
        address = int(ffi.cast("uintptr_t", memory)) + start
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


class _Closer:
    """Closes a region when its memory is no longer referred to; in a forked child does nothing."""

    def __init__(self, raw: Any):
        self.raw, self.pid = raw, os.getpid()

    def __call__(self, _memory: Any) -> None:
        if os.getpid() == self.pid:
            lib.edm_region_close(self.raw)
