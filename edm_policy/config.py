"""What a pager is made from: sizes, watermarks, policies, what can be observed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edm_policy._core import ffi, lib
from edm_policy.custom import OBSERVE, EvictionPolicy, Prefetcher, load_policy
from edm_policy.errors import UsageError

DIRTY: tuple[str, ...] = ("exact", "always")


def watermarks(limit: int, pages: int) -> tuple[int, int]:
    """The default (low, high) for a region of `pages` pages and a limit of `limit`.

    The gap is what LPET frees at one go and the head start it has on the faults: a
    64th of the limit, 256 pages at most, so that nearly the whole budget is used. (On real
    memory each go interrupts the faulting threads once: below a hundredth of the faults it
    does not show in their p99.) Where all pages have room nothing ever leaves.
    """
    if limit >= pages:
        return limit - 1, limit
    gap = max(1, min(256, limit // 64))
    high = max(1, limit - gap)
    return max(0, high - gap), high


@dataclass(frozen=True)
class PolicyInfo:
    """One registered evictor or prefetcher.

    `needs` is the least observation it can live with, `best` the one it is defined for;
    `bytes_per_page` is its own memory, beyond the pager's two bytes (evictors only).
    """

    name: str
    summary: str
    paper: str
    params: str
    needs: str = "faults"
    best: str = "faults"
    needs_future: bool = False
    bytes_per_page: int = 0
    idle_note: str = ""


def _text(pointer: object) -> str:
    return ffi.string(pointer).decode() if pointer else ""


def _evictor_info(e: object) -> PolicyInfo:
    return PolicyInfo(
        name=_text(e.name),  # type: ignore[attr-defined]
        summary=_text(e.summary),  # type: ignore[attr-defined]
        paper=_text(e.paper),  # type: ignore[attr-defined]
        params=_text(e.params),  # type: ignore[attr-defined]
        needs=OBSERVE[e.needs],  # type: ignore[attr-defined]
        best=OBSERVE[e.best],  # type: ignore[attr-defined]
        needs_future=bool(e.needs_future),  # type: ignore[attr-defined]
        bytes_per_page=e.bytes_per_page,  # type: ignore[attr-defined]
        idle_note=_text(e.idle_note),  # type: ignore[attr-defined]
    )


def evictors() -> dict[str, PolicyInfo]:
    """All registered eviction policies by name."""
    found = (_evictor_info(lib.edm_evictor_at(i)) for i in range(lib.edm_evictor_count()))
    return {info.name: info for info in found}


def evictor_info(evict: Any) -> PolicyInfo:
    """What is known of an evictor given by name (parameters may follow) or as an object."""
    if isinstance(evict, EvictionPolicy):
        return PolicyInfo(
            repr(evict), (type(evict).__doc__ or "").split("\n")[0], "", "", evict.needs, evict.best
        )
    name = str(evict).split(":")[0]
    if name not in evictors():
        raise unknown("evictor", name, evictors())
    return evictors()[name]


def prefetchers() -> dict[str, PolicyInfo]:
    """All registered prefetchers by name."""
    found = (lib.edm_prefetcher_at(i) for i in range(lib.edm_prefetcher_count()))
    return {
        _text(f.name): PolicyInfo(_text(f.name), _text(f.summary), _text(f.paper), _text(f.params))
        for f in found
    }


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The one line for a name that is not among `known`."""
    near = difflib.get_close_matches(name, list(known), 1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
    return UsageError(f"unknown {kind} '{name}'; {hint}")


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes in pages. `high` and `low` follow from `limit` unless given.

    evict, prefetch: a registered name, with parameters as ``name:key=value:key=value``; or
    a policy in Python, as an object, a class or "module:Class" (edm_policy.custom).
    observe: what the driver can tell the policy. "auto" is what real memory can show: the
    evictor's best, but at most idle marks, unless it cannot live without seeing every access.
    dirty: "exact" (only changed pages are written back) or "always".
    plan: for the prefetcher planned, the pages in the order they will be wanted (fault_order()).
    working_set: refault distances are kept (c/workingset.c), 4 bytes a page.
    auto_min: above 0, the limit moves by itself between this and `limit` (c/auto.c), so that there
    are about auto_target working-set refaults in a million units of `now` (references where
    nothing is timed, else nanoseconds); it is looked at every auto_interval of them. high and low
    follow then, whatever was given.
    Raises UsageError on values that make no sense.
    """

    pages: int
    limit: int
    high: int | None = None
    low: int | None = None
    evict: Any = "lpet"
    prefetch: Any = "none"
    observe: str = "auto"
    dirty: str = "exact"
    batch: int = 256
    seed: int = 1
    working_set: bool = False
    auto_min: int = 0
    auto_target: int = 0
    auto_interval: int = 0
    plan: NDArray[np.uint32] | None = field(default=None, compare=False, repr=False)

    def resolved(self, offered: str = "exact") -> PolicyConfig:
        """All of it settled: watermarks filled in, observation chosen and checked."""
        low, high = watermarks(self.limit, self.pages)
        if self.high is not None:
            high = self.high
            low = min(low, max(0, high - 1))
        if self.low is not None:
            low = self.low
        if not 1 <= self.pages <= 2**32 - 17:
            raise UsageError(f"a region of {self.pages} pages: it needs 1 to {2**32 - 17}")
        if self.limit >= 2**32:
            raise UsageError(f"limit {self.limit}: it must be below {2**32} pages")
        if not 1 <= self.batch <= 256:
            raise UsageError(f"batch {self.batch}: it must be 1 to 256")
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"seed {self.seed}: it must be 0 to {2**64 - 1}")
        if not 0 <= low < high <= self.limit:
            raise UsageError(
                f"low {low}, high {high}, limit {self.limit}: must be low < high <= limit; "
                "give --low and --high in pages, or leave both out"
            )
        if self.auto_min and not (
            0 < self.auto_min <= self.limit
            and 0 < self.auto_target < 2**32
            and 0 < self.auto_interval < 2**64
        ):
            raise UsageError(
                f"auto_min {self.auto_min}, auto_target {self.auto_target}, auto_interval "
                f"{self.auto_interval}: auto needs 0 < auto_min <= limit ({self.limit}), and a "
                "target and an interval above 0"
            )
        observe = self.observe
        if observe not in ("auto", *OBSERVE):
            raise unknown("observation", observe, ["auto", *OBSERVE])
        if self.dirty not in DIRTY:
            raise unknown("dirty tracking", self.dirty, DIRTY)
        prefetch = load_policy(self.prefetch, Prefetcher) or self.prefetch
        if isinstance(prefetch, str) and prefetch.split(":")[0] not in prefetchers():
            raise unknown("prefetcher", prefetch.split(":")[0], prefetchers())
        evict = load_policy(self.evict, EvictionPolicy) or self.evict
        info = evictor_info(evict)
        have, needs = OBSERVE.index(offered), OBSERVE.index(info.needs)
        if observe == "auto":
            level = max(needs, min(OBSERVE.index(info.best), OBSERVE.index("idle")))
        else:
            level = OBSERVE.index(observe)
        if level > have:
            raise UsageError(
                f"{info.name} with observation {OBSERVE[level]}: only {offered} can be had here; "
                "use the simulator, or choose another evictor"
            )
        if level < needs:
            raise UsageError(
                f"evictor {info.name} needs observation {info.needs}, and there is only "
                f"{OBSERVE[level]} here; run it in the simulator, or choose another evictor"
            )
        return replace(
            self, high=high, low=low, observe=OBSERVE[level], evict=evict, prefetch=prefetch
        )

    def as_c(self) -> object:
        """The edm_config struct."""
        c = ffi.new("edm_config *")
        self.fill(c)
        return c

    def fill(self, c: Any) -> None:
        """Fills an edm_config struct of any extension that has one."""
        if self.observe == "auto" or self.high is None or self.low is None:
            return self.resolved().fill(c)
        evict, prefetch = str(self.evict), str(self.prefetch)
        for spec in (evict, prefetch):
            if len(spec.encode()) >= lib.EDM_NAME_MAX:
                raise UsageError(f"'{spec}' is too long for a policy (95 characters at most)")
        c.pages, c.low, c.high, c.limit = self.pages, self.low, self.high, self.limit
        c.batch, c.seed = self.batch, self.seed
        c.working_set = self.working_set
        c.auto_min, c.auto_target = self.auto_min, self.auto_target
        c.auto_interval = self.auto_interval
        c.observe = OBSERVE.index(self.observe)
        c.dirty = DIRTY.index(self.dirty)
        c.evict = evict.encode()
        c.prefetch = prefetch.encode()
