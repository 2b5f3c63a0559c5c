"""The pager from Python: events in, commands out. c/pager.h is the contract."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edm_policy._core import ffi, lib
from edm_policy.config import PolicyConfig, evictors
from edm_policy.custom import EvictionPolicy, Prefetcher
from edm_policy.errors import EdmError, UsageError
from edm_policy.log import LogBuffer


def _names(prefix: str, enum: str) -> dict[int, str]:
    elements: dict[int, str] = ffi.typeof(f"enum {enum}").elements
    return {value: name.removeprefix(prefix) for value, name in elements.items()}


STATES = _names("EDM_", "edm_state")
OPS = _names("EDM_", "edm_op")
EVENTS = _names("EDM_EV_", "edm_event")
STATUS = _names("EDM_", "edm_reclaim_status")


class Command(NamedTuple):
    """One command: op is a name of pager.h's enum edm_op without its prefix."""

    op: str
    page: int
    flags: int


class Pager:
    """One instance's paging policy: LSPT, watermarks, LPET's choices, prefetching.

    Methods named after pager.h's events; each returns the commands it was answered
    with. The object is not thread-safe: one lock around every call is the driver's.
    """

    def __init__(self, config: PolicyConfig, log: LogBuffer | None = None):
        self.config = config.resolved()
        self._keep: list[object] = []
        self._hooked: list[EvictionPolicy | Prefetcher] = []
        evictor, evictor_ctx = self._hook(self.config.evict)
        prefetcher, prefetcher_ctx = self._hook(self.config.prefetch)
        why = ffi.new("char[256]")
        raw = lib.edm_pager_new_with(
            self.config.as_c(), evictor, evictor_ctx, prefetcher, prefetcher_ctx, why, 256
        )
        if raw == ffi.NULL:
            raise UsageError(ffi.string(why).decode())
        self.ptr = ffi.gc(raw, lib.edm_pager_free)
        self._out = ffi.new("edm_cmds *")
        for policy in self._hooked:
            policy.attach(self.ptr, self.config.pages)
        known = evictors().get(str(self.config.evict).split(":")[0])
        self._needs_future = known is not None and known.needs_future
        self._future = np.empty(0, np.uint32)
        self._plan: NDArray[np.uint32] | None = None
        if self.config.plan is not None:
            self.set_plan(self.config.plan)
        self.log = log
        if log is not None:
            log.attach(self.ptr)

    def _hook(self, policy: object) -> tuple[Any, Any]:
        """A policy in Python as (struct, handle); NULLs for a registered one."""
        if not isinstance(policy, EvictionPolicy | Prefetcher):
            return ffi.NULL, ffi.NULL
        pair = policy.struct(), ffi.new_handle(policy)
        self._hooked.append(policy)
        self._keep.extend(pair)
        return pair

    def raise_error(self) -> None:
        """Raises what a policy in Python raised since the last call, if anything."""
        for policy in self._hooked:
            policy.raise_error()

    def raise_policy_error(self) -> None:
        """The same as a PolicyError, for runs."""
        for policy in self._hooked:
            policy.raise_policy_error()

    def _page(self, page: int) -> int:
        if not 0 <= page < self.config.pages:
            raise IndexError(f"page {page} of a region of {self.config.pages}")
        return page

    def _commands(self) -> list[Command]:
        if self._hooked:
            self.raise_error()
        out = self._out
        return [Command(OPS[c.op], c.page, c.flags) for c in out.c[0 : out.n]]

    def _need_plan(self) -> None:
        if lib.edm_needs_plan(self.ptr):
            raise UsageError(
                f"prefetcher {self.config.prefetch} has no plan: give it one with "
                "PolicyConfig(plan=fault_order(trace, limit)), or choose another prefetcher"
            )

    def fault(self, page: int, write: bool = False, now: int = 0) -> list[Command]:
        """UsageError where the prefetcher wants a plan and has none."""
        if self._plan is None:
            self._need_plan()
        lib.edm_fault(self.ptr, self._page(page), write, now, self._out)
        return self._commands()

    def installed(self, page: int, now: int = 0) -> None:
        lib.edm_installed(self.ptr, self._page(page), now)
        self.raise_error()

    def fetch_failed(self, page: int, now: int = 0) -> list[Command]:
        lib.edm_fetch_failed(self.ptr, self._page(page), now, self._out)
        return self._commands()

    def touched(self, page: int, write: bool = False, now: int = 0) -> None:
        lib.edm_touched(self.ptr, self._page(page), write, now)
        self.raise_error()

    def reclaim(self, maximum: int = 0, now: int = 0) -> tuple[str, list[Command]]:
        """One step of LPET: ("OK" | "RUNNING" | "FAIL", commands); maximum 0 = the batch."""
        status = lib.edm_reclaim(self.ptr, maximum, now, self._out)
        return STATUS[status], self._commands()

    def done(self, page: int, now: int = 0) -> None:
        lib.edm_done(self.ptr, self._page(page), now)

    def stored(self, page: int, now: int = 0) -> int:
        return int(lib.edm_stored(self.ptr, self._page(page), now))

    def store_failed(self, page: int, now: int = 0) -> int:
        answer = int(lib.edm_store_failed(self.ptr, self._page(page), now))
        self.raise_error()
        return answer

    def discard(self, page: int, now: int = 0) -> list[Command]:
        lib.edm_discard(self.ptr, self._page(page), now, self._out)
        return self._commands()

    def recall(self, page: int, now: int = 0) -> list[Command]:
        lib.edm_recall(self.ptr, self._page(page), now, self._out)
        return self._commands()

    def flush(self, page: int, now: int = 0) -> list[Command]:
        lib.edm_flush(self.ptr, self._page(page), now, self._out)
        return self._commands()

    def willneed(self, page: int, now: int = 0) -> list[Command]:
        """The program will want this page: PREFETCH if it is REMOTE, RECLAIM for no room."""
        lib.edm_willneed(self.ptr, self._page(page), now, self._out)
        return self._commands()

    def advise(self, first: int, pages: int, random: bool, now: int = 0) -> None:
        """Faults on pages [first, first + pages) ask no prefetcher from now on, or again."""
        if lib.edm_advise(self.ptr, first, pages, random, now):
            raise UsageError(
                f"advice on pages {first} to {first + pages - 1} of {self.config.pages}: outside "
                "of the region, or more than 16 separate ranges; give it on larger ones"
            )

    def adopt(self, page: int, now: int = 0) -> None:
        if lib.edm_adopt(self.ptr, self._page(page), now):
            raise ValueError(f"page {page} is {self.state(page)}: only a NEW page can be adopted")

    def resize(self, low: int, high: int, limit: int, now: int = 0) -> None:
        if lib.edm_resize(self.ptr, low, high, limit, now):
            raise UsageError(f"low {low}, high {high}, limit {limit}: must be low < high <= limit")

    def _refs(
        self, page: NDArray[np.uint32], write: NDArray[np.uint8] | None
    ) -> tuple[object, list[object]]:
        page = np.ascontiguousarray(page, dtype=np.uint32)
        if self._needs_future and self._future.size < page.size:
            raise UsageError(
                f"{self.config.evict} needs to know the future: call set_future(next_uses(pages, "
                f"{self.config.pages})) first; simulation only"
            )
        if page.size and int(page.max()) >= self.config.pages:
            raise IndexError(f"page {int(page.max())} of a region of {self.config.pages}")
        if self._plan is None:
            self._need_plan()
        keep: list[object] = [page]
        refs = ffi.new("edm_refs *")
        refs.page = ffi.from_buffer("uint32_t[]", page)
        refs.n = page.size
        if write is not None:
            write = np.ascontiguousarray(write, dtype=np.uint8)
            if write.size != page.size:
                raise ValueError(f"{write.size} write flags for {page.size} references")
            keep.append(write)
            refs.write = ffi.from_buffer("uint8_t[]", write)
        return refs, keep

    def run_classic(self, page: NDArray[np.uint32], write: NDArray[np.uint8] | None = None) -> int:
        """All references, the pager being its own driver; returns the misses.

        page: u32[n], each below config.pages. Releases the GIL. Under observation idle or
        faults the events themselves run, every command carried out at once.
        """
        refs, _keep = self._refs(page, write)
        misses = int(lib.edm_run_classic(self.ptr, refs))
        self.raise_error()
        if lib.edm_stopped(self.ptr):
            raise EdmError(f"{self.config.evict} found nothing to evict; give it more frames")
        return misses

    def consume(
        self, page: NDArray[np.uint32], write: NDArray[np.uint8] | None = None, start: int = 0
    ) -> int:
        """Index of the first reference from `start` on that needs the driver, or n."""
        refs, _keep = self._refs(page, write)
        at = int(lib.edm_consume(self.ptr, refs, start))
        self.raise_error()
        return at

    def set_future(self, next_use: NDArray[np.uint32]) -> None:
        """For belady: next_use[i] = the next reference to reference i's page, or 2**32 - 1."""
        next_use = np.ascontiguousarray(next_use, dtype=np.uint32)
        self._future = next_use
        lib.edm_set_future(self.ptr, ffi.from_buffer("uint32_t[]", next_use), next_use.size)

    def set_plan(self, plan: NDArray[np.uint32]) -> None:
        """For the prefetcher planned: the pages in the order they will be wanted, u32[n].

        fault_order() makes one from a trace. IndexError for a page outside the region.
        """
        plan = np.ascontiguousarray(plan, dtype=np.uint32)
        if lib.edm_set_plan(self.ptr, ffi.from_buffer("uint32_t[]", plan), plan.size):
            raise IndexError(f"page {int(plan.max())} of a region of {self.config.pages}")
        self._plan = plan

    def state(self, page: int) -> str:
        return STATES[lib.edm_page_state(self.ptr, self._page(page))]

    def word(self, page: int) -> int:
        return int(lib.edm_page_word(self.ptr, self._page(page)))

    def quiet(self, page: int) -> bool:
        """Was random access advised for it? A fault there asks no prefetcher."""
        return bool(lib.edm_quiet(self.ptr, self._page(page)))

    @property
    def resident(self) -> int:
        """Size of the LSPT in pages."""
        return int(lib.edm_resident(self.ptr))

    @property
    def limit(self) -> int:
        """The limit in pages as it is now: the configuration's, unless auto or resize moved it."""
        return int(lib.edm_limit_now(self.ptr))

    def refault_distances(self) -> NDArray[np.uint64]:
        """Refaults by distance, u64[33]: [0] at 0, [k] at 2**(k-1) .. 2**k - 1 (c/workingset.c).

        All zeros without working_set.
        """
        out = np.zeros(33, np.uint64)
        lib.edm_refault_distances(self.ptr, ffi.from_buffer("uint64_t[]", out))
        return out

    @property
    def leaving(self) -> int:
        return int(lib.edm_leaving(self.ptr))

    @property
    def bytes(self) -> int:
        """All memory the pager holds."""
        return int(lib.edm_pager_bytes(self.ptr))

    def stats(self) -> dict[str, int]:
        """The counters, by pager.h's names."""
        return stats_dict(lib.edm_stats_of(self.ptr))

    def check(self) -> bool:
        """Walks every page and list (slow, for tests): True if all is consistent."""
        return bool(lib.edm_check(self.ptr) == 0)


_STAT_FIELDS = [name for name, _ in ffi.typeof("edm_stats").fields]


def stats_dict(stats: object) -> dict[str, int]:
    """An edm_stats struct as a dict."""
    return {name: int(getattr(stats, name)) for name in _STAT_FIELDS}
