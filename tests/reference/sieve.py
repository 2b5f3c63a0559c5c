"""sieve: FIFO with a visited bit and a hand that moves past survivors instead of moving them.

Queue in order of insertion, oldest = tail, newest = head. Hit: visited = 1, no move. A new page
comes in at the head with visited = 0. Evict: start at the hand, or at the tail if the hand
stands nowhere; while the page is visited: clear it and step towards the head, from the head on
to the tail. The first unvisited page leaves; the hand then stands at its neighbour towards the
head, or nowhere if it was the head.

Source: Zhang et al., "SIEVE is simpler than LRU", NSDI 2024; definition in expected.json.
No parameters. C >= 1.
"""

from __future__ import annotations

from .base import Reference


class Sieve(Reference):
    name = "sieve"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.visited: dict[int, bool] = {}
        # A linked list, tail to head: the neighbour towards the head, and towards the tail.
        self.newer: dict[int, int | None] = {}
        self.older: dict[int, int | None] = {}
        self.tail: int | None = None
        self.head: int | None = None
        self.hand: int | None = None

    def hit(self, page: int) -> None:
        self.visited[page] = True

    def evict(self) -> None:
        page = self.tail if self.hand is None else self.hand
        assert page is not None
        while self.visited[page]:
            self.visited[page] = False
            after = self.newer[page]
            page = self.tail if after is None else after
            assert page is not None
        self.hand = self.newer[page]
        self.unlink(page)
        self.leave(page)

    def insert(self, page: int) -> None:
        self.visited[page] = False
        self.newer[page], self.older[page] = None, self.head
        if self.head is None:
            self.tail = page
        else:
            self.newer[self.head] = page
        self.head = page

    def unlink(self, page: int) -> None:
        newer, older = self.newer.pop(page), self.older.pop(page)
        if newer is None:
            self.head = older
        else:
            self.older[newer] = older
        if older is None:
            self.tail = newer
        else:
            self.newer[older] = newer
