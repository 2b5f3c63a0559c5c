"""lru: evict the page whose last reference is longest ago.

A hit makes its page the most recent; so does insertion. Evict the least recent.

Source: Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 1970;
definition in expected.json. No parameters. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class Lru(Reference):
    name = "lru"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.order: OrderedDict[int, None] = OrderedDict()  # least recent first

    def hit(self, page: int) -> None:
        self.order.move_to_end(page)

    def evict(self) -> None:
        victim, _ = self.order.popitem(last=False)
        self.leave(victim)

    def insert(self, page: int) -> None:
        self.order[page] = None
