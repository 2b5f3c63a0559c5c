"""DMS: the Disc Management Server. Knows where each page is, reads and writes pages.

SPT, the Stored Page Table, says for each page which instance has it and which unit (the
Disc, or an EMU) holds a copy. A page that nobody was given is new. DML answers page
requests, XPET takes evicted pages. This file is the shortest path, roadmap phase 1: one
instance, one link, one Disc, nobody else in the way, so every request costs a plain
number of nanoseconds and no event of its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator
from typing import Any, Protocol

import simpy

from edm_sim.costs import StoreCosts
from edm_sim.distributions import from_percentiles, sampler, stream
from edm_workload.networks import Network

NOWHERE = -1
DISC = 0

Delay = int | Generator[Any, Any, Any]
"""Nanoseconds until the answer, or a process that takes its time (and may raise StoreError)."""


class StoreError(Exception):
    """A page could not be read or written within the deadline."""


class PageServer(Protocol):
    """What an instance asks for. Times are from the request to the answer."""

    def fetch(self, pages: list[int]) -> Delay:
        """DML: bring stored pages to the instance."""
        ...

    def put(self, pages: list[int]) -> Delay:
        """XPET: store pages and acknowledge them."""
        ...


class Spt:
    """Stored Page Table. owner[page]: the instance that has it; place[page]: who holds a copy."""

    def __init__(self, pages: int):
        self.owner = array("i", [NOWHERE]) * pages
        self.place = array("i", [NOWHERE]) * pages

    def take(self, page: int, instance: int) -> None:
        """`instance` has the page from now on. A page has one owner at most."""
        owner = self.owner[page]
        if owner not in (NOWHERE, instance):
            raise AssertionError(f"page {page} belongs to instance {owner}, not {instance}")
        self.owner[page] = instance

    def give(self, page: int, instance: int) -> None:
        """`instance` no longer has the page; if it was ever stored, a unit does."""
        if self.owner[page] != instance:
            raise AssertionError(f"page {page} left instance {instance}, which had it not")
        self.owner[page] = NOWHERE

    def put(self, page: int, unit: int) -> None:
        """`unit` holds the page's copy now."""
        self.place[page] = unit


class DirectDms:
    """One link to one Disc. A page's time on the wire waits for the pages before it."""

    def __init__(
        self, env: simpy.Environment, network: Network | None, store: StoreCosts, seed: int
    ):
        self.env = env
        self.store = store
        self._trip = sampler(
            from_percentiles(network.p50_us if network else 0, network.p99_us if network else 0),
            stream(seed, "network"),
        )
        self._wire_ns = network.wire_ns() if network else 0
        self._down_free_at = 0
        self._up_free_at = 0
        self.bytes_up = 0
        self.bytes_down = 0

    def fetch(self, pages: list[int]) -> int:
        n = len(pages)
        wait = self._trip() + n * self.store.get_ns
        if self._wire_ns:
            begin = max(self.env.now + wait, self._down_free_at)
            self._down_free_at = int(begin) + n * self._wire_ns
            wait = self._down_free_at - int(self.env.now)
        self.bytes_down += n
        return wait

    def put(self, pages: list[int]) -> int:
        n = len(pages)
        now = int(self.env.now)
        sent = now
        if self._wire_ns:
            self._up_free_at = sent = max(now, self._up_free_at) + n * self._wire_ns
        self.bytes_up += n
        return sent - now + self._trip() + n * self.store.put_ns
