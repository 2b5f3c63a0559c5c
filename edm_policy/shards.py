"""SHARDS: LRU's miss ratio at any size, online, from a sample of the pages (c/shards.c)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edm_policy._core import ffi, lib
from edm_policy.errors import UsageError


class Shards:
    """Takes references as they come; tells the miss ratio of LRU at any size so far.

    pages: the region's, references are below it. rate in (0, 1]: the part of the pages that is
    looked at; 1 is exact. Memory: about 100 bytes a sampled page, taken at once.
    Waldspurger, Park, Garthwaite, Ahmad, FAST 2015 (fixed rate, SHARDS-adj).
    """

    def __init__(self, pages: int, rate: float = 0.01, seed: int = 1):
        if not 0 < rate <= 1:
            raise UsageError(f"rate {rate}: it must be above 0 and at most 1")
        if not 1 <= pages < 2**32 - 1:
            raise UsageError(f"a region of {pages} pages: it needs 1 to {2**32 - 2}")
        raw = lib.edm_shards_new(pages, rate, seed)
        if raw == ffi.NULL:
            raise MemoryError(f"SHARDS at rate {rate} over {pages} pages")
        self._ptr = ffi.gc(raw, lib.edm_shards_free)
        self.pages = pages

    def add(self, page: NDArray[np.uint32]) -> None:
        """References, u32[n]. IndexError for one outside the region (those before it count)."""
        page = np.ascontiguousarray(page, dtype=np.uint32)
        if lib.edm_shards_add(self._ptr, ffi.from_buffer("uint32_t[]", page), page.size):
            raise IndexError(f"page {int(page.max())} of a region of {self.pages}")

    def miss_ratio(self, sizes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(miss ratio, standard error) at each size in pages, f64[n] both.

        The error is estimated from eight parts of the sample. Where size x rate is below about
        100 sampled pages it is itself unsure: sample more.
        """
        wanted = np.ascontiguousarray(sizes, dtype=np.uint32)
        ratio, error = np.empty(wanted.size), np.empty(wanted.size)
        lib.edm_shards_ratio(
            self._ptr,
            ffi.from_buffer("uint32_t[]", wanted),
            wanted.size,
            ffi.from_buffer("double[]", ratio),
            ffi.from_buffer("double[]", error),
        )
        return ratio, error

    @property
    def sampled(self) -> int:
        """References that were looked at."""
        return int(lib.edm_shards_sampled(self._ptr))

    @property
    def rate(self) -> float:
        """The rate it has: the one asked for, rounded up to a multiple of 2**-24."""
        return float(lib.edm_shards_rate(self._ptr))

    @property
    def bytes(self) -> int:
        return int(lib.edm_shards_bytes(self._ptr))


def sampled_miss_ratio(
    page: NDArray[np.uint32], sizes: ArrayLike, rate: float = 0.01, seed: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(miss ratio, standard error) of LRU over a trace at each of `sizes` (pages), f64[n] both."""
    page = np.ascontiguousarray(page, dtype=np.uint32)
    shards = Shards(int(page.max()) + 1 if page.size else 1, rate, seed)
    shards.add(page)
    return shards.miss_ratio(sizes)
