"""lpet: the Low Priority Eviction Thread's walk: CLOCK with rounds.

Resident pages stand in a cyclic list in order of insertion; the hand stands before the page it
will look at next, and stays where it is between two reclaims. A page is idle or not idle. It comes
in not idle, just behind the hand (it is the last one the hand will reach); a hit makes it not idle
and moves nothing.

A reclaim begins at a miss when `size` pages (the high watermark) are resident, before the page
of the miss is inserted, and ends when `low` pages are. Let R = pages resident when it begins.
The hand looks at the next page: if the page is not idle and the reclaim has made fewer than R
steps so far, it is marked idle and the hand goes past it; else it is evicted, and the hand stands
before the page that follows. Either one is a step. (So after one whole round the hand evicts
whatever it meets, and the reclaim always ends.)

As a classical cache low = size - 1: one page is evicted at a time, and lpet is CLOCK whose pages
come in with the bit set.

Source: seed/FACTS.md, "LPET". Parameters: low (default size - 1; 0 to size - 1). C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class Lpet(Reference):
    name = "lpet"

    def __init__(self, size: int, low: int | None = None) -> None:
        super().__init__(size)
        self.low = size - 1 if low is None else low
        if not 0 <= self.low < size:
            raise ValueError(f"low must be below the {size} frames, got {low}")
        self.idle: OrderedDict[int, bool] = OrderedDict()  # the hand stands before the first

    def hit(self, page: int) -> None:
        self.idle[page] = False

    def miss(self, page: int) -> None:
        if self.full():
            self.reclaim()
        self.idle[page] = False

    def reclaim(self) -> None:
        one_round = len(self.resident)
        steps = 0
        while len(self.resident) > self.low:
            page, idle = self.idle.popitem(last=False)
            if not idle and steps < one_round:
                self.idle[page] = True
            else:
                self.leave(page)
            steps += 1
