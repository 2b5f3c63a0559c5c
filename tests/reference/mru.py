"""mru: evict the page referenced most recently.

Pages are ordered by their last reference. A hit makes its page the most recent; so does
insertion. Evict the most recent one (at a miss that is always the page of the reference before).

Source: Chou and DeWitt, "An evaluation of buffer management strategies for relational database
systems", VLDB 1985. No parameters. C >= 1.
"""

from __future__ import annotations

from collections import OrderedDict

from .base import Reference


class Mru(Reference):
    name = "mru"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.order: OrderedDict[int, None] = OrderedDict()  # least recent first

    def hit(self, page: int) -> None:
        self.order.move_to_end(page)

    def evict(self) -> None:
        victim, _ = self.order.popitem(last=True)
        self.leave(victim)

    def insert(self, page: int) -> None:
        self.order[page] = None
