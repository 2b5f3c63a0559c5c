"""EMU and Disc: the units that hold pages."""

from __future__ import annotations

from edm_sim.distributions import Distribution, sampler, stream
from edm_sim.network import Duplex
from edm_sim.queueing import Server
from edm_workload.networks import Network


class Unit:
    """One memory unit (or the Disc): pages, a queue of its own, a link to the DMS.

    capacity in pages, 0: no limit. A crash ends the epoch: what was asked of the unit in an
    earlier epoch is never answered.
    """

    def __init__(
        self,
        number: int,
        service: Distribution,
        servers: int,
        network: Network | None,
        capacity: int,
        seed: int,
    ):
        self.number = number
        self.name = f"EMU_{number}" if number else "DISC"
        self.server = Server(servers)
        self.link = Duplex(self.name, network, seed)
        self.capacity = capacity
        self.pages: set[int] = set()
        self.up = True
        self.epoch = 0
        self.slow = 1.0
        self.reserved = 0
        self._service = sampler(service, stream(seed, f"service {self.name}"))

    def admit(self, now: int, pages: int) -> int:
        """A request for `pages` pages arrives: when it has been served."""
        needed = sum(self._service() for _ in range(pages))
        return self.server.admit(now, round(needed * self.slow))

    def room(self, pages: int) -> bool:
        """Whether that many new pages fit, those on their way counted."""
        return not self.capacity or len(self.pages) + self.reserved + pages <= self.capacity

    def crash(self, keep: bool) -> None:
        """It stops answering; without `keep` its pages are gone."""
        self.up = False
        self.epoch += 1
        if not keep:
            self.pages.clear()

    def restart(self) -> None:
        self.up = True
