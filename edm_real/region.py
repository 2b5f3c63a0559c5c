"""Paged memory: numpy arrays over memory of which only a part is resident.

    with Region("1GiB", local="256MiB") as region:
        a = region.array(np.float64, 100_000_000)
        a[:] = 1

c/runtime.h is what this wraps. Nothing here runs in the fault path.
"""

from __future__ import annotations

import errno
import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edm_policy.config import PolicyConfig, evictor_info
from edm_policy.custom import EvictionPolicy, Prefetcher, load_policy
from edm_policy.errors import EdmError, UsageError
from edm_real import spans as components
from edm_real._core import ffi, lib
from edm_real.errors import open_error
from edm_real.figures import POLICY_FIELDS, RUNTIME_FIELDS, STORE_FIELDS, latency_us
from edm_real.hooks import Hooks
from edm_real.memory import Memory
from edm_real.replay import references, run_job
from edm_real.store_url import resolved
from edm_real.watch import Watch
from edm_workload.metadata import redact
from edm_workload.units import (
    PAGE_SIZE,
    Size,
    parse_pages,
    refuse_unknown,
    seconds_to_ns,
)

if TYPE_CHECKING:
    from edm_real.budget import Budget
    from edm_workload.trace import Trace

FAULTS = ("upcall", "monitor")
HANDLERS_MOST = 16
ACCESS = {0: "none", 1: "device", 2: "syscall", 3: "user-mode-only"}
RECLAIM = ("thread", "faulter")
ADVICE = ("willneed", "dontneed", "random", "sequential")


