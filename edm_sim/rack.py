"""RackDms: the DMS as a server among machines, roadmap phases 2 to 5.

    Instance --link--> DML --link--> EMU (or Disc) --link--> DMS --link--> Instance   a fetch
    Instance --link--> XPET --link--> EMUs, all of its replicas --> AckPage           an eviction

Every arrow can be slow, lossy, stalled or cut; every box is a queue. Who sent a message
that was lost learns it when its timer runs out, and sends again, until the deadline. The DMS
knows which units are up (heartbeats are not modelled).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from edm_policy.errors import UsageError
from edm_sim.clock import Clock
from edm_sim.costs import StoreCosts
from edm_sim.distributions import Constant, distribution, sampler, stream
from edm_sim.dms import StoreError
from edm_sim.emu import Unit
from edm_sim.network import Duplex, Link
from edm_sim.placement import RULES
from edm_sim.queueing import Server
from edm_sim.spt import NOBODY, Spt
from edm_workload.networks import Network, network
from edm_workload.simulation import Sim
from edm_workload.units import parse_pages

if TYPE_CHECKING:
    from edm_sim.instance import Instance

Steps = Generator[simpy.Event, Any, Any]


class RackDms:
    """SPT, DML and XPET, the units behind them, and a link to each instance."""

    remote = True
    quick = False
    place = None

    def __init__(
        self,
        env: Clock,
        spt: Spt,
        sim: Sim,
        front: Network | None,
        store: StoreCosts,
        seed: int,
    ):
        self.env, self.spt, self.sim = env, spt, sim
        self.links = [Duplex(f"instance {k}", front, seed) for k in range(sim.instances)]
        self.dml, self.xpet = Server(sim.dml_servers), Server(sim.xpet_servers)
        self._dml_ns = sampler(distribution(sim.dml_service, "dml_service"), stream(seed, "dml"))
        self._xpet_ns = sampler(
            distribution(sim.xpet_service, "xpet_service"), stream(seed, "xpet")
        )
        back = network(sim.emu_network)
        room = parse_pages(sim.emu_pages, what="emu_pages", least=0)
        disc = Unit(0, Constant(store.get_ns), 1, None, 0, seed)
        self.units = [disc] + [
            Unit(
                *(k, distribution(sim.service_of(k), "emu_service"), sim.emu_servers),
                *(back, room, seed),
            )
            for k in range(1, sim.emus + 1)
        ]
        if sim.replicas > max(1, sim.emus):
            raise UsageError(
                f"replicas: {sim.replicas} copies need as many EMUs; emus = {sim.emus}"
            )
        self._rule = RULES[sim.placement]
        self.instances: list[Instance] = []
        self._busy: dict[int, list[simpy.Event]] = {}  # handed over now: who waits for that
        self._retry_ns = round(sim.retry_us * 1000)
        self._deadline_ns = round(sim.deadline_ms * 1e6)
        self.requests = 0  # = answered + refused + withdrawn when nothing is under way
        self.answered = 0
        self.refused = 0
        self.withdrawn = 0  # the machine that asked was taken back
        self.unit_reads = 0
        self.hedges = 0  # reads that another unit was asked for because one was late
        self.answers: dict[tuple[int, int], list[int]] = {}  # (instance, unit): [number, ns]
        self.fetches = 0
        self.retries = 0
        self.hand_overs = 0

    # -- DML

    def fetch(self, instance: int, pages: list[int], beside: int = 0) -> Steps:
        """Pages to the instance. Raises StoreError past the deadline, or for a lost page."""
        self.fetches += 1
        asker = self.instances[instance] if self.sim.shared else None
        yield from self._until_it_works(lambda: self._fetch(instance, asker, pages), pages)

    def _until_it_works(self, attempt: Any, pages: list[int]) -> Steps:
        """A request: an attempt, repeated at the sender's timer when its messages got lost."""
        self.requests += 1
        try:
            yield from self._attempts(attempt, pages)
            self.answered += 1
        except StoreError:
            self.refused += 1
            raise
        except simpy.Interrupt:
            self.withdrawn += 1
            raise

    def _attempts(self, attempt: Any, pages: list[int]) -> Steps:
        begin, timer = self.env.now, self._retry_ns
        while True:
            sent = self.env.now
            answer = yield from attempt()
            if answer is not False:
                return
            left = sent + timer - self.env.now
            if left > 0:
                yield self.env.timeout(left)
            if self.env.now - begin >= self._deadline_ns:
                raise StoreError(pages)
            self.retries += 1
            timer *= 2

    def _fetch(self, instance: int, asker: Instance | None, pages: list[int]) -> Steps:
        env, link = self.env, self.links[instance]
        if not (yield from self._request(link, self.dml, self._dml_ns, len(pages))):
            return False
        if asker:
            for page in pages:
                yield from self._hand_over(instance, asker, page)
        groups: dict[tuple[int, ...], list[int]] = {}
        lost: list[int] = []
        for page in pages:
            if page in self.spt.lost:
                lost.append(page)
            elif holders := self.spt.copies.get(page):
                groups.setdefault(holders, []).append(page)
        for holders, wanted in groups.items():  # no holder: new in a shared region, zeros
            if not (yield from self._read(instance, holders, wanted)):
                return False
        arrival = link.down.send(env.now, len(pages) - len(lost))
        if arrival < 0:
            return False
        if arrival > env.now and not env.skip(arrival - env.now):
            yield env.timeout(arrival - env.now, link.down)
        link.down.delivered += 1
        if lost:
            raise StoreError(lost)
        return True

    def _request(self, link: Duplex, server: Server, service: Any, pages: int) -> Steps:
        """A message to the DMS, and its turn there. With pages in it if it goes to XPET."""
        env = self.env
        arrival = link.up.send(env.now, pages if server is self.xpet else 0)
        if arrival < 0:
            return False
        if arrival > env.now and not env.skip(arrival - env.now):
            yield env.timeout(arrival - env.now, link.up)
        link.up.delivered += 1
        end = server.admit(
            env.now, service() if pages == 1 else sum(service() for _ in range(pages))
        )
        if end > env.now and not env.skip(end - env.now):
            yield env.timeout(end - env.now)
        return True

    def _read(self, instance: int, holders: tuple[int, ...], pages: list[int]) -> Steps:
        """From one of the units that hold the pages, as `read` says. False: no answer."""
        up = [self.units[u] for u in holders if self.units[u].up]
        if not up:
            return False
        if self.sim.read == "one" or len(up) == 1:
            return (yield from self._from_unit(instance, up[0], len(pages)))
        answer = self.env.event()
        failed = [0]

        def ask(unit: Unit) -> Steps:
            if (yield from self._from_unit(instance, unit, len(pages))):
                if not answer.triggered:
                    answer.succeed(True)
            else:
                failed[0] += 1
                if failed[0] == len(up) and not answer.triggered:
                    answer.succeed(False)

        for asked, unit in enumerate(up, 1):
            self.hedges += asked > 1 and self.sim.read == "hedged"
            self.env.process(ask(unit))
            if self.sim.read == "hedged" and asked < len(up):
                yield answer | self.env.timeout(round(self.sim.hedge_us * 1000))
                if answer.triggered:
                    break
        return (yield answer)

    def _from_unit(self, instance: int, unit: Unit, pages: int) -> Steps:
        env = self.env
        asked = env.now
        self.unit_reads += 1
        arrival = unit.link.down.send(env.now, 0)
        if arrival < 0:
            return False
        if arrival > env.now and not env.skip(arrival - env.now):
            yield env.timeout(arrival - env.now, unit.link.down)
        unit.link.down.delivered += 1
        epoch = unit.epoch
        if not unit.up:
            return False
        end = unit.admit(env.now, pages)
        if end > env.now and not env.skip(end - env.now):
            yield env.timeout(end - env.now)
        if unit.epoch != epoch:
            return False
        arrival = unit.link.up.send(env.now, pages)
        if arrival < 0:
            return False
        if arrival > env.now and not env.skip(arrival - env.now):
            yield env.timeout(arrival - env.now, unit.link.up)
        unit.link.up.delivered += 1
        answered = self.answers.setdefault((instance, unit.number), [0, 0])
        answered[0] += 1
        answered[1] += env.now - asked
        return True

    # -- XPET

    def put(self, instance: int, pages: list[int]) -> Steps:
        """Stores pages on their units. Raises StoreError when no unit took one in time."""
        yield from self._until_it_works(lambda: self._put(instance, pages), pages)

    def _put(self, instance: int, pages: list[int]) -> Steps:
        env, link = self.env, self.links[instance]
        if not (yield from self._request(link, self.xpet, self._xpet_ns, len(pages))):
            return False
        groups, fresh, order = self._place(pages)
        taken: dict[int, list[int]] = {page: [] for page in pages}
        if len(groups) == 1:
            ((unit, share),) = groups.items()
            yield from self._to_unit(self.units[unit], share, fresh[unit], taken)
        else:
            yield env.all_of(
                [
                    env.process(self._to_unit(self.units[unit], share, fresh[unit], taken))
                    for unit, share in groups.items()
                ]
            )
        for page, took in taken.items():
            # A unit may have crashed while another one was still writing.
            units = [u for u in order[page] if u in took and page in self.units[u].pages]
            taken[page] = units
            if units:
                for old in self.spt.copies.get(page, ()):
                    if old not in units:
                        self.units[old].pages.discard(page)
                self.spt.stored(page, tuple(units))
        if not all(taken.values()):
            return False
        arrival = link.down.send(env.now, 0)
        if arrival < 0:
            return False
        if arrival > env.now and not env.skip(arrival - env.now):
            yield env.timeout(arrival - env.now, link.down)
        link.down.delivered += 1
        return True

    def _place(
        self, pages: list[int]
    ) -> tuple[dict[int, list[int]], dict[int, int], dict[int, list[int]]]:
        """{unit: pages}, as many EMUs a page as it has replicas, or the Disc; {unit: new pages};
        {page: its units, the one to ask first before the others}.
        """
        groups: dict[int, list[int]] = {}
        order: dict[int, list[int]] = {}
        fresh: dict[int, int] = {unit.number: 0 for unit in self.units}
        emus = self.units[1:]
        for page in pages:
            chosen = order[page] = []
            for unit in self._rule(page, emus) if emus else ():
                if len(chosen) == self.sim.replicas:
                    break
                if unit.up and (page in unit.pages or unit.room(1)):
                    new = page not in unit.pages
                    unit.reserved += new
                    fresh[unit.number] += new
                    groups.setdefault(unit.number, []).append(page)
                    chosen.append(unit.number)
            if not chosen:
                groups.setdefault(0, []).append(page)
                chosen.append(0)
        return groups, fresh, order

    def _to_unit(
        self, unit: Unit, pages: list[int], fresh: int, taken: dict[int, list[int]]
    ) -> Steps:
        env = self.env
        stored = False
        arrival = unit.link.down.send(env.now, len(pages))
        if arrival >= 0:
            if arrival > env.now and not env.skip(arrival - env.now):
                yield env.timeout(arrival - env.now, unit.link.down)
            unit.link.down.delivered += 1
            epoch = unit.epoch
            if unit.up:
                end = unit.admit(env.now, len(pages))
                if end > env.now and not env.skip(end - env.now):
                    yield env.timeout(end - env.now)
                if unit.epoch == epoch:
                    unit.pages.update(pages)
                    arrival = unit.link.up.send(env.now, 0)
                    if arrival >= 0:
                        stored = True
                        if arrival > env.now and not env.skip(arrival - env.now):
                            yield env.timeout(arrival - env.now, unit.link.up)
                        unit.link.up.delivered += 1
                        stored = unit.epoch == epoch
        unit.reserved -= fresh
        if stored:
            for page in pages:
                taken[page].append(unit.number)

    def lose(self, unit: Unit) -> None:
        """The unit's pages are gone."""
        for page in sorted(unit.pages):
            self.spt.unit_lost(page, unit.number)

    def servers(self) -> dict[str, Server]:
        """Every server of the rack by its name."""
        return {"dml": self.dml, "xpet": self.xpet} | {u.name: u.server for u in self.units}

    def every_link(self) -> list[Link]:
        pairs = [*self.links, *(unit.link for unit in self.units)]
        return [link for pair in pairs for link in (pair.up, pair.down)]

    def check(self) -> None:
        """At the end of a run. AssertionError where a law of queues or messages is broken."""
        for name, server in self.servers().items():
            server.check(name)
        for link in self.every_link():
            link.check()
        if self.requests != self.answered + self.refused + self.withdrawn:
            raise AssertionError(
                f"{self.requests} requests, {self.answered} answered, {self.refused} refused, "
                f"{self.withdrawn} withdrawn"
            )
        if self._busy:
            raise AssertionError(f"pages {sorted(self._busy)} are still being handed over")
        for there, units in self.spt.copies.items():
            for unit in units:
                if there not in self.units[unit].pages:
                    raise AssertionError(f"page {there} is not on unit {unit}")

    # -- several instances, one region

    def ask(self, instance: int, page: int) -> Steps:
        """Is this page new? If so it belongs to the instance when the answer is there."""

        def attempt() -> Steps:
            link = self.links[instance]
            if not (yield from self._request(link, self.dml, self._dml_ns, 1)):
                return False
            if not self.spt.known(page):
                self.spt.take(page, instance)
            arrival = link.down.send(self.env.now, 0)
            if arrival < 0:
                return False
            if arrival > self.env.now and not self.env.skip(arrival - self.env.now):
                yield self.env.timeout(arrival - self.env.now, link.down)
            link.down.delivered += 1
            return True

        yield from self._until_it_works(attempt, [page])

    def _hand_over(self, instance: int, asker: Instance, page: int) -> Steps:
        """The page's owner evicts it, and from then on it belongs to the instance."""
        while page in self._busy and self.spt.owner[page] != instance:
            turn = self.env.event()
            self._busy[page].append(turn)
            yield turn
        if self.spt.owner[page] == instance:
            return  # sent again: an earlier attempt got this far
        self._busy[page] = []
        try:
            while (owner := self.spt.owner[page]) not in (NOBODY, instance):
                self.hand_overs += 1
                down = self.links[owner].down
                arrival = down.send(self.env.now, 0)
                if arrival < 0:
                    yield self.env.timeout(self._retry_ns)
                    continue
                yield self.env.timeout(arrival - self.env.now, down)
                down.delivered += 1
                # The owner's work: it goes on even if who asked is gone meanwhile.
                yield self.env.process(self.instances[owner].give_up(page))
            if not asker.gone:  # else a machine taken back would own it for ever
                self.spt.take(page, instance)
        finally:
            for waiting in self._busy.pop(page):
                waiting.succeed()
