"""What every reference policy shares: the set of resident pages and the order of a reference.

Pages are integers and all of one size; a cache holds at most C of them (`size`).
For every reference, in this order:

    resident   the policy's hit() is called; the reference counts as a hit
    otherwise  the policy's miss() is called; the reference counts as a miss:
               ghosts are consulted -> pages are evicted while C are resident -> the page
               is inserted

Every reference counts, also those that fill the empty cache. A page is always inserted: memory
cannot bypass. Where a definition says otherwise (CAR), its file says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class Step(NamedTuple):
    """What one reference did: the page, hit or miss, and the pages evicted, in order."""

    page: int
    hit: bool
    evicted: tuple[int, ...]


class Reference(ABC):
    """One cache of `size` frames. Subclasses keep the order; this class keeps who is resident.

    Raises ValueError where `size` is below the policy's `minimum`.
    """

    name: ClassVar[str]
    minimum: ClassVar[int] = 1

    def __init__(self, size: int) -> None:
        if size < self.minimum:
            raise ValueError(f"{self.name} needs at least {self.minimum} frames, got {size}")
        self.size = size
        self.most = size  # never more resident than this
        self.resident: set[int] = set()
        self.evicted: list[int] = []

    @classmethod
    def for_trace(cls, trace: Sequence[int], size: int, **params: int) -> Reference:
        """A cache for this trace. Only an offline policy looks at the trace."""
        return cls(size, **params)

    def access(self, page: int) -> bool:
        """Reference a page. True where it was resident; `evicted` lists who left for it."""
        self.evicted = []
        if page in self.resident:
            self.hit(page)
            return True
        self.miss(page)
        self.resident.add(page)
        if len(self.resident) > self.most:
            raise AssertionError(f"{self.name} holds {len(self.resident)} of {self.most} pages")
        return False

    def miss(self, page: int) -> None:
        """Make room and insert. A policy with ghosts does this in its own way."""
        while self.full():
            self.evict()
        self.insert(page)

    def full(self) -> bool:
        return len(self.resident) >= self.size

    def leave(self, page: int) -> None:
        """Record that a page is evicted. KeyError where it was not resident."""
        self.resident.remove(page)
        self.evicted.append(page)

    @abstractmethod
    def hit(self, page: int) -> None:
        """A resident page was referenced."""

    def evict(self) -> None:
        """Evict exactly one page, and call leave() for it."""
        raise NotImplementedError

    def insert(self, page: int) -> None:
        """Take in a page that is not resident; there is room."""
        raise NotImplementedError
