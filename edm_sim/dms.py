"""DMS, the Disc Management Server: the short way, roadmap phase 1.

One instance, one link, one Disc, nobody else in the way: every request costs a plain number
of nanoseconds and no event of its own. rack.py has the DMS as a server among machines.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import simpy

from edm_sim.clock import Clock
from edm_sim.costs import StoreCosts
from edm_sim.distributions import from_percentiles, sampler, stream
from edm_sim.queueing import Server
from edm_sim.spt import Spt
from edm_workload.networks import Network
from edm_workload.units import PAGE_SIZE

Delay = int | Generator[simpy.Event, Any, None]
"""Nanoseconds until the answer, or steps that take their time (and may raise StoreError)."""


class StoreError(Exception):
    """These pages could not be read or written within the deadline, or are lost."""

    def __init__(self, pages: list[int]):
        super().__init__(f"{len(pages)} pages, from page {pages[0]} on")
        self.pages = frozenset(pages)


class PageServer(Protocol):
    """What an instance asks for. Times are from the request to the answer."""

    spt: Spt

    @property
    def remote(self) -> bool:
        """Whether a thread that waits for the answer is off its core."""
        ...

    def check(self) -> None:
        """At the end of a run. Raises AssertionError for what must not be."""
        ...

    def fetch(self, instance: int, pages: list[int]) -> Delay:
        """DML: bring stored pages to the instance."""
        ...

    def put(self, instance: int, pages: list[int]) -> Delay:
        """XPET: store pages and acknowledge them."""
        ...


class DirectDms:
    """One link to one Disc. A page's time on the wire waits for the pages before it."""

    def __init__(
        self,
        env: Clock,
        spt: Spt,
        network: Network | None,
        store: StoreCosts,
        seed: int,
    ):
        self.env = env
        self.spt = spt
        self.store = store
        p50, p99 = (network.p50_us, network.p99_us) if network else (0.0, 0.0)
        self._trip = sampler(from_percentiles(p50, p99), stream(seed, "network"))
        self.remote = network is not None or store.remote
        self._wire_ns = network.wire_ns() if network else 0
        self.down, self.up = Server(), Server()
        self.bytes_up = 0
        self.bytes_down = 0

    def fetch(self, instance: int, pages: list[int]) -> int:
        n = len(pages)
        self.bytes_down += n * PAGE_SIZE
        wait = self._trip() + n * self.store.get_ns
        if self._wire_ns:
            now = self.env.now
            wait += self.down.admit(now, n * self._wire_ns) - now
        return wait

    def put(self, instance: int, pages: list[int]) -> int:
        n = len(pages)
        self.bytes_up += n * PAGE_SIZE
        for page in pages:
            self.spt.stored(page, (0,))
        wait = self._trip() + n * self.store.put_ns
        if self._wire_ns:
            now = self.env.now
            wait += self.up.admit(now, n * self._wire_ns) - now
        return wait

    def servers(self) -> dict[str, Server]:
        """The wires, by name."""
        return {"down": self.down, "up": self.up}

    def check(self) -> None:
        """At the end of a run. Raises AssertionError where a law of queues is broken."""
        for name, server in self.servers().items():
            server.check(name)
