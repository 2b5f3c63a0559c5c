"""random: evict any resident page, all with the same chance.

Resident pages stand in an array. Insertion appends. To evict: index = below(count), see
splitmix.py, with count = pages resident (one draw for every eviction, also when count is 1);
that page leaves and the last element of the array takes its slot. Hits do nothing.

Parameters: seed (default 1), of the splitmix64 stream. C >= 1.
"""

from __future__ import annotations

from .base import Reference
from .splitmix import ResidentArray, SplitMix64


class Random(Reference):
    name = "random"

    def __init__(self, size: int, seed: int = 1) -> None:
        super().__init__(size)
        self.rng = SplitMix64(seed)
        self.array = ResidentArray()

    def hit(self, page: int) -> None:
        pass

    def evict(self) -> None:
        victim = self.array.pages[self.rng.below(len(self.array))]
        self.array.remove(victim)
        self.leave(victim)

    def insert(self, page: int) -> None:
        self.array.append(page)
