"""A driver of the pager in lockstep: what a world does with events and commands, and no world.

`drive()` takes a trace through the pager's events and holds the pager to its contract
as it goes: who is resident, who may leave, never more than the limit. With a random stream
given it is also a bad world: write-backs that take time or fail, pages discarded,
recalled and flushed in between.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from edm_policy import Pager


class Driver:
    """One pager, and what its commands have made of the world so far.

    resident: pages whose frames exist. evicted: pages that left for want of room, in order.
    """

    def __init__(self, pager: Pager, chaos: random.Random | None = None) -> None:
        self.pager = pager
        self.chaos = chaos
        self.resident: set[int] = set()
        self.evicted: list[int] = []
        self.storing: list[int] = []  # write-backs under way, oldest first

    def happens(self, chance: float) -> bool:
        return self.chaos is not None and self.chaos.random() < chance

    def access(self, page: int, write: bool) -> None:
        """One reference that is no plain hit, to its end."""
        pager = self.pager
        for _ in range(1000):
            first, *more = pager.fault(page, write)
            woken = False
            for command in more:
                assert command.op in ("WAKE_LPET", "PREFETCH")
                woken |= command.op == "WAKE_LPET"
                if command.op == "PREFETCH":
                    self.install(command.page)
            if first.op == "RECLAIM":
                self.reclaim()
                continue
            if first.op == "WAIT":
                self.finish_stores()
                continue
            if first.op in ("ZERO_FILL", "FETCH"):
                self.install(page)
            elif first.op == "RESCUE":
                assert page in self.resident
                pager.installed(page)
            elif first.op == "ALLOW_WRITE":
                pager.done(page)
            else:
                raise AssertionError(f"page {page}: {first.op} in {pager.state(page)}")
            if woken:
                self.reclaim()
            return
        raise AssertionError(f"page {page}: no end to its fault")

    def install(self, page: int) -> None:
        assert page not in self.resident
        self.pager.installed(page)
        self.resident.add(page)

    def reclaim(self) -> None:
        """LPET's turn, until it sleeps or until there is nothing more to choose now."""
        status = "RUNNING"
        while status == "RUNNING":
            status, commands = self.pager.reclaim()
            for command in commands:
                assert command.page in self.resident
                self.pager.done(command.page)
                if command.op == "EVICT":
                    assert command.page not in self.storing
                    self.storing.append(command.page)
            if status == "FAIL":
                assert self.storing, "nothing can be chosen, and nothing is under way"
            if not self.happens(0.5) or status == "FAIL":
                self.finish_stores()

    def finish_stores(self) -> None:
        for page in self.storing:
            if self.happens(0.1):
                if self.pager.store_failed(page) == 1:
                    self.pager.done(page)
            elif self.pager.stored(page) == 1:
                self.resident.remove(page)
                self.evicted.append(page)
        self.storing.clear()

    def disturb(self, page: int) -> None:
        """Something a program may ask for at any time."""
        assert self.chaos is not None
        ask = self.chaos.choice([self.pager.discard, self.pager.recall, self.pager.flush])
        for command in ask(page):
            if command.op == "DISCARD":
                self.pager.done(page)
                self.resident.discard(page)
            elif command.op in ("EVICT", "CLEAN"):
                self.pager.done(page)
                self.storing.append(page)


def drive(
    pager: Pager,
    pages: Sequence[int],
    writes: Sequence[bool] | None = None,
    chaos: random.Random | None = None,
    check_every: int = 0,
) -> Driver:
    """Every reference through `pager`, faults resolved before the next one.

    `check_every` n: the pager checks itself after every n-th fault. Raises AssertionError
    where the pager breaks its contract.
    """
    driver = Driver(pager, chaos)
    page = np.asarray(pages, dtype=np.uint32)
    write = None if writes is None else np.asarray(writes, dtype=np.uint8)
    faults = 0
    i = pager.consume(page, write)
    while i < len(page):
        driver.access(int(page[i]), bool(write is not None and write[i]))
        assert pager.resident == len(driver.resident) <= pager.config.limit
        faults += 1
        if check_every and faults % check_every == 0:
            assert pager.check()
        if driver.happens(0.1):
            driver.disturb(driver.chaos.randrange(pager.config.pages))  # type: ignore[union-attr]
        i = pager.consume(page, write, i + 1)
    driver.finish_stores()
    assert pager.check()
    return driver
