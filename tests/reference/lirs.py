"""lirs: low inter-reference recency set.

hirs = max(1, floor(C / 100)) frames for HIR pages, lirs = C - hirs for LIR ones; Nlir = LIR now.
Stack S: recency order of LIR, resident HIR and non-resident HIR pages; its bottom, after
each pruning, is LIR. Queue Q: the resident HIR pages, LRU order, never more than hirs of them.
PRUNE: while the bottom of S is not LIR, take it off S. DEMOTE, while Nlir >= lirs: take the bottom
of S (LIR) off S; if |Q| = hirs then EVICT; it joins Q at the MRU end as resident HIR; PRUNE.
EVICT: the LRU of Q leaves; if it is in S it stays there as non-resident, else it is forgotten.

Reference to x:
  LIR (hit): x to the top of S; PRUNE.
  Resident HIR in S (hit): x leaves Q and goes to the top of S; DEMOTE; x becomes LIR.
  Resident HIR not in S (hit): x becomes the MRU of Q; with quirk: DEMOTE; x is pushed on S as HIR.
  Non-resident HIR in S (miss): x to the top of S; DEMOTE; x becomes LIR.
  In neither (miss): if Nlir >= lirs and |Q| >= hirs: EVICT. Then if Nlir < lirs: x is pushed on S
      as LIR; else x is pushed on S as HIR and joins Q at the MRU end.
  After each: while |S| > 2C and S has non-resident entries: that which became non-resident first is
      taken off S (nothing is pruned by it).

A page that becomes LIR where there was none (lirs = 1, after a demotion): PRUNE.

The paper demotes nothing when a page of Q that is not in S is hit. The implementation behind
the counts of expected.json does, although x stays HIR, and this is the default. Two effects:
the demotion may EVICT on a hit, and the next stranger becomes LIR (C - 1 are resident until then).
With hirs = 1 (C < 200) it would push out x itself: that is what quirk decides.

Parameters: quirk (default 2).
  0  as the paper: no DEMOTE at that hit.
  1  DEMOTE at that hit if hirs >= 2; as the paper if hirs = 1. Never more than C resident.
  2  DEMOTE at that hit always. With hirs = 1, x leaves Q, but counts as resident as long as it is
     in S: more than C pages are then resident at times (75 of 70 on lirs_sprite), which no
     memory can do. Only for comparison: this is how expected.json was computed. 1 and 2 are the
     same from C = 200 on.

Source: Jiang and Zhang, "LIRS: an efficient low inter-reference recency set replacement policy",
SIGMETRICS 2002; definition in expected.json. C >= 2 (one frame cannot be both LIR and HIR).
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference

LIR, HIR, GONE = "LIR", "resident HIR", "non-resident HIR"


class Lirs(Reference):
    name = "lirs"
    minimum = 2

    def __init__(self, size: int, quirk: int = 2) -> None:
        super().__init__(size)
        if quirk not in (0, 1, 2):
            raise ValueError(f"quirk is 0, 1 or 2, got {quirk}")
        self.hir_most = max(1, size // 100)
        self.lir_most = size - self.hir_most
        self.demotes_at_queue_hit = quirk == 2 or (quirk == 1 and self.hir_most > 1)
        if quirk == 2:
            self.most = 2 * size
        self.lir_count = 0
        self.stack: OrderedDict[int, str] = OrderedDict()  # S, bottom (least recent) first
        self.queue: OrderedDict[int, None] = OrderedDict()  # Q, least recent first
        self.gone: OrderedDict[int, None] = OrderedDict()  # non-resident in S, first to go first

    def access(self, page: int) -> bool:
        was_hit = super().access(page)
        while len(self.stack) > 2 * self.size and self.gone:
            oldest, _ = self.gone.popitem(last=False)
            del self.stack[oldest]
        return was_hit

    def hit(self, page: int) -> None:
        state = self.stack.get(page)
        if state == LIR:
            self.stack.move_to_end(page)
            self.prune()
        elif state == HIR:
            self.queue.pop(page, None)  # quirk 2 keeps pages that are in S alone
            self.promote(page)
        else:
            self.hit_in_queue_alone(page)

    def hit_in_queue_alone(self, page: int) -> None:
        self.queue.move_to_end(page)
        if self.demotes_at_queue_hit:
            self.demote()
        self.stack[page] = HIR
        if page not in self.queue:  # quirk 2 with hirs = 1: it stays without a frame
            self.evicted.remove(page)
            self.resident.add(page)

    def miss(self, page: int) -> None:
        if page in self.stack:
            self.promote(page)
            return
        if self.lir_count >= self.lir_most and len(self.queue) >= self.hir_most:
            self.evict()
        if self.lir_count < self.lir_most:
            self.promote(page)
        else:
            self.stack[page] = HIR
            self.queue[page] = None

    def promote(self, page: int) -> None:
        """The page becomes LIR, at the top of S."""
        self.stack.pop(page, None)
        self.gone.pop(page, None)
        self.demote()
        self.stack[page] = LIR
        self.lir_count += 1
        if self.lir_count == 1:
            self.prune()

    def demote(self) -> None:
        """Make room for one more LIR page."""
        while self.lir_count >= self.lir_most:
            page, _ = self.stack.popitem(last=False)
            self.lir_count -= 1
            if len(self.queue) == self.hir_most:
                self.evict()
            self.queue[page] = None
            self.prune()

    def prune(self) -> None:
        while self.stack:
            page, state = next(iter(self.stack.items()))
            if state == LIR:
                return
            del self.stack[page]
            if state == GONE:
                del self.gone[page]
            elif page not in self.queue:  # quirk 2: it had no frame
                self.leave(page)

    def evict(self) -> None:
        victim, _ = self.queue.popitem(last=False)
        if victim in self.stack:
            self.stack[victim] = GONE
            self.gone[victim] = None
        self.leave(victim)
