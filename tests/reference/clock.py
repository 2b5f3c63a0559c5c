"""clock: second chance with one bit; a new page enters with its bit 0.

A frame array and a hand. A hit sets the page's bit. Evict: the hand clears set bits and goes on,
and stops at the first 0; that page leaves, the new page takes its frame with bit 0, and the
hand moves one past it. (The same as FIFO with re-insertion and a counter of one bit.)

Source: Corbato, "A paging experiment with the Multics system", 1968; definition in expected.json.
No parameters. C >= 1.
"""

from __future__ import annotations

from .base import Reference


class Clock(Reference):
    name = "clock"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.frames: list[int] = []
        self.bit: dict[int, bool] = {}
        self.hand = 0

    def hit(self, page: int) -> None:
        self.bit[page] = True

    def miss(self, page: int) -> None:
        self.bit[page] = False
        if not self.full():
            self.frames.append(page)
            return
        while self.bit[self.frames[self.hand]]:
            self.bit[self.frames[self.hand]] = False
            self.hand = (self.hand + 1) % self.size
        self.leave(self.frames[self.hand])
        self.frames[self.hand] = page
        self.hand = (self.hand + 1) % self.size
