"""fifo-reinsertion: FIFO whose pages carry an n-bit counter of hits (generalised CLOCK).

Queue in order of insertion; a new page enters as the newest with counter 0. Hit:
counter = min(counter + 1, 2^bits - 1), no move. Evict: take the oldest; if its counter is above 0,
decrement it and re-insert the page as the newest, and repeat; else evict it.

Source: Smith, "Sequentiality and prefetching in database systems", TODS 1978 (GCLOCK).
Parameters: bits (default 2; 1 to 8). bits=1 is clock. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class FifoReinsertion(Reference):
    name = "fifo-reinsertion"

    def __init__(self, size: int, bits: int = 2) -> None:
        super().__init__(size)
        if not 1 <= bits <= 8:
            raise ValueError(f"fifo-reinsertion counts with 1 to 8 bits, got {bits}")
        self.counter_most = (1 << bits) - 1
        self.counter: OrderedDict[int, int] = OrderedDict()  # oldest first

    def hit(self, page: int) -> None:
        self.counter[page] = min(self.counter[page] + 1, self.counter_most)

    def evict(self) -> None:
        while True:
            page, count = self.counter.popitem(last=False)
            if count == 0:
                self.leave(page)
                return
            self.counter[page] = count - 1

    def insert(self, page: int) -> None:
        self.counter[page] = 0
