"""DMS, the Disc Management Server: the short way, roadmap phase 1.

One instance, one link, one Disc, nobody else in the way: every request costs a plain number
of nanoseconds and no event of its own. rack.py has the DMS as a server among machines.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

import simpy
from edm_policy._core import lib

from edm_sim.clock import Clock
from edm_sim.costs import StoreCosts
from edm_sim.distributions import from_percentiles, sampler, stream
from edm_sim.draws import NOBODY, Sampler
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
    def quick(self) -> bool:
        """Whether a clean page is asked for again rather than kept."""
        ...

    @property
    def place(self) -> Callable[[list[int]], object] | None:
        """put() of pages that were read straight to where they are stored, which takes no time of
        its own. None: they are not."""
        ...

    @property
    def remote(self) -> bool:
        """Whether a thread that waits for the answer is off its core."""
        ...

    def check(self) -> None:
        """At the end of a run. Raises AssertionError for what must not be."""
        ...

    def fetch(self, instance: int, pages: list[int], beside: int = NOBODY) -> Delay:
        """DML: bring stored pages to the instance. beside: what goes on beside the thread that
        asks, as draws.py counts it (NEAR is in it)."""
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
        self._get, self._put = self._service(store, seed)
        self._trip = sampler(from_percentiles(p50, p99), stream(seed, "network"))
        # A wait as short as this is spun for on real memory, on the core.
        self.remote = store.remote or (network is not None and p50 * 1000 >= lib.EDM_SPIN_NS)
        self.quick = store.quick and network is None
        self.place = self._keep if store.places and network is None else None
        self._wire_ns = network.wire_ns() if network else 0
        self.down, self.up = Server(), Server()
        self.bytes_up = 0
        self.bytes_down = 0

    @staticmethod
    def _service(
        store: StoreCosts, seed: int
    ) -> tuple[Callable[[int, int], int], Callable[[int, int], int]]:
        """What it takes to get n pages beside what, and to put n of which some are new to the
        store."""
        if not store.measured:
            return lambda n, beside: n * store.get_ns, lambda n, new: n * store.put_ns
        draws = Sampler(seed, store.speed, "store")
        gets = draws.by_beside(store.measured, ("get",)) + draws.by_beside(
            store.measured, ("near",)
        )
        old, new = (draws.batch(store.measured[k], k) for k in ("put", "new"))

        def put(n: int, first: int) -> int:
            """A batch of both kinds takes what each would, by its share."""
            share = first / n
            return round((1 - share) * old(n) + share * new(n))

        def get(n: int, beside: int) -> int:
            one = gets[beside]
            return sum([one() for _ in range(n)])

        return get, put

    def fetch(self, instance: int, pages: list[int], beside: int = NOBODY) -> int:
        n = len(pages)
        self.bytes_down += n * PAGE_SIZE
        wait = self._trip() + self._get(n, beside)
        if self._wire_ns:
            now = self.env.now
            wait += self.down.admit(now, n * self._wire_ns) - now
        return wait

    def _keep(self, pages: list[int]) -> int:
        """How many of them are new to the store."""
        self.bytes_up += len(pages) * PAGE_SIZE
        new = sum([page not in self.spt.copies for page in pages])
        for page in pages:
            self.spt.stored(page, (0,))
        return new

    def put(self, instance: int, pages: list[int]) -> int:
        n, new = len(pages), self._keep(pages)
        wait = self._trip() + self._put(n, new)
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
