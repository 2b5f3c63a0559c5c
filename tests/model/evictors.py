"""The hooks of lpet, fifo, lru and random, in plain Python.

`choose` takes a victim out, or gives NONE (there is none) or AGAIN (carry out the commands
first). `host` is the model pager: it knows what is takeable and whether a page was used.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from reference.splitmix import ResidentArray, SplitMix64

NONE, AGAIN = -1, -2
UNUSED, USED, BUSY = 0, 1, 2


class Host(Protocol):
    observe: str
    session: int
    ref: set[int]
    commands: list[tuple[str, int, int]]

    def state(self, page: int) -> str: ...
    def used(self, page: int) -> int: ...
    def takeable(self, page: int) -> bool: ...


class Fifo:
    """First in, first out."""

    def __init__(self, host: Host, seed: int):
        self.host = host
        self.order: list[int] = []  # oldest first

    def insert(self, page: int) -> None:
        self.order.append(page)

    keep = insert

    def touch(self, page: int) -> None:
        pass

    def remove(self, page: int) -> None:
        self.order.remove(page)

    def choose(self) -> int:
        return self.order.pop(0) if self.order else NONE


class Lru(Fifo):
    """Least recently used; under idle marks the oldest is marked and goes round once more."""

    def touch(self, page: int) -> None:
        self.order.remove(page)
        self.order.append(page)

    def choose(self) -> int:
        while self.order:
            oldest = self.order[0]
            if self.host.observe == "idle":
                answer = self.host.used(oldest)
                if answer == BUSY:
                    return AGAIN
                if answer == USED:
                    self.touch(oldest)
                    continue
            return self.order.pop(0)
        return NONE


class Lpet:
    """The original EDM's: cyclic order, idle pages leave, one round of grace a session.

    Under idle marks a page that was rescued after two marks in a row rests at the next look, but
    for the sample. (The sample's verdicts are not modelled: there are too few pages for one.)
    """

    def __init__(self, host: Host, seed: int):
        self.host = host
        self.ring: deque[int] = deque()  # the hand points at ring[0]
        self.session = 0
        self.budget = 0
        self.rescued: set[int] = set()
        self.rests: set[int] = set()

    def insert(self, page: int) -> None:
        self.ring.append(page)  # just behind the hand
        self.host.ref.add(page)
        self.rescued.discard(page)
        self.rests.discard(page)

    keep = insert

    def touch(self, page: int) -> None:
        self.host.ref.add(page)
        sampled = page % 16 == (page // 16 * 0x9E3779B1 & 0xFFFFFFFF) >> 28
        if self.host.observe == "idle" and not sampled and self.host.state(page) == "FETCHING":
            if page in self.rescued:
                self.rests.add(page)
            self.rescued.add(page)

    def remove(self, page: int) -> None:
        self.ring.remove(page)
        self.host.ref.discard(page)

    def choose(self) -> int:
        if self.session != self.host.session:
            self.session, self.budget = self.host.session, len(self.ring)
        passed_over = 0
        while self.ring:
            page = self.ring[0]
            if self.budget:
                if page in self.rests and self.host.state(page) == "RESIDENT":
                    self.rests.discard(page)
                    answer = USED
                else:
                    answer = self.host.used(page)
                if answer == BUSY:
                    return AGAIN
                self.budget -= 1
                if answer == USED:
                    self.ring.rotate(-1)
                    continue
            elif not self.host.takeable(page):
                if self.host.commands:
                    return AGAIN
                if passed_over == len(self.ring):
                    return NONE
                passed_over += 1
                self.ring.rotate(-1)
                continue
            self.remove(page)
            return page
        return NONE


class Random:
    """A page drawn at random from an array whose holes the last one fills."""

    def __init__(self, host: Host, seed: int):
        self.pages = ResidentArray()
        self.stream = SplitMix64(seed)

    def insert(self, page: int) -> None:
        self.pages.append(page)

    keep = insert

    def touch(self, page: int) -> None:
        pass

    def remove(self, page: int) -> None:
        self.pages.remove(page)

    def choose(self) -> int:
        if not len(self.pages):
            return NONE
        page = self.pages.pages[self.stream.below(len(self.pages))]
        self.pages.remove(page)
        return page


EVICTORS: dict[str, type[Fifo] | type[Lpet] | type[Random]] = {
    "lpet": Lpet,
    "fifo": Fifo,
    "lru": Lru,
    "random": Random,
}
