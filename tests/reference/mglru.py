"""mglru: generations as Linux's multi-generational LRU keeps them, simplified.

Resident pages stand in generations numbered min..max, each a queue (oldest first); every page
has an accessed bit. At least 2 and at most 4 generations exist: 2 <= max - min + 1 <= 4. At
first min = 0, max = 3, all empty.

Hit: accessed = 1; nothing moves. Insertion: newest of generation max, accessed = 0 (the
fault's own access has put it there).

Evict one page; total = pages resident now. Repeat from the top until one has left:
  1. While generation min is empty and max - min + 1 > 2: min += 1.
  2. If aging is due: AGE, and start again from 1. Aging is due
     with 2 generations: always;
     with 3: if 2 * |generation max| > total, or 4 * |generation min| < total;
     with 4: never.
  3. Take the oldest page of generation min (not empty here: with 3 generations
     4 * 0 < total would be due, and with 4, step 1 has passed it). accessed = 1 (the second look):
     accessed = 0, it becomes the newest of generation max. Else it is evicted.
AGE: for every generation from min to max - 1 in that order, each page of it from oldest to
newest with accessed = 1 becomes the newest of generation max with accessed = 0. The pages that
generation max held before have their bit cleared and keep their place. Then max += 1 opens an
empty generation.

Source: Linux mm/vmscan.c (lru_gen: try_to_inc_max_seq, should_run_aging of 6.1, sort_folio,
evict_folios) and Documentation/mm/multigen_lru.rst; MIN_NR_GENS = 2, MAX_NR_GENS = 4. Departures:
one page at a time; no tiers and no PID controller; no file pages; every aging walks all
pages (no Bloom filters).
No parameters. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference

MIN_GENERATIONS = 2
MAX_GENERATIONS = 4


class Mglru(Reference):
    name = "mglru"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        # From oldest to youngest; each maps page -> accessed, oldest page first.
        self.generations: list[OrderedDict[int, bool]] = [
            OrderedDict() for _ in range(MAX_GENERATIONS)
        ]
        self.generation_of: dict[int, OrderedDict[int, bool]] = {}

    def hit(self, page: int) -> None:
        self.generation_of[page][page] = True

    def insert(self, page: int) -> None:
        self.to_youngest(page)

    def to_youngest(self, page: int) -> None:
        self.generations[-1][page] = False
        self.generation_of[page] = self.generations[-1]

    def evict(self) -> None:
        while True:
            while not self.generations[0] and len(self.generations) > MIN_GENERATIONS:
                self.generations.pop(0)
            if self.aging_is_due():
                self.age()
                continue
            page, accessed = self.generations[0].popitem(last=False)
            if not accessed:
                del self.generation_of[page]
                self.leave(page)
                return
            self.to_youngest(page)

    def aging_is_due(self) -> bool:
        total = len(self.resident)
        if len(self.generations) == MIN_GENERATIONS:
            return True
        if len(self.generations) == MAX_GENERATIONS:
            return False
        return 2 * len(self.generations[-1]) > total or 4 * len(self.generations[0]) < total

    def age(self) -> None:
        youngest = self.generations[-1]
        for page in youngest:
            youngest[page] = False
        for generation in self.generations[:-1]:
            for page in [page for page, accessed in generation.items() if accessed]:
                del generation[page]
                self.to_youngest(page)
        self.generations.append(OrderedDict())
