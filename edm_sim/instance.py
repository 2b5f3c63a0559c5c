"""Instance: a program whose memory is paged. Application threads, DM-Handler, LPET.

The pager decides; its commands are turned into time here: what a thread does between faults and
which core it has in this file, the rest in faults.py, reclaim.py and sharing.py. A thread's hits
are consumed by the C core in one call and cost one timeout together; a fault costs two: up to the
moment the pager is asked, and until the page is installed.

Skew: hits of a stretch are consumed at its beginning, so a page evicted during the
stretch can still be hit in it. While anybody else is at work on the pager a stretch is
cut at SKEW_NS, which bounds that.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque

import simpy
from edm_policy._core import lib

from edm_policy import LogBuffer, Pager, PolicyConfig
from edm_sim.clock import Clock
from edm_sim.commands import Commands
from edm_sim.cores import SLICE_NS, Cores
from edm_sim.costs import Costs
from edm_sim.dms import PageServer
from edm_sim.draws import FAULTER, FLUSH, LPET, NEAR, NOBODY, Machine
from edm_sim.faults import Faults
from edm_sim.queueing import Server
from edm_sim.reclaim import Steps
from edm_sim.recorder import Recorder
from edm_sim.references import Share

SKEW_NS = 100_000


class Instance(Faults):
    """One pager and the processes around it.

    shares: what each application thread runs. base: number of its page 0 in the SPT. asks:
    a page that is new here may be known to the DMS (a shared region, or a resumed instance),
    so it is asked. `latencies` holds each fault's time at its thread, touch to resume, ns;
    `finished_ns` is when the last thread was done.
    """

    def __init__(
        self,
        env: Clock,
        number: int,
        config: PolicyConfig,
        shares: list[Share],
        costs: Costs,
        dms: PageServer,
        base: int = 0,
        asks: bool = False,
        monitor: bool = False,
        handlers: int = 1,
        spinning: bool = False,
        cores: int = 0,
        seed: int = 0,
        recorder: Recorder | None = None,
        log: LogBuffer | None = None,
    ):
        self.env, self.number, self.base = env, number, base
        self.costs, self.dms, self.spt = costs, dms, dms.spt
        self.pager = Pager(config, log)
        self.ptr = self.pager.ptr
        self.out = Commands()
        self.latencies = array("q")
        self.spent: Counter[str] = Counter()  # ns of all threads in faults, and LPET, by component
        self.finished_ns = 0
        self.shares = shares
        self.recorder = recorder
        self.stopping = False
        self.gone = False
        self.asks = asks
        self._monitor = monitor
        self._spinning = spinning
        self.draw = Machine(
            *(costs, seed, f"instance {number}", monitor, dms.place is not None),
            local=config.limit,
            pages=config.pages,
        )
        # A core fewer for each handler that polls; none given means one for every thread.
        own = cores - handlers * (monitor and spinning)
        measured = costs.calibration
        slice_ns = round(measured.slice_ns) if measured else SLICE_NS
        self.cores = Cores(env, max(1, own), slice_ns) if cores else None
        # The pager's lock. What LPET's hold of it costs is measured, or nothing.
        self.lock = Server() if len(shares) > 1 else None
        self._handlers_free = handlers
        # A single handler thread goes to the core of who faults, and looks again now and then.
        self._handler_near: Share | None = None
        self._handler_stays = 0 if handlers == 1 else 1
        self._served_last: Share | None = None
        self._served_alone = 0
        self._handler_queue: deque[simpy.Event] = deque()
        self._limit = config.limit
        self._brought, self._brought_at = 0, array("q", bytes(8 * config.pages))
        self.start_reclaim()
        crowded = len(shares) > 1 or asks
        self.threads = [
            env.process(self._until_taken_back(k, share, crowded)) for k, share in enumerate(shares)
        ]

    # -- cores

    def on_core(self, share: Share) -> Steps:
        """The thread runs, as soon as there is a core for it."""
        share.running = True
        if self.cores:
            yield from self.cores.enter(share.core)

    def off_core(self, share: Share) -> None:
        """The thread sleeps."""
        share.running = False
        if self.cores:
            self.cores.leave(share.core)

    def next_turn(self, share: Share) -> Steps:
        """Its slice is over: another thread's turn."""
        begin = self.env.now
        if self.cores:
            yield from self.cores.turn(share.core)
        self.spent["core"] += self.env.now - begin

    def wait_for(self, event: simpy.Event, share: Share) -> Steps:
        """Spins a while, then sleeps until the event and is woken."""
        cores, begin = self.cores, self.env.now
        if not cores:
            yield event
            self.spent["wait"] += self.env.now - begin
            return
        yield event | self.env.timeout(self.costs.spin_ns)
        if not event.triggered:
            self.off_core(share)
            yield event
            yield self.env.timeout(self.draw.woken())
            yield from self.on_core(share)
        self.spent["wait"] += self.env.now - begin

    def beside(self, by: Share | None) -> int:
        """What goes on beside the thread (None: LPET)."""
        if not self.draw.measured:
            return NOBODY
        if by and self.flushing:
            return FLUSH
        if len(self.shares) > 1 or not by:
            for share in self.shares:
                if share.running and share is not by:
                    return FAULTER
        return LPET if by and self.lpet_works else NOBODY

    # -- application threads

    def _until_taken_back(self, number: int, share: Share, crowded: bool) -> Steps:
        """A thread; if the machine goes under it, somebody else resumes where it was."""
        try:
            yield from self._thread(number, share, crowded)
        except simpy.Interrupt:
            share.put_back(*share.at)
        if self.cores:
            self.cores.leave(share.core)
        share.running = False
        self.finished_ns = max(self.finished_ns, self.env.now)

    def _thread(self, number: int, share: Share, crowded: bool) -> Steps:
        env, costs, ptr, monitor, refs = self.env, self.costs, self.ptr, self._monitor, share.refs
        timeout, skip, think, cores = env.timeout, env.skip, refs.think_ns, self.cores
        there, back, beside, spent = self.draw.there, self.draw.back, self.beside, self.spent
        consume, mapped, still_hits = lib.edm_consume, self.mapped, self.still_hits
        pages, writes, c = refs.pages, refs.writes, refs.c
        recorder, latencies = self.recorder, self.latencies
        cut, own = refs.records_in(SKEW_NS), refs.own
        handle = self.handle if monitor else self.resolve
        owed = 0  # the way back from the last fault, paid together with the thinking after it
        share.interrupted_ns = 0
        yield from self.on_core(share)
        for i, stop in share.stretches:
            faulted = i - 1
            while i < stop:
                if self.stopping:
                    share.put_back(i, stop)
                    break
                end = min(stop, i + cut) if crowded or self.lpet_active else stop
                c.n = end
                j = consume(ptr, c, i)
                share.at = j, stop
                if j == end:
                    pause = owed + think(i, j)
                    if not skip(pause):
                        yield timeout(pause)
                    if cores and cores.over(share.core):
                        yield from self.next_turn(share)
                    owed, i = 0, j
                    continue
                pause = owed + think(i, j + own)
                page, write = pages[j], writes[j] if writes else 0
                if page in mapped:
                    if not skip(pause):
                        yield timeout(pause)
                    owed = pause = 0
                    if still_hits(page, write):
                        owed, i = think(j + own, j + 1), j + 1
                        continue
                refs.faulted(j - faulted)
                faulted = j
                share.near = NEAR if page == share.last + 1 else 0
                share.last = page
                busy = pause if monitor else pause + there[write][beside(share) + share.near]()
                spent["arrive"] += busy - pause
                touched = env.now + pause
                if busy and not skip(busy):
                    yield timeout(busy)
                if cores and cores.over(share.core):
                    yield from self.next_turn(share)
                owed = 0
                if share.interrupted_ns and share.interrupted_at < touched:  # no fault's delay
                    owed += share.interrupted_ns
                    share.interrupted_ns = 0
                op = yield from handle(share, j, page, write)
                back_ns = back[share.way if monitor else beside(share) + share.near]()
                spent["return"] += back_ns
                owed += back_ns + (costs.between_near_ns if share.near else costs.between_ns)
                took = env.now + back_ns - touched
                if share.interrupted_ns:
                    spent["flush"] += share.interrupted_ns
                    took += share.interrupted_ns
                    owed += share.interrupted_ns
                    share.interrupted_ns = 0
                latencies.append(took)
                if recorder:
                    recorder.fault(touched, self.number, number, page, op, took)
                i = j + 1
            if self.stopping:
                break
        share.at = 0, 0
        owed += share.interrupted_ns
        if owed and not skip(owed):
            yield timeout(owed)

    def still_hits(self, page: int, write: int) -> bool:
        """A page that was chosen is used unseen until it is unmapped, unless the access needs a
        write-protection lifted."""
        clean = not lib.edm_page_word(self.ptr, page) & lib.EDM_DIRTY
        return page in self.mapped and not (write and clean)

    def servers(self) -> dict[str, Server]:
        """Its servers by name: the cores and the pager's lock, where they can be short."""
        return {f"lock of instance {self.number}": self.lock} if self.lock else {}

    def check(self) -> None:
        """At the end of a run. Raises AssertionError for what must not be."""
        if not self.pager.check():
            raise AssertionError(f"the pager of instance {self.number} is inconsistent")
        for name, server in self.servers().items():
            server.check(name)
        if self.gone:
            return
        if self._handler_queue:
            raise AssertionError(f"instance {self.number}: a fault waits for a handler for ever")
        self.check_rest()
