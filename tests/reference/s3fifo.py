"""s3fifo: a small and a main FIFO with a ghost queue, as revised in 12/2024.

ns = max(1, floor(C / 10)), nm = C - floor(C / 10), ng = floor(9C / 10) ids in the ghost FIFO.
Hit in small or main: counter += 1 (no bound); nothing moves.
Miss on x: if x is a ghost it is removed from there, and bound for main. Evict while C pages are
resident. Then x comes in with counter 0: as the newest of main if it was a ghost; else, if
nothing has ever been evicted (by the state after the evictions just made) and |small| >= ns, as
the newest of main too; else as the newest of small.
Evict one page: if |main| > nm or small is empty: take the oldest of main; counter >= 1: it
becomes the newest of main with counter min(counter, 3) - 1, and repeat from taking the oldest of
main; else it is gone. Otherwise take the oldest of small; counter >= 2: it becomes the newest of
main with counter 0 (main may exceed nm), and repeat from taking the oldest of small, if
there is one, or else from the beginning; else its id becomes the newest ghost (not kept if ng = 0;
an id already there is not moved; the oldest is dropped if ng are there), and it is gone.

The definition in expected.json never inserts a page where floor(C / 10) <= 1, so that a cache of
less than 20 frames misses always. Memory cannot bypass: here those sizes work as any other.
From 20 frames on the two are one.

Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, as revised in
libCacheSim in 12/2024 (threshold 2, filling of main at the start); definition in expected.json.
No parameters. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class S3Fifo(Reference):
    name = "s3fifo"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.small_most = max(1, size // 10)
        self.main_most = size - size // 10
        self.ghost_most = 9 * size // 10
        self.small: OrderedDict[int, int] = OrderedDict()  # page -> counter, oldest first
        self.main: OrderedDict[int, int] = OrderedDict()
        self.ghost: OrderedDict[int, None] = OrderedDict()
        self.ever_evicted = False

    def hit(self, page: int) -> None:
        (self.small if page in self.small else self.main)[page] += 1

    def miss(self, page: int) -> None:
        known = page in self.ghost
        if known:
            del self.ghost[page]
        while self.full():
            self.evict()
        filling = not self.ever_evicted and len(self.small) >= self.small_most
        (self.main if known or filling else self.small)[page] = 0

    def evict(self) -> None:
        self.ever_evicted = True
        if len(self.main) > self.main_most or not self.small or not self.evict_small():
            self.evict_main()

    def evict_main(self) -> None:
        while True:
            page, counter = self.main.popitem(last=False)
            if counter == 0:
                self.leave(page)
                return
            self.main[page] = min(counter, 3) - 1

    def evict_small(self) -> bool:
        """Evict from small. False where all of it moved to main instead."""
        while self.small:
            page, counter = self.small.popitem(last=False)
            if counter < 2:
                self.remember(page)
                self.leave(page)
                return True
            self.main[page] = 0
        return False

    def remember(self, page: int) -> None:
        if self.ghost_most == 0 or page in self.ghost:
            return
        if len(self.ghost) == self.ghost_most:
            self.ghost.popitem(last=False)
        self.ghost[page] = None
