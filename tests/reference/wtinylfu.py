"""wtinylfu: a small LRU window before a segmented LRU, with admission by frequency sketch.

Parts: window W = max(1, floor(C / 100)) frames, LRU. Main M = C - W frames, a segmented LRU:
protected holds at most P = floor(8M / 10), probation the rest.

Reference to x, in this order:
  1. The sketch records x (hit or miss).
  2. Hit in window: x becomes its MRU. Hit in protected: x becomes its MRU. Hit in probation: x
     moves to the MRU end of protected; then, if |protected| > P, the LRU of protected moves to the
     MRU end of probation (x itself where P = 0).
  3. Miss: if |window| = W, let c = LRU of window.
       If M = 0: c is evicted.
       Else if |probation| + |protected| < M: c moves to the MRU end of probation.
       Else let v = LRU of probation (never empty here). If estimate(c) > estimate(v): v is
       evicted and c moves to the MRU end of probation; else (also when equal) c is evicted.
     x becomes the MRU of the window.

Sketch: count-min, 4 rows of w counters of 4 bits; w = the smallest power of two >= max(16, 4C).
All arithmetic on h = hash(x) of splitmix.py (x as unsigned 64 bits): lo = h mod 2^32,
hi = (h >> 32) | 1; in row i (0 to 3) the counter of x is number (lo + i * hi) mod w.
  record(x):   each of its 4 counters below 15 gains 1. additions gains 1 (at first 0). If additions
               has reached 10C: every counter is halved (c >> 1), additions = 5C.
  estimate(x): the least of its 4 counters.
With the doorkeeper (a Bloom filter of 8w bits; bit i of x, i = 0 to 3, is number (lo + i * hi)
mod 8w): record(x) adds to the counters only if all 4 bits are set already, else it sets them;
additions gains 1 either way; estimate(x) is 1 more if all 4 bits are set; halving clears all bits.

Source: Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy", ACM
TOS 2017. Departure: the loser of the contest leaves only when the window must give a frame up,
which is the same decision, made at the miss.
Parameters: doorkeeper (default 0; 1 = on). C >= 1 (C = 1 is a window alone).
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference
from .splitmix import hash64

ROWS = 4


class Sketch:
    """Frequencies of the last references, approximately. Never below the true count since a
    halving, as long as no counter is full."""

    def __init__(self, size: int, doorkeeper: bool) -> None:
        self.width = 16
        while self.width < 4 * size:
            self.width *= 2
        self.rows = [[0] * self.width for _ in range(ROWS)]
        self.door: set[int] | None = set() if doorkeeper else None  # bits that are set
        self.sample = 10 * size
        self.additions = 0

    @staticmethod
    def slots(page: int, count: int) -> list[int]:
        h = hash64(page)
        low, high = h & 0xFFFFFFFF, (h >> 32) | 1
        return [(low + i * high) % count for i in range(ROWS)]

    def record(self, page: int) -> None:
        bits = self.slots(page, 8 * self.width)
        if self.door is None or self.door.issuperset(bits):
            for row, slot in zip(self.rows, self.slots(page, self.width), strict=True):
                row[slot] = min(row[slot] + 1, 15)
        else:
            self.door.update(bits)
        self.additions += 1
        if self.additions == self.sample:
            self.halve()

    def halve(self) -> None:
        self.rows = [[count >> 1 for count in row] for row in self.rows]
        self.additions = self.sample // 2
        if self.door is not None:
            self.door.clear()

    def estimate(self, page: int) -> int:
        slots = self.slots(page, self.width)
        least = min(row[slot] for row, slot in zip(self.rows, slots, strict=True))
        known = self.door is not None and self.door.issuperset(self.slots(page, 8 * self.width))
        return least + known


class WTinyLfu(Reference):
    name = "wtinylfu"

    def __init__(self, size: int, doorkeeper: int = 0) -> None:
        super().__init__(size)
        self.window_most = max(1, size // 100)
        self.main_most = size - self.window_most
        self.protected_most = self.main_most * 8 // 10
        self.window: OrderedDict[int, None] = OrderedDict()  # each: LRU first
        self.probation: OrderedDict[int, None] = OrderedDict()
        self.protected: OrderedDict[int, None] = OrderedDict()
        self.sketch = Sketch(size, bool(doorkeeper))

    def access(self, page: int) -> bool:
        self.sketch.record(page)
        return super().access(page)

    def hit(self, page: int) -> None:
        if page in self.window:
            self.window.move_to_end(page)
        elif page in self.protected:
            self.protected.move_to_end(page)
        else:
            del self.probation[page]
            self.protected[page] = None
            if len(self.protected) > self.protected_most:
                demoted, _ = self.protected.popitem(last=False)
                self.probation[demoted] = None

    def miss(self, page: int) -> None:
        if len(self.window) == self.window_most:
            candidate, _ = self.window.popitem(last=False)
            self.admit(candidate)
        self.window[page] = None

    def admit(self, candidate: int) -> None:
        """The window's LRU page goes to the main part, or leaves."""
        if self.main_most == 0:
            self.leave(candidate)
        elif len(self.probation) + len(self.protected) < self.main_most:
            self.probation[candidate] = None
        else:
            victim = next(iter(self.probation))
            if self.sketch.estimate(candidate) > self.sketch.estimate(victim):
                del self.probation[victim]
                self.leave(victim)
                self.probation[candidate] = None
            else:
                self.leave(candidate)
