"""Network links: latency, bandwidth, loss, stalls, partitions.

A link carries messages one way. A message waits until the ones before it are on the wire
(bandwidth), travels for a drawn latency, and may be lost. In a stall the link holds
everything until it ends; in a partition everything sent is lost.
"""

from __future__ import annotations

from edm_sim.distributions import Constant, from_percentiles, sampler, stream
from edm_workload.networks import Network
from edm_workload.units import PAGE_SIZE

REQUEST_BYTES = 64
"""A message without a page: header, page number."""


class Link:
    """One direction. The network's latency is that of a round trip, so half of it is drawn."""

    def __init__(self, name: str, network: Network | None, seed: int):
        self.name = name
        trip = from_percentiles(network.p50_us, network.p99_us) if network else Constant(0)
        rng = stream(seed, f"link {name}")
        self._trip = sampler(trip, rng)
        self._loss = network.loss if network else 0.0
        self._rng = stream(seed, f"loss {name}")
        self._ns_per_byte = 8 / network.gbit if network and network.gbit else 0.0
        self._free_at = 0
        self.stalled_until = 0
        self.cut_until = 0
        self.sent = 0
        self.lost = 0
        self.bytes = 0

    def send(self, now: int, pages: int) -> int:
        """When a message with `pages` pages, sent now, arrives; -1 if it is lost."""
        size = REQUEST_BYTES + pages * PAGE_SIZE
        self.sent += 1
        self.bytes += size
        begin = now
        if begin < self.stalled_until:
            begin = self.stalled_until
        if self._ns_per_byte:
            if begin < self._free_at:
                begin = self._free_at
            begin = self._free_at = begin + round(size * self._ns_per_byte)
        if now < self.cut_until or (self._loss and self._rng.random() < self._loss):
            self.lost += 1
            return -1
        return begin + self._trip() // 2


class Duplex:
    """A link in each direction between a machine and the DMS."""

    def __init__(self, name: str, network: Network | None, seed: int):
        self.up = Link(f"{name} up", network, seed)
        self.down = Link(f"{name} down", network, seed)

    def stall(self, until: int) -> None:
        self.up.stalled_until = self.down.stalled_until = until

    def cut(self, until: int) -> None:
        self.up.cut_until = self.down.cut_until = until
