"""fifo: evict the page that came in first. Hits do nothing.

Source: definition in expected.json. No parameters. C >= 1.
"""

from __future__ import annotations

from collections import deque

from .base import Reference


class Fifo(Reference):
    name = "fifo"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.queue: deque[int] = deque()  # oldest first

    def hit(self, page: int) -> None:
        pass

    def evict(self) -> None:
        self.leave(self.queue.popleft())

    def insert(self, page: int) -> None:
        self.queue.append(page)
