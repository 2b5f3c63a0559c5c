"""Stops the runtime's threads at named points, so that an order of events can be forced.

    stage = Stage(region)
    held = stage.hold(STORE, 3)      # whoever comes to STORE with page 3 next will stop there
    ...
    held.reached()                   # waits until somebody did
    held.go()

For child processes. Threads that fault on paged memory must not hold the interpreter's lock (the
hook is Python): touch() and Doing are for that. Every wait ends after WAIT_S with an error.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

from edm_real._core import ffi, lib

from edm_policy.pager import STATES
from edm_real import Region

WAIT_S = 20.0
FETCH, INSTALL, INSTALLED = lib.EDM_AT_FETCH, lib.EDM_AT_INSTALL, lib.EDM_AT_INSTALLED
UNMAP, STORE, STORED, WAIT = lib.EDM_AT_UNMAP, lib.EDM_AT_STORE, lib.EDM_AT_STORED, lib.EDM_AT_WAIT
PROTECTED, TAKEN = lib.EDM_AT_PROTECTED, lib.EDM_AT_TAKEN

_move = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, ctypes.c_void_p).value  # this one gives the interpreter's lock up
)


class Held:
    """One stop: the next thread at (point, page)."""

    def __init__(self) -> None:
        self.came, self.may_go = threading.Event(), threading.Event()

    def reached(self) -> None:
        assert self.came.wait(WAIT_S), "nobody came to the point"

    def go(self) -> None:
        self.may_go.set()


class Stage:
    """The hook of one region."""

    def __init__(self, region: Region):
        self.region = region
        self.memory = int(ffi.cast("uintptr_t", lib.edm_region_memory(region._raw)))
        self.stops: dict[tuple[int, int], Held] = {}
        self.seen: list[tuple[int, int]] = []
        self._callback = ffi.callback("void(void *, int, uint32_t)", self._at)
        lib.edm_region_hook(region._raw, self._callback, ffi.NULL)

    def _at(self, _ctx: Any, point: int, page: int) -> None:
        self.seen.append((point, page))
        if held := self.stops.pop((point, page), None):
            held.came.set()
            held.may_go.wait(WAIT_S)

    def hold(self, point: int, page: int) -> Held:
        self.stops[point, page] = Held()
        return self.stops[point, page]

    def end(self) -> None:
        lib.edm_region_hook(self.region._raw, ffi.NULL, ffi.NULL)

    def state(self, page: int) -> str:
        return str(STATES[lib.edm_page_state(lib.edm_region_pager(self.region._raw), page)])

    def times(self, point: int, page: int) -> int:
        return self.seen.count((point, page))

    def read(self, page: int) -> bytes:
        """All of a page's bytes."""
        size = self.region.page_size
        to = ctypes.create_string_buffer(size)
        _move(ctypes.addressof(to), self.memory + page * size, size)
        return to.raw

    def write(self, page: int, value: int) -> None:
        """Fills a page with a byte."""
        size = self.region.page_size
        new = ctypes.create_string_buffer(bytes([value]) * size, size)
        _move(self.memory + page * size, ctypes.addressof(new), size)

    def holds(self, page: int, value: int) -> bool:
        return self.read(page) == bytes([value]) * self.region.page_size


class Doing(threading.Thread):
    """A call in a thread of its own: its answer, or its error."""

    def __init__(self, call: Callable[..., Any], *args: Any):
        super().__init__(daemon=True)
        self._call, self._args = call, args
        self._answer: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._answer = self._call(*self._args)
        except BaseException as e:
            self._error = e

    def answer(self) -> Any:
        self.join(WAIT_S)
        assert not self.is_alive(), "it did not end"
        if self._error:
            raise self._error
        return self._answer

    def still(self, seconds: float = 0.2) -> bool:
        """It is under way, and so it is `seconds` later."""
        time.sleep(seconds)
        return self.is_alive()
