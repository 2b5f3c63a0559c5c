"""SPT: the Stored Page Table. For every page: which instance has it, which units hold a copy."""

from __future__ import annotations

from array import array

NOBODY = -1


class Spt:
    """Pages are numbered over all instances (`base + page`), or once if they share a region.

    A page that nobody has and no unit holds is new, or, if it was stored once, lost. `lost`
    are the pages whose last content is gone; `fragile` those whose owner has the last one.
    """

    def __init__(self, pages: int):
        self.owner = array("i", [NOBODY]) * pages
        self.copies: dict[int, tuple[int, ...]] = {}
        self.fragile: set[int] = set()
        self.lost: set[int] = set()
        self.losses = 0  # pages that ever got lost; a later write makes them known again

    def take(self, page: int, instance: int) -> None:
        """`instance` has the page from now on. A page has one owner at most."""
        owner = self.owner[page]
        if owner not in (NOBODY, instance):
            raise AssertionError(f"page {page} belongs to instance {owner}, not {instance}")
        self.owner[page] = instance

    def give(self, page: int, instance: int) -> None:
        """`instance` no longer has the page: units do, or it was never written, or it is lost."""
        if self.owner[page] != instance:
            raise AssertionError(f"page {page} left instance {instance}, which had it not")
        self.owner[page] = NOBODY
        if page in self.fragile:
            self.fragile.discard(page)
            self.lose(page)

    def stored(self, page: int, units: tuple[int, ...]) -> None:
        """These units hold the page's last content, and no others."""
        self.copies[page] = units
        if self.fragile or self.lost:
            self.fragile.discard(page)
            self.lost.discard(page)

    def unit_lost(self, page: int, unit: int) -> None:
        """`unit` no longer holds the page."""
        left = tuple(u for u in self.copies.get(page, ()) if u != unit)
        if left:
            self.copies[page] = left
        elif self.copies.pop(page, None):
            if self.owner[page] == NOBODY:
                self.lose(page)
            else:
                self.fragile.add(page)

    def lose(self, page: int) -> None:
        """The page's last content is gone."""
        self.lost.add(page)
        self.losses += 1

    def known(self, page: int) -> bool:
        """Whether the page has content somewhere (or had, and lost it)."""
        return self.owner[page] != NOBODY or page in self.copies or page in self.lost
