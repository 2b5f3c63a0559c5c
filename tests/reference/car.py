"""car: CLOCK with adaptive replacement.

Clocks T1 and T2 (resident; a queue each, the hand at its oldest page; every page with a bit)
and ghost lists B1 and B2 (ids, oldest first; LRU = oldest, MRU = newest). p, the target size of
T1, is an IEEE double in [0, C], at first 0.

Hit: the page's bit becomes 1; nothing moves.
Miss on x, in this order (the paper's; sizes are those of the moment they are used):
  1. If |T1| + |T2| = C: REPLACE; then, only if x is in neither B1 nor B2:
     if |T1| + |B1| = C drop the oldest of B1,
     else if |T1| + |T2| + |B1| + |B2| = 2C drop the oldest of B2.
  2. x in neither: x becomes the newest of T1, bit 0.
     x in B1: p = min(p + max(1, |B2| / |B1|), C); x leaves B1, becomes the newest of T2, bit 0.
     x in B2: p = max(p - max(1, |B1| / |B2|), 0); x leaves B2, becomes the newest of T2, bit 0.
     (Quotients in double, sizes before x is removed and after REPLACE.)
REPLACE, until one page has left: if |T1| >= max(1, p): take the oldest of T1; bit 0: it
leaves, its id becomes the newest of B1; bit 1: it becomes the newest of T2 with bit 0.
Else take the oldest of T2; bit 0: it leaves, its id becomes the newest of B2; bit 1: it becomes the
newest of T2 again with bit 0.

Bounds: |T1| + |B1| <= C, all four together <= 2C.
Source: Bansal and Modha, "CAR: Clock with Adaptive Replacement", FAST 2004, figure 2.
No parameters. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class Car(Reference):
    name = "car"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.t1: OrderedDict[int, bool] = OrderedDict()
        self.t2: OrderedDict[int, bool] = OrderedDict()
        self.b1: OrderedDict[int, None] = OrderedDict()
        self.b2: OrderedDict[int, None] = OrderedDict()
        self.p = 0.0

    def hit(self, page: int) -> None:
        (self.t1 if page in self.t1 else self.t2)[page] = True

    def miss(self, page: int) -> None:
        in_b1, in_b2 = page in self.b1, page in self.b2
        if self.full():
            self.evict()
            if not in_b1 and not in_b2:
                self.bound_ghosts()
        if in_b1:
            self.p = min(self.p + max(1.0, len(self.b2) / len(self.b1)), float(self.size))
            del self.b1[page]
            self.t2[page] = False
        elif in_b2:
            self.p = max(self.p - max(1.0, len(self.b1) / len(self.b2)), 0.0)
            del self.b2[page]
            self.t2[page] = False
        else:
            self.t1[page] = False

    def bound_ghosts(self) -> None:
        if len(self.t1) + len(self.b1) == self.size:
            self.b1.popitem(last=False)
        elif len(self.t1) + len(self.t2) + len(self.b1) + len(self.b2) == 2 * self.size:
            self.b2.popitem(last=False)

    def evict(self) -> None:
        while True:
            if len(self.t1) >= max(1.0, self.p):
                clock, ghosts = self.t1, self.b1
            else:
                clock, ghosts = self.t2, self.b2
            page, referenced = clock.popitem(last=False)
            if not referenced:
                self.leave(page)
                ghosts[page] = None
                return
            self.t2[page] = False
