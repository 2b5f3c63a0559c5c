"""Policies written in Python on real memory: only where C threads alone touch the pages.

Who waits for what. A hook is called by a thread that holds the region's lock: one that
faults, LPET, a handler thread. There it waits for the interpreter's lock. A deadlock would
need somebody who holds the interpreter's lock and waits for the region's, or for a page:

- Every call from Python into the runtime gives the interpreter's lock up first (cffi does).
- A Python thread that touched paged memory would hold it while it faults. So there must be no
  such memory in its reach: a region with hooks has no arrays, and Region refuses them.
- A hook holds both locks. It is given numbers, and nothing by which it could reach the region.

So whoever holds the interpreter's lock lets go of it without waiting for the runtime, and
every hook ends. What is touched by a replay's C threads faults at known places, outside of
malloc: taking the interpreter's lock in the SIGBUS handler there is an ordinary call.

A hook that raises ends the run, but the threads that page must reach their end, with room for
their pages: see _Hooked.attach(driven=True).
"""

from __future__ import annotations

from typing import Any

from edm_policy._core import ffi as policy_ffi

from edm_policy.custom import EvictionPolicy, Prefetcher
from edm_real._core import ffi


def _here(pointer: Any, kind: str = "void *") -> Any:
    """A pointer of edm_policy's extension, for this one: both hold the same C."""
    return ffi.cast(kind, int(policy_ffi.cast("uintptr_t", pointer)))


class Hooks:
    """The policies in Python of one region, and what must live as long as it."""

    def __init__(self, evict: Any, prefetch: Any):
        self.evict = evict if isinstance(evict, EvictionPolicy) else None
        self.prefetch = prefetch if isinstance(prefetch, Prefetcher) else None
        self.policies = [p for p in (self.evict, self.prefetch) if p]
        self._keep: list[Any] = []

    def fill(self, config: Any) -> None:
        """Puts them into an edm_region_config."""
        for role, policy in (("evictor", self.evict), ("prefetcher", self.prefetch)):
            if policy:
                struct, handle = policy.struct(), policy_ffi.new_handle(policy)
                self._keep += [struct, handle]
                setattr(config, role, _here(struct, f"edm_{role} *"))
                setattr(config, f"{role}_ctx", _here(handle))

    def attach(self, pager: Any, pages: int) -> None:
        """Before the first fault: calls start() of each. Raises PolicyError."""
        there = policy_ffi.cast("edm_pager *", int(ffi.cast("uintptr_t", pager)))
        for policy in self.policies:
            policy.begin(there, pages)

    def raise_error(self) -> None:
        """PolicyError if a hook raised."""
        for policy in self.policies:
            policy.raise_policy_error()
