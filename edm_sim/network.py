"""Network links: latency, bandwidth, loss, stalls, partitions.

A link carries messages one way. A message waits until the ones before it are on the wire
(bandwidth), travels for a drawn latency, and may be lost. In a stall the link holds
everything until it ends; in a partition everything sent is lost.
"""

from __future__ import annotations

from edm_sim.distributions import Constant, from_percentiles, sampler, stream
from edm_sim.queueing import Server
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
        self.wire = Server()
        self._stalled_until = 0
        self.cut_until = 0
        self.sent = 0  # = delivered + lost + cut_off when nothing is under way
        self.delivered = 0
        self.lost = 0
        self.cut_off = 0  # was under way to a machine that was taken back
        self.bytes = 0

    def send(self, now: int, pages: int) -> int:
        """When a message with `pages` pages, sent now, arrives; -1 if it is lost.

        The receiver counts it as delivered.
        """
        size = REQUEST_BYTES + pages * PAGE_SIZE
        self.sent += 1
        self.bytes += size
        begin = now if now > self._stalled_until else self._stalled_until
        if self._ns_per_byte:
            begin = self.wire.admit(now, round(size * self._ns_per_byte))
        if now < self.cut_until or (self._loss and self._rng.random() < self._loss):
            self.lost += 1
            return -1
        return begin + self._trip() // 2

    def stall(self, until: int) -> None:
        """Nothing more goes onto the wire before `until`."""
        self._stalled_until = until
        self.wire.block(until)

    def check(self) -> None:
        """At the end of a run. Raises AssertionError unless every message is accounted for."""
        self.wire.check(self.name)
        if self.sent != self.delivered + self.lost + self.cut_off:
            raise AssertionError(
                f"link {self.name}: {self.sent} messages sent, {self.delivered} delivered, "
                f"{self.lost} lost, {self.cut_off} cut off"
            )


class Duplex:
    """A link in each direction between a machine and the DMS."""

    def __init__(self, name: str, network: Network | None, seed: int):
        self.up = Link(f"{name} up", network, seed)
        self.down = Link(f"{name} down", network, seed)

    def stall(self, until: int) -> None:
        self.up.stall(until)
        self.down.stall(until)

    def cut(self, until: int) -> None:
        self.up.cut_until = self.down.cut_until = until
