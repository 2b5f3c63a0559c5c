"""hyperbolic: evict the page with the fewest references per time in the cache.

Time is the number of the reference, counted from 0. A page that comes in at reference t0 has
n = 1; each hit adds 1. At the miss of reference t its priority is n / (t - t0); t - t0 >= 1.
Compared exactly, without division: page a goes before page b if n_a * (t - t0_b) <
n_b * (t - t0_a) (64-bit products); equal priority: the one with the smaller t0 (no two
pages share it).

To evict, candidates are taken from the array of resident pages (random.py: insertion appends; a
removed slot is filled by the last element; below(count) of splitmix.py gives an index):
if sample = 0 or count <= sample: all pages, and nothing is drawn; else `sample` indices are
drawn one after the other, with replacement. The candidate of lowest priority leaves.

Source: Blankstein, Sen and Freedman, "Hyperbolic caching: flexible caching for web applications",
ATC 2017. Parameters: sample (default 64; 0 = exact), seed (default 1). C >= 1.
"""

from __future__ import annotations

from .base import Reference
from .splitmix import ResidentArray, SplitMix64


class Hyperbolic(Reference):
    name = "hyperbolic"

    def __init__(self, size: int, sample: int = 64, seed: int = 1) -> None:
        super().__init__(size)
        if sample < 0:
            raise ValueError(f"sample is a number of pages, 0 for all, got {sample}")
        self.sample = sample
        self.rng = SplitMix64(seed)
        self.array = ResidentArray()
        self.references: dict[int, int] = {}
        self.came_in: dict[int, int] = {}
        self.now = 0

    def access(self, page: int) -> bool:
        was_hit = super().access(page)
        self.now += 1
        return was_hit

    def hit(self, page: int) -> None:
        self.references[page] += 1

    def candidates(self) -> list[int]:
        pages = self.array.pages
        if self.sample == 0 or len(pages) <= self.sample:
            return pages
        return [pages[self.rng.below(len(pages))] for _ in range(self.sample)]

    def goes_before(self, a: int, b: int) -> bool:
        """Whether a is the worse of two residents."""
        weight_a = self.references[a] * (self.now - self.came_in[b])
        weight_b = self.references[b] * (self.now - self.came_in[a])
        return (weight_a, self.came_in[a]) < (weight_b, self.came_in[b])

    def evict(self) -> None:
        victim, *others = self.candidates()
        for page in others:
            if self.goes_before(page, victim):
                victim = page
        self.array.remove(victim)
        self.leave(victim)

    def insert(self, page: int) -> None:
        self.array.append(page)
        self.references[page] = 1
        self.came_in[page] = self.now
