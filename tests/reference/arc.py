"""arc: adaptive replacement between recency (T1) and frequency (T2), with ghosts B1 and B2.

All four lists are LRU lists. p, the target size of T1, is an IEEE double in [0, C], at first 0.
Hit in T1 or T2: the page becomes the MRU of T2.
Miss on x, in this order:
  x in B1: p = min(p + max(|B2| / |B1|, 1), C); in B2: p = max(p - max(|B1| / |B2|, 1), 0);
    quotients in double, sizes with x still in its list; then x is removed from it.
  If |T1| + |T2| = C:
    x was a ghost: REPLACE.
    else if |T1| + |B1| + 1 > C: if B1 is not empty, drop its LRU, then REPLACE;
         if B1 is empty, the LRU of T1 leaves, and no ghost is kept of it.
    else: if |T1| + |T2| + |B1| + |B2| >= 2C, drop the LRU of B2 (if any); then REPLACE.
  x becomes the MRU of T2 if it was a ghost, else of T1.
REPLACE: if T1 is not empty and (|T1| > p, or |T1| = p and x was in B2), or if T2 is empty: the LRU
of T1 leaves and becomes the MRU of B1; else the LRU of T2 leaves and becomes the MRU of B2.

Bounds: |T1| + |B1| <= C, all four together <= 2C.
Source: Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003;
definition in expected.json. No parameters. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class Arc(Reference):
    name = "arc"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.t1: OrderedDict[int, None] = OrderedDict()  # each: LRU first
        self.t2: OrderedDict[int, None] = OrderedDict()
        self.b1: OrderedDict[int, None] = OrderedDict()
        self.b2: OrderedDict[int, None] = OrderedDict()
        self.p = 0.0

    def hit(self, page: int) -> None:
        self.t1.pop(page, None)
        self.t2[page] = None
        self.t2.move_to_end(page)

    def miss(self, page: int) -> None:
        in_b1, in_b2 = page in self.b1, page in self.b2
        if in_b1:
            self.p = min(self.p + max(len(self.b2) / len(self.b1), 1.0), float(self.size))
            del self.b1[page]
        elif in_b2:
            self.p = max(self.p - max(len(self.b1) / len(self.b2), 1.0), 0.0)
            del self.b2[page]
        if self.full():
            if in_b1 or in_b2:
                self.replace(in_b2)
            else:
                self.make_room_for_stranger()
        (self.t2 if in_b1 or in_b2 else self.t1)[page] = None

    def make_room_for_stranger(self) -> None:
        if len(self.t1) + len(self.b1) + 1 > self.size:
            if not self.b1:
                victim, _ = self.t1.popitem(last=False)
                self.leave(victim)
                return
            self.b1.popitem(last=False)
        elif self.b2 and len(self.resident) + len(self.b1) + len(self.b2) >= 2 * self.size:
            self.b2.popitem(last=False)
        self.replace(False)

    def replace(self, in_b2: bool) -> None:
        over = len(self.t1) > self.p or (len(self.t1) == self.p and in_b2)
        cache, ghosts = (
            (self.t1, self.b1) if (self.t1 and over) or not self.t2 else (self.t2, self.b2)
        )
        victim, _ = cache.popitem(last=False)
        self.leave(victim)
        ghosts[victim] = None
