"""Several regions with one local budget; edm_policy.budget decides, a thread here carries it out.

with Budget("256MiB") as budget, budget.region("1GiB") as a, budget.region("1GiB") as b:
    ...
"""

from __future__ import annotations

import threading
import time
import weakref
from types import TracebackType
from typing import Any

from edm_policy.budget import Share, divide
from edm_policy.errors import EdmError, UsageError
from edm_real.region import Region
from edm_workload.units import PAGE_SIZE, Size, parse_pages

LEAST_PAGES = 64
SHRINK_S = 5


class Budget:
    """Local memory for the regions that are made with region(), at most `size` together.

    Every interval_s a part of it moves to the regions that fetched most. The limits never exceed it
    together, and memory that a shrinking region still holds is given to nobody. Each keeps 64
    pages at least. Close the regions first. Raises UsageError when one more does not fit.
    """

    def __init__(self, size: Size, interval_s: float = 0.2):
        self.nbytes = parse_pages(size, None, "budget") * PAGE_SIZE
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._regions: weakref.WeakKeyDictionary[Region, int] = weakref.WeakKeyDictionary()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edm-budget", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the moving of limits; they stay as they are."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Budget:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def limits(self) -> list[int]:
        """Each region's limit in bytes."""
        with self._lock:
            return [_limit(region) for region in self._regions]

    def region(self, size: Size, **options: Any) -> Region:
        """A new region, as Region(size, **options); its local memory is this budget's to give.

        It begins with what is free, or with its least, taken from the others.
        """
        page_size = options.get("page_size", PAGE_SIZE)
        nbytes = Region.pages_of(size, page_size) * page_size
        with self._lock:
            least = min(nbytes, LEAST_PAGES * page_size)
            if least > self.nbytes:
                raise UsageError(f"budget of {self.nbytes} bytes: a region needs {least} at least")
            free = self.nbytes - self._shrink_to(self.nbytes - least)
            region = Region(size, min(nbytes, max(least, free)) // page_size, **options)
            region.budget = self
            self._regions[region] = 0
        return region

    def leave(self, region: Region) -> None:
        """Before a region closes; waits for a decision under way."""
        with self._lock:
            self._regions.pop(region, None)

    def _shrink_to(self, nbytes: int) -> int:
        """Limits come down to `nbytes` together. Returns what the regions hold, or may, then."""
        regions = list(self._regions)
        limits = divide(nbytes, [_share(r, 0) for r in regions])
        for region, limit in zip(regions, limits, strict=True):
            if limit < _limit(region):
                region.resize(limit // region.page_size)
        deadline = time.monotonic() + SHRINK_S
        while (held := sum(max(_limit(r), _held(r)) for r in regions)) > max(nbytes, 0):
            if time.monotonic() > deadline:
                raise EdmError(
                    "budget: the other regions do not give memory back; is a store full?"
                )
            time.sleep(0.005)
        return held

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            with self._lock:
                self._decide()

    def _decide(self) -> None:
        regions = list(self._regions)
        shares = []
        for region in regions:
            fetched = region.stats()["fetches"]
            shares.append(_share(region, (fetched - self._regions[region]) * region.page_size))
            self._regions[region] = fetched
        wanted = divide(self.nbytes, shares)
        pairs = list(zip(regions, wanted, strict=True))
        for region, limit in pairs:
            if limit < _limit(region):
                region.resize(limit // region.page_size)
        free = self.nbytes - sum(max(_limit(r), _held(r)) for r in regions)
        for region, limit in pairs:
            pages = min(limit - _limit(region), free) // region.page_size
            if pages > 0:
                free -= pages * region.page_size
                region.resize(_limit(region) // region.page_size + pages)


def _limit(region: Region) -> int:
    return region.config.limit * region.page_size


def _held(region: Region) -> int:
    return int(region.stats()["resident"]) * region.page_size


def _share(region: Region, misses: int) -> Share:
    least = min(region.nbytes, LEAST_PAGES * region.page_size)
    return Share(_limit(region), least, region.nbytes, misses)