class Region(Memory):
    """Paged memory of `size`, of which at most `local` is resident; the rest is in `store`.

    size, local: "1GiB", pages, or for local a share: "25%". store: a URL, "mem:" or
    "file:PATH" (removed on close unless "?keep=1"). evict, prefetch: names of registered
    policies. faults: "upcall" (the faulting thread resolves its own fault in a SIGBUS
    handler; fast; a system call into pages that are out gets EFAULT: see prefault()) or
    "monitor" (handler threads; transparent, slower). dirty: "exact" writes only changed pages
    back, "always" all. high, low: LPET's watermarks, in pages or shares of local. reclaim:
    "thread" (LPET runs beside the program) or "faulter" (the fault that reaches the high
    watermark does its work). lockstep: reclaim before the faulting thread goes on. deadline_s:
    how long a store is asked again before its page counts as lost. policy: further fields of
    PolicyConfig (working_set, auto_min ...).

    name: shown by `python -m edm_real top PID`. watch: may that look at this region? It costs
    a thread that sleeps until it is asked, and nothing in the fault path.

    A lost page raises PageLostError from replay(), prefault() and close(). An access to one by
    other code (numpy) cannot raise: the process gets SIGBUS, as for a failing memory module. A line
    on stderr names page and store; Python's faulthandler says where.

    Raises UsageError for values that make no sense, CannotError where the machine lacks
    userfaultfd or a part of it, EdmError when the store cannot be opened.
    """

    _replays_only = False  # see ReplayRegion
    _full_s = 0.0
    budget: Budget | None = None

    def __init__(
        self,
        size: Size,
        local: Size = "25%",
        store: str = "mem:",
        evict: str = "lpet",
        prefetch: str = "none",
        faults: str = "upcall",
        dirty: str = "exact",
        lockstep: bool = False,
        high: Size | None = None,
        low: Size | None = None,
        handlers: int = 1,
        observe: str = "auto",
        batch: int = 256,
        seed: int = 1,
        deadline_s: float = 5.0,
        reclaim: str = "thread",
        page_size: int = PAGE_SIZE,
        name: str = "",
        watch: bool = True,
        **policy: Any,
    ):
        if faults not in FAULTS:
            refuse_unknown("faults", faults, FAULTS)
        if reclaim not in RECLAIM:
            refuse_unknown("reclaim", reclaim, RECLAIM)
        if not 1 <= handlers <= HANDLERS_MOST:
            raise UsageError(f"handlers: {handlers} cannot be; 1 to {HANDLERS_MOST}")
        known = {f.name for f in fields(PolicyConfig)}
        if unknown := set(policy) - known:
            known |= set(Region.__init__.__annotations__)
            refuse_unknown("option of Region", unknown.pop(), known)
        if page_size < PAGE_SIZE or page_size > 2**21 or page_size & (page_size - 1):
            raise UsageError(f"page_size {page_size}: must be 4096 x 2^n, up to 2 MiB")
        self._hooks = Hooks(
            load_policy(evict, EvictionPolicy) or evict,
            load_policy(prefetch, Prefetcher) or prefetch,
        )
        if self._hooks.policies and not self._replays_only:
            raise UsageError(
                f"policy {self._hooks.policies[0]!r} is Python, and a thread that faults in a "
                "Region may hold the interpreter's lock its hooks wait for; run it with "
                "edm_real.run(), bench or replay, or in the simulator"
            )
        if evictor_info(self._hooks.evict or evict).needs_future:
            raise UsageError(f"{evict} must know the future; run it in the simulator")
        self.page_size = page_size
        scale = page_size // PAGE_SIZE
        pages = self.pages_of(size, page_size)
        limit = min(self._scaled(local, pages, "local", scale), pages)
        self.config = PolicyConfig(
            pages=pages,
            limit=limit,
            high=None if high is None else self._scaled(high, limit, "high", scale),
            low=None if low is None else self._scaled(low, limit, "low", scale, least=0),
            evict=self._hooks.evict or evict,
            prefetch=self._hooks.prefetch or prefetch,
            observe=observe,
            dirty=dirty,
            batch=batch,
            seed=seed,
            **policy,
        ).resolved(offered="exact" if observe == "exact" else "idle")
        self.pages = pages
        self.nbytes = pages * page_size
        self.store_url = redact(store)
        self.faults_mode = faults
        self.lockstep = lockstep
        self.seed = seed
        config = ffi.new("edm_region_config *")
        self.config.fill(config.policy)
        self._hooks.fill(config)
        config.page_size = page_size
        config.handlers = handlers
        config.faults = FAULTS.index(faults)
        config.lockstep = lockstep
        config.no_lpet = reclaim == "faulter"
        config.deadline_ns = seconds_to_ns(deadline_s, "deadline")
        config.full_ns = round(self._full_s * 1e9)
        why = ffi.new("char[512]")
        error = ffi.new("int *")
        opened = lib.edm_store_open(resolved(store).encode(), page_size, pages, why, 512)
        if opened == ffi.NULL:
            text = ffi.string(why).decode()
            raise UsageError(text) if text.startswith("unknown store") else EdmError(text)
        raw = lib.edm_region_open(config, opened, why, 512, error)
        if raw == ffi.NULL:
            raise open_error(error[0], ffi.string(why).decode())
        lib.edm_region_speaks(raw, self.store_url.encode())
        if watch:  # a region works without, where it cannot be had
            lib.edm_board_open(raw, name.encode(), self.store_url.encode())
        self._own(raw)
        try:
            self._hooks.attach(lib.edm_region_pager(raw), pages)
        except BaseException:
            self.close()
            raise
        if self.config.plan is not None:
            self._plan = np.ascontiguousarray(self.config.plan, np.uint32)
            plan = ffi.from_buffer("uint32_t[]", self._plan)
            lib.edm_set_plan(lib.edm_region_pager(raw), plan, len(self._plan))
        if lib.edm_needs_plan(lib.edm_region_pager(raw)):
            self.close()
            raise UsageError(f"prefetcher {prefetch} has no plan: give one (plan=fault_order(...))")

    @classmethod
    def pages_of(cls, size: Size, page_size: int = PAGE_SIZE) -> int:
        """A region's size in pages of its own."""
        return cls._scaled(size, None, "size", page_size // PAGE_SIZE)

    @staticmethod
    def _scaled(value: Size, base: int | None, what: str, scale: int, least: int = 1) -> int:
        """A size in units of this region's page: text with a unit is bytes, a number is pages."""
        if isinstance(value, str) and value.strip()[-1:] in "bB" and scale > 1:
            return max(least, parse_pages(value, base, what) // scale)
        return parse_pages(value, base, what, least)

    # ---- what its pages are told ----

    def prefault(self, what: Any = None, write: bool = False) -> None:
        """Brings an array's pages (or a slice of page numbers, or all) into local memory.

        Under faults="upcall" a system call (file.readinto(array), socket.send(array)) that
        meets a page that is out fails with EFAULT; call this first, with write=True if the
        call will write to it. Other faults may send pages away again: keep it short, and
        well below the local memory. Raises PageLostError, or UsageError for more pages than
        the limit.
        """
        first, count = self._span(what)
        error = self._call(lib.edm_region_prefault, first, count, write)
        if error == -errno.ENOSPC:
            raise UsageError(
                f"prefault: {count} pages, and the limit of local memory is {self.config.limit}"
            )
        self._raise_errors()

    def flush(self, what: Any = None) -> None:
        """Writes changed pages to the store. They stay in local memory. Raises WritebackError."""
        error = self._call(lib.edm_region_flush, *self._span(what))
        if error:
            raise self._writeback_error(-error)

    def evict(self, what: Any = None) -> None:
        """Sends these very pages away, whatever the policy would choose."""
        error = self._call(lib.edm_region_evict, *self._span(what))
        if error:
            raise self._writeback_error(-error)

    def advise(self, what: Any, advice: str) -> None:
        """Tells what the program will do with an array (or a slice of page numbers, or None: all).

        "willneed": fetch now, in batches, what of it is out, as far as the low watermark goes
        (counted as prefetches; other threads run meanwhile). "dontneed": evict it. "random":
        faults there ask no prefetcher; "sequential": they do again. The content stays as it is.
        Raises UsageError for other advice, or for more than 16 separate random ranges;
        PageLostError, WritebackError.
        """
        if advice not in ADVICE:
            refuse_unknown("advice", advice, ADVICE)
        if advice == "dontneed":
            return self.evict(what)
        first, count = self._span(what)
        if advice == "willneed":
            error = self._call(lib.edm_region_willneed, first, count)
            if error:
                raise self._writeback_error(-error)
            self._raise_errors()
        elif lib.edm_region_advise(self._open(), first, count, advice == "random"):
            raise UsageError("advise: more than 16 separate random ranges; advise larger ones")

    def discard(self, what: Any = None) -> None:
        """Gives the content of whole pages up: they read as zeros, here and in the store.

        A page that an array covers only in part is discarded as well: give whole pages.
        """
        error = self._call(lib.edm_region_discard, *self._span(what))
        if error:
            raise EdmError(f"discard: {os.strerror(-error)}")

    def resize(self, local: Size, high: Size | None = None, low: Size | None = None) -> None:
        """Changes the local limit while running; the watermarks follow unless given."""
        scale = self.page_size // PAGE_SIZE
        limit = min(self._scaled(local, self.pages, "local", scale), self.pages)
        config = replace(
            self.config,
            limit=limit,
            high=None if high is None else self._scaled(high, limit, "high", scale),
            low=None if low is None else self._scaled(low, limit, "low", scale, least=0),
        ).resolved()
        lib.edm_region_resize(self._open(), config.low, config.high, limit)
        self.config = config

    def store_add(self, url: str) -> None:
        """Adds a member to a `striped:` store, while the region is used.

        Pages that belong to it by the ring (about 1 / n of them) move in the background, others
        stay; store_stats has `moved`. Raises EdmError when it cannot be opened, or the store is
        no `striped:`.
        """
        why = ffi.new("char[512]")
        store = lib.edm_region_store(self._open())
        if lib.edm_store_add(store, resolved(url).encode(), why, 512):
            raise EdmError(ffi.string(why).decode())
        self.store_url += f" + {redact(url)}"

    # ---- figures ----

    def stats(self) -> dict[str, Any]:
        """Counters since the region was made, by the keys of a Result, and the runtime's own.

        latency_us is the time inside the fault path. Raises nothing for lost pages: see
        lost_pages in it.
        """
        policy, runtime = ffi.new("edm_stats *"), ffi.new("edm_runtime_stats *")
        store, latency = ffi.new("edm_store_stats *"), ffi.new("edm_latency *")
        lib.edm_region_stats(self._open(), policy, runtime, store)
        lib.edm_region_latency(self._raw, latency)
        return {
            **self._settings(),
            **{name: int(getattr(policy, name)) for name in POLICY_FIELDS},
            **{name: int(getattr(runtime, name)) for name in RUNTIME_FIELDS},
            "uffd": ACCESS[runtime.uffd_access],
            "store_stats": {name: int(getattr(store, name)) for name in STORE_FIELDS},
            "latency_us": latency_us(latency),
        }

    def _settings(self) -> dict[str, Any]:
        c = self.config
        return {
            "driver": "real",
            "evict": str(c.evict),
            "prefetch": str(c.prefetch),
            "observe": c.observe,
            "store": self.store_url,
            "faults_mode": self.faults_mode,
            "pages": c.pages,
            "low": c.low,
            "high": c.high,
            "limit": c.limit,
        }

    def watch(self, interval_s: float = 1.0) -> Watch:
        """A live view of this region's figures: in a Jupyter notebook below the cell, elsewhere a
        line an interval on stderr. It ends when the region closes, or by stop().

        A thread asks as `python -m edm_real top` does: nothing of it is in the fault path.
        Raises UsageError for an interval below 0.2 s, or a region opened with watch=False.
        """
        return Watch(lib.edm_board_fd(self._open()), interval_s)

    def measure(self, on: bool = True) -> None:
        """Begins to count where the time goes (some percent slower), or ends it. Nobody may be at
        work on the region at that moment; spans() tells what was counted."""
        (components.begin if on else components.end)(self._open())

    def spans(self) -> list[components.Span]:
        """What was counted since measure(); nothing without it."""
        return list(components.read(self._open()))

    def check(self) -> bool:
        """Walks everything (slow, for tests; faults wait): pager, mapping and stash agree."""
        return bool(lib.edm_region_check(self._open()) == 0)

    def log_to(self, file: Any) -> None:
        """Decisions go to a file (an object with fileno(), or None to end) from now on.

        Records as edm_policy.log.RECORD, without the header that save_log() writes.
        """
        error = lib.edm_region_log(self._open(), -1 if file is None else file.fileno())
        if error:
            raise EdmError(f"decision log: {os.strerror(-error)}; is the disc full?")

    # ---- replay ----

    def replay(
        self,
        trace: Trace | NDArray[Any],
        write: NDArray[Any] | None = None,
        threads: int = 1,
        fill: bool | NDArray[np.uint8] = False,
        seed: int | None = None,
        chunk: int = 4096,
        on_progress: Any = None,
        pages: int = 0,
        whole: bool = False,
    ) -> dict[str, Any]:
        """Runs references over this memory in C threads and verifies every byte of it.

        trace: a Trace, or page numbers (with `write`, flags, or all are reads). threads: a
        trace with a tid column is split by it, another one is dealt out in chunks. fill: give
        every page content first (not timed): numbers, or the rows of an array of pages in turn,
        each of page_size bytes; else pages begin as zeros. on_progress(done,
        total) is called some times a second. pages: the trace stays below this page, and only
        pages below are filled and verified (0: all of them); nobody else may use those
        meanwhile, and what arrays hold there is overwritten. whole: each read looks at all of
        the page, not at its newest word alone.

        Returns the keys of a Result and `extra`: wrong (words that were not what was written),
        wrong_pages, verified_pages, lost. elapsed_s and latency_us (accesses that faulted, as
        the program sees them) are of the references alone.
        Raises PageLostError for lost pages, KeyboardInterrupt within a second of Ctrl-C.
        """

        if isinstance(fill, np.ndarray):
            if fill.ndim != 2 or not len(fill) or fill.shape[1] != self.page_size:
                raise UsageError(f"fill: an array of shape (n, {self.page_size}), a page a row")
            fill = np.ascontiguousarray(fill, np.uint8)

        def look(done: int, total: int) -> None:
            self._hooks.raise_error()
            if on_progress:
                on_progress(done, total)

        values = run_job(
            self._open(),
            references(trace, write),
            threads=threads,
            fill=fill,
            seed=self.seed if seed is None else seed,
            chunk=chunk,
            on_progress=look,
            pages=pages,
            whole=whole,
        )
        self._hooks.raise_error()
        if self.lost_pages > self._lost_told:
            self._raise_errors()
        return {**self._settings(), "threads": threads, "seed": self.seed, **values}

    def _closing(self) -> None:
        if self.budget:
            self.budget.leave(self)


class ReplayRegion(Region):
    """A region that only C threads touch, so that its policies may be Python: see hooks.py."""

    _replays_only = True
    _full_s = 1.0  # a store that has been full for so long ends the replay

    def _array_at(self, start: int, size: int) -> NDArray[np.uint8]:
        raise UsageError("a region for replays has no arrays; use Region")
