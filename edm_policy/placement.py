"""Placement: on which of several memory units a page goes (c/ring.c), the same in both worlds."""

from __future__ import annotations

from edm_policy._core import ffi, lib
from edm_policy.errors import UsageError


class Ring:
    """Consistent hashing of pages over `units` memory units, numbered from 0.

    Each unit has 128 points on the ring. With a unit more, about 1 / n of the pages move, all of
    them to it. Karger et al., STOC 1997. Raises UsageError for fewer than 1 unit or more than 16.
    """

    def __init__(self, units: int):
        if not 1 <= units <= lib.EDM_RING_UNITS:
            raise UsageError(f"a ring of {units} units: it takes 1 to {lib.EDM_RING_UNITS}")
        self.units = units
        self._ring = ffi.new("edm_ring *")
        lib.edm_ring_make(self._ring, units)
        self._order = ffi.new("uint8_t[]", units)

    def first(self, page: int) -> int:
        """The page's unit."""
        return int(lib.edm_ring_first(self._ring, page))

    def order(self, page: int) -> list[int]:
        """All units, the page's own first: where it goes when those before are down or full."""
        lib.edm_ring_order(self._ring, page, self._order)
        return list(self._order)
