"""2q: full 2Q: a FIFO for pages seen once, an LRU for those seen again after they left it.

A1in (resident, FIFO) aims at nin = floor(C / 4) pages, A1out (ids only, FIFO) holds at most
nout = floor(C / 2), Am (resident, LRU) has the rest; its target is not enforced by itself.
Hit in A1in: nothing. Hit in Am: the page becomes its MRU. Miss on x: if x is in A1out, it is
removed from there, and is bound for Am. Then evict while C pages are resident: if Am is not empty
and |A1in| <= nin, the LRU of Am (its id is not kept); else the oldest of A1in, whose id becomes
the newest of A1out (first the oldest of A1out is dropped if nout ids are there; nothing is kept if
nout = 0). Then x becomes the MRU of Am, or the newest of A1in.

Source: Johnson and Shasha, "2Q: a low overhead high performance buffer management replacement
algorithm", VLDB 1994; definition in expected.json. No parameters. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class TwoQ(Reference):
    name = "2q"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.in_most = size // 4
        self.out_most = size // 2
        self.a1in: OrderedDict[int, None] = OrderedDict()  # each: oldest, or LRU, first
        self.a1out: OrderedDict[int, None] = OrderedDict()
        self.am: OrderedDict[int, None] = OrderedDict()

    def hit(self, page: int) -> None:
        if page in self.am:
            self.am.move_to_end(page)

    def miss(self, page: int) -> None:
        seen = page in self.a1out
        if seen:
            del self.a1out[page]
        while self.full():
            self.evict()
        (self.am if seen else self.a1in)[page] = None

    def evict(self) -> None:
        if self.am and len(self.a1in) <= self.in_most:
            victim, _ = self.am.popitem(last=False)
        else:
            victim, _ = self.a1in.popitem(last=False)
            self.remember(victim)
        self.leave(victim)

    def remember(self, page: int) -> None:
        if self.out_most == 0:
            return
        if len(self.a1out) == self.out_most:
            self.a1out.popitem(last=False)
        self.a1out[page] = None
