"""lirs: low inter-reference recency set."""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference

LIR, HIR, GONE = "LIR", "resident HIR", "non-resident HIR"


class Lirs(Reference):
    name = "lirs"
    minimum = 2

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.lir_most = size - max(1, size // 100)
        self.lir_count = 0
        self.stack: OrderedDict[int, str] = OrderedDict()  # S, bottom (least recent) first
        self.queue: OrderedDict[int, None] = OrderedDict()  # Q, least recent first
        self.gone: OrderedDict[int, None] = OrderedDict()  # non-resident in S, first to go first

    def access(self, page: int) -> bool:
        was_hit = super().access(page)
        while len(self.stack) > 2 * self.size:
            oldest, _ = self.gone.popitem(last=False)
            del self.stack[oldest]
        return was_hit

    def hit(self, page: int) -> None:
        state = self.stack.get(page)
        if state == LIR:
            self.stack.move_to_end(page)
            self.prune()
        elif state == HIR:
            del self.queue[page]
            self.promote(page)
        else:
            self.make_room_in_lir()
            self.push_hir(page)

    def miss(self, page: int) -> None:
        known = page in self.stack
        if known:
            del self.gone[page]
        while self.full():
            self.evict()
        if known or self.lir_count < self.lir_most:
            self.promote(page)
        else:
            self.push_hir(page)

    def promote(self, page: int) -> None:
        """The page becomes LIR, at the top of S."""
        self.stack.pop(page, None)
        self.make_room_in_lir()
        self.stack[page] = LIR
        self.lir_count += 1

    def push_hir(self, page: int) -> None:
        """The page becomes resident HIR, at the top of S and the end of Q."""
        self.stack[page] = HIR
        self.queue[page] = None
        self.queue.move_to_end(page)

    def make_room_in_lir(self) -> None:
        """Demote the bottom of S while LIR has no room for one more."""
        while self.lir_count >= self.lir_most:
            page, _ = self.stack.popitem(last=False)
            self.lir_count -= 1
            self.queue[page] = None
            self.prune()

    def prune(self) -> None:
        """Take HIR pages off the bottom of S."""
        while self.stack:
            page, state = next(iter(self.stack.items()))
            if state == LIR:
                return
            del self.stack[page]
            self.gone.pop(page, None)

    def evict(self) -> None:
        victim, _ = self.queue.popitem(last=False)
        if victim in self.stack:
            self.stack[victim] = GONE
            self.gone[victim] = None
        self.leave(victim)
