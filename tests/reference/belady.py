"""belady: the offline optimum: evict the page whose next reference is farthest away.

A page that is never referenced again is farthest of all. Among several of those any may leave: the
choice cannot change a miss count, so eviction sequences are not to be compared for them (here
it is the largest id). The page of the miss is always inserted, never bypassed.

Source: Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
Journal 1966; definition in expected.json. No parameters. C >= 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from .base import Reference


class Belady(Reference):
    name = "belady"

    def __init__(self, size: int, trace: Sequence[int]) -> None:
        super().__init__(size)
        self.never = len(trace)
        self.following = self.next_references(trace)  # by reference: when its page is next used
        self.now = 0
        self.next_of: dict[int, int] = {}  # the true one, by resident page
        self.farthest: list[tuple[int, int]] = []  # heap of (-next, -page), some out of date

    @classmethod
    def for_trace(cls, trace: Sequence[int], size: int, **params: int) -> Belady:
        return cls(size, trace, **params)

    @staticmethod
    def next_references(trace: Sequence[int]) -> list[int]:
        following = [len(trace)] * len(trace)
        later: dict[int, int] = {}
        for index in range(len(trace) - 1, -1, -1):
            following[index] = later.get(trace[index], len(trace))
            later[trace[index]] = index
        return following

    def access(self, page: int) -> bool:
        was_hit = super().access(page)
        self.next_of[page] = self.following[self.now]
        heappush(self.farthest, (-self.next_of[page], -page))
        self.now += 1
        return was_hit

    def hit(self, page: int) -> None:
        pass

    def insert(self, page: int) -> None:
        pass

    def evict(self) -> None:
        while True:
            when, page = heappop(self.farthest)
            if self.next_of.get(-page) == -when:
                del self.next_of[-page]
                self.leave(-page)
                return
