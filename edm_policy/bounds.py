"""What no policy can beat, and how near one comes to it.

`optimum` is Belady's: the fewest misses any policy can have that brings in every page it misses
on. It does not look at writes, and a page that leaves changed must be written back. The cheapest
schedule of misses and write-backs together is NP-hard to find (Beckmann, Gibbons, Haeupler and
McGuffey, "Writeback-aware caching", APOCS 2020), so `dirty_bound` gives a bound from below that
holds for every policy, and next to it what Belady's own schedule costs: the true optimum lies
between the two.

The bound on write-backs. A page is dirty from a write until it leaves. Whatever the policy, the
writes alone form a reference string that its dirty pages serve as a cache of C frames: a
write to a page that is not dirty begins a dirty period, and is a miss of that cache. So there are
at least as many dirty periods as Belady's misses on the writes alone, and each ends in a
write-back, but for those still resident at the end, of which there are at most C, and at
most one for each page ever written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edm_policy._core import ffi, lib
from edm_policy.config import PolicyConfig
from edm_policy.errors import UsageError

Pages = NDArray[np.uint32]
Flags = NDArray[np.uint8]


def next_uses(page: Pages, pages: int) -> Pages:
    """next[i]: the reference after i to the page of reference i, or 2**32 - 1 for never.

    page: u32[n], each below `pages`. UsageError where n is not below 2**32 - 1; IndexError for
    a page outside. Takes 4 bytes a reference and, while it runs, 4 a page.
    """
    page = np.ascontiguousarray(page, dtype=np.uint32)
    if page.size >= 2**32 - 1:
        raise UsageError(f"{page.size} references: the future is kept for 2^32 - 2 at most")
    if page.size and int(page.max()) >= pages:
        raise IndexError(f"page {int(page.max())} of a region of {pages}")
    last = np.full(pages, 2**32 - 1, np.uint32)
    following = np.empty(page.size, np.uint32)
    view = ffi.from_buffer
    lib.edm_next_uses(
        view("uint32_t[]", page), page.size, view("uint32_t[]", last), view("uint32_t[]", following)
    )
    return following


def _belady(page: Pages, write: Flags | None, pages: int, size: int) -> tuple[int, int]:
    """(misses, write-backs before the end) of Belady's schedule in `size` frames."""
    from edm_policy.pager import Pager

    config = PolicyConfig(pages=pages, limit=size, high=size, low=size - 1, evict="belady")
    pager = Pager(config)
    pager.set_future(next_uses(page, pages))
    misses = pager.run_classic(page, write)
    return misses, pager.stats()["writebacks"]


def optimum(page: Pages, pages: int, size: int) -> int:
    """The fewest misses possible in `size` frames, cold ones included.

    page: u32[n], each below `pages`. UsageError where size is below 1.
    """
    return _belady(page, None, pages, size)[0]


@dataclass(frozen=True)
class DirtyBound:
    """Misses and write-backs, bounded from below for every policy; and Belady's own schedule.

    Counts; a write-back counts when the page leaves, pages still dirty at the end do not.
    """

    misses: int
    writebacks: int
    belady_writebacks: int

    def cost(self, weight: float = 1.0) -> float:
        """No policy's misses + weight * write-backs is below this."""
        return self.misses + weight * self.writebacks

    def belady_cost(self, weight: float = 1.0) -> float:
        """What Belady's schedule costs: the best cost is not above this."""
        return self.misses + weight * self.belady_writebacks


def dirty_bound(page: Pages, write: Flags, pages: int, size: int) -> DirtyBound:
    """The bound for a trace with writes in `size` frames, exact dirty tracking.

    page: u32[n], each below `pages`; write: n flags. Two runs of Belady. UsageError where size is
    below 1; ValueError where the two differ in length.
    """
    write = np.ascontiguousarray(write, dtype=np.uint8)
    misses, of_belady = _belady(page, write, pages, size)
    written = np.ascontiguousarray(page, dtype=np.uint32)[write != 0]
    periods = optimum(written, pages, size)
    staying = min(size, int(np.unique(written).size))
    return DirtyBound(misses, max(0, periods - staying), of_belady)


def gap_closed(lru: float, policy: float, belady: float) -> float | None:
    """How much of the way from LRU to the optimum a policy goes, from misses or miss ratios.

    1 is the optimum, 0 is LRU, below 0 is worse than LRU. None where LRU is optimal already:
    there is no gap to close.
    """
    return None if lru == belady else (lru - policy) / (lru - belady)
