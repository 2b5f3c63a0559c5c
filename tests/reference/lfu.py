"""lfu: evict the page referenced least often since it came in.

Frequency f is known for resident pages only (lost at eviction). A new page has f = 1, a hit adds
1 (no upper bound). Pages of equal f form a bucket, a queue: a page joins its bucket at the newest
end. Evict the oldest of the bucket of smallest f, that is, the page that has been at that
frequency the longest.

Aging (off where aging = 0): references count from 1. When reference number k with
k mod aging = 0 has been handled completely (its hit counted, or its page inserted), every resident
page's f becomes max(1, f >> 1). Buckets that fall together are joined in ascending order of the
old frequency, each keeping its own order: the new bucket 1 is old 1, then old 2, then old 3; the
new bucket g > 1 is old 2g, then old 2g + 1.

Source: definition in expected.json for aging = 0; periodic halving after Robinson and Devarakonda,
"Data cache management using frequency-based replacement", SIGMETRICS 1990.
Parameters: aging (default 0), in references. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict

from .base import Reference

Bucket = OrderedDict[int, None]  # the page longest at this frequency first


class Lfu(Reference):
    name = "lfu"

    def __init__(self, size: int, aging: int = 0) -> None:
        super().__init__(size)
        if aging < 0:
            raise ValueError(f"aging is a number of references, 0 for none, got {aging}")
        self.aging = aging
        self.references = 0
        self.frequency: dict[int, int] = {}
        self.buckets: defaultdict[int, Bucket] = defaultdict(OrderedDict)

    def access(self, page: int) -> bool:
        was_hit = super().access(page)
        self.references += 1
        if self.aging and self.references % self.aging == 0:
            self.halve()
        return was_hit

    def hit(self, page: int) -> None:
        self.join(page, self.remove(page) + 1)

    def evict(self) -> None:
        victim = next(iter(self.buckets[min(self.buckets)]))
        self.remove(victim)
        self.leave(victim)

    def insert(self, page: int) -> None:
        self.join(page, 1)

    def join(self, page: int, frequency: int) -> None:
        self.frequency[page] = frequency
        self.buckets[frequency][page] = None

    def remove(self, page: int) -> int:
        """Take a page out of its bucket; give the frequency it had."""
        frequency = self.frequency.pop(page)
        del self.buckets[frequency][page]
        if not self.buckets[frequency]:
            del self.buckets[frequency]
        return frequency

    def halve(self) -> None:
        for old in sorted(self.buckets):
            if old > 1:
                for page in list(self.buckets[old]):
                    self.join(page, self.remove(page) >> 1)
