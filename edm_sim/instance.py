"""Instance: a program whose memory is paged. Application threads, DM-Handler, LPET.

The pager decides; this file turns its commands into time. A thread's hits are consumed
by the C core in one call and cost one timeout together; a fault costs two: up to the
moment the pager is asked, and until the page is installed.

Skew: hits of a stretch are consumed at its beginning, so a page evicted during the
stretch can still be hit in it. While anybody else is at work on the pager a stretch is
cut at SKEW_NS, which bounds that.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Generator
from typing import Any

import simpy
from edm_policy._core import ffi, lib

from edm_policy import LogBuffer, Pager, PolicyConfig
from edm_sim.clock import Clock
from edm_sim.cores import SLICE_NS, Cores
from edm_sim.costs import Costs
from edm_sim.dms import PageServer, StoreError
from edm_sim.draws import FAULTER, FLUSH, LPET, NEAR, NOBODY, Machine
from edm_sim.queueing import Server
from edm_sim.reclaim import Reclaim
from edm_sim.recorder import Recorder
from edm_sim.references import Share

Steps = Generator[simpy.Event, Any, Any]

_ZERO, _FETCH, _RESCUE = lib.EDM_ZERO_FILL, lib.EDM_FETCH, lib.EDM_RESCUE
_RECLAIM, _WAIT = lib.EDM_RECLAIM, lib.EDM_WAIT
_ALLOW_WRITE, _POISON = lib.EDM_ALLOW_WRITE, lib.EDM_POISON
_FINAL = (_ZERO, _FETCH, _RESCUE, _ALLOW_WRITE, _POISON)

SKEW_NS = 100_000


class Commands:
    """The pager's answer buffer, read without making cffi objects for each field."""

    def __init__(self) -> None:
        self.ptr = ffi.new("edm_cmds *")
        view = memoryview(ffi.buffer(self.ptr))
        self.words = view.cast("I")  # words[0]: count; words[1 + 2 k]: page of command k
        self.bytes = view.cast("B")  # bytes[8 + 8 k]: op of command k; bytes[9 + 8 k]: flags

    def all(self) -> list[tuple[int, int, int]]:
        """(op, page, flags) of each command."""
        w, b = self.words, self.bytes
        return [(b[8 + 8 * k], w[1 + 2 * k], b[9 + 8 * k]) for k in range(w[0])]


class Instance(Reclaim):
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
        self.draw = Machine(costs, seed, f"instance {number}", monitor, len(shares))
        # A core fewer for each handler that polls; none given means one for every thread.
        own = cores - handlers * (monitor and spinning)
        measured = costs.calibration
        slice_ns = round(measured.slice_ns) if measured else SLICE_NS
        self.cores = Cores(env, max(1, own), slice_ns) if cores else None
        # The pager's lock. What LPET's hold of it costs is measured, or nothing.
        self.lock = Server() if len(shares) > 1 else None
        self._handlers_free = handlers
        self._handler_queue: deque[simpy.Event] = deque()
        self._limit = config.limit
        self.start_reclaim()
        crowded = len(shares) > 1 or asks
        self.threads = [
            env.process(self._until_taken_back(k, share, crowded)) for k, share in enumerate(shares)
        ]

    # -- cores

    def on_core(self, share: Share) -> Steps:
        """The thread runs, as soon as there is a core for it."""
        if self.cores:
            yield from self.cores.enter(share.core)
        share.running = True

    def off_core(self, share: Share) -> None:
        """The thread sleeps."""
        share.running = False
        if self.cores:
            self.cores.leave(share.core)

    def next_turn(self, share: Share) -> Steps:
        """Its slice is over: another thread's turn."""
        begin = self.env.now
        self.off_core(share)
        yield from self.on_core(share)
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
            yield self.env.timeout(self.draw.late())
            yield from self.on_core(share)
        self.spent["wait"] += self.env.now - begin

    def _ring(self, ns: int) -> Steps:
        """Waking LPET, where that was asked for."""
        if ns and not self.env.skip(ns):
            yield self.env.timeout(ns)

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
        handle = self._handle if monitor else self._resolve
        owed = 0  # the way back from the last fault, paid together with the thinking after it
        share.interrupted_ns = 0
        yield from self.on_core(share)
        for i, stop in share.stretches:
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
                share.near = NEAR if page == share.last + 1 else 0
                share.last = page
                busy = pause if monitor else pause + there[beside(share) + share.near]()
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
                back_ns = back[beside(share) + share.near]()
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

    def _handle(self, share: Share, j: int, page: int, write: int) -> Steps:
        """DM-Handler: the fault waits its turn, and its thread sleeps."""
        costs, begin = self.costs, self.env.now
        if self._handlers_free:
            self._handlers_free -= 1
            awake = self._spinning
        else:
            turn = self.env.event()
            self._handler_queue.append(turn)
            self.off_core(share)
            yield turn
            yield from self.on_core(share)
            awake = True
        there_ns = self.draw.there[self.beside(share)]()
        if self.draw.there_waits:
            there_ns = max(costs.monitor_busy_ns, there_ns - (self.env.now - begin))
        elif awake:
            there_ns = costs.monitor_busy_ns
        self.spent["arrive"] += there_ns
        if not self.env.skip(there_ns):
            yield self.env.timeout(there_ns)
        op = yield from self._resolve(share, j, page, write)
        if self._handler_queue:
            self._handler_queue.popleft().succeed()
        else:
            self._handlers_free += 1
        return op

    def _resolve(self, share: Share, j: int, page: int, write: int) -> Steps:
        """From the pager's verdict until the page can be used; returns the last command."""
        env, draw, out, ptr = self.env, self.draw, self.out, self.ptr
        while True:
            if self.asks:
                yield from self._ask(share, page)
            lib.edm_fault(ptr, page, write, env.now, out.ptr)
            op = out.bytes[8]
            if lib.edm_resident(ptr) > self._limit:
                raise AssertionError(f"the LSPT of instance {self.number} exceeds its limit")
            beside = self.beside(share) + share.near
            told = draw.lock[beside](), draw.decide[beside]()
            ring = 0
            wanted: list[int] = []
            if out.words[0] > 1:
                ring, wanted = self._beside(out.all()[1:], beside)
                self.spent["ring"] += ring
            yield from self._carry_out_verdict(share, page, op, told, ring, beside)
            if wanted:
                yield from self._prefetch(share, wanted, beside)
            if op in _FINAL:
                return op
            if op == _WAIT:
                yield from self.wait_for(self.event_of(page), share)
            elif op == _RECLAIM:
                begin = env.now
                yield from self.reclaim_or_wait(share)
                self.spent["reclaim"] += env.now - begin
                continue
            # The access is tried again: it hits now, or it faults again.
            refs = share.refs
            refs.c.n = j + 1
            if lib.edm_consume(ptr, refs.c, j) == j + 1:
                return op

    def _carry_out_verdict(
        self, share: Share, page: int, op: int, told: tuple[int, int], ring: int, beside: int
    ) -> Steps:
        """On the page itself. Waiting and making room are the caller's."""
        env, draw = self.env, self.draw
        if op == _FETCH or (op == _RESCUE and page in self.in_store):
            self.in_store.discard(page)
            yield from self._fetch(share, page, told, ring, beside)
        elif op in (_ZERO, _RESCUE):
            if op == _ZERO and self.base + page in self.spt.copies:
                raise AssertionError(f"page {self.base + page} is stored, but reads as zeros")
            own = draw.zero if op == _ZERO else draw.rescue
            yield from self._ring(ring)
            yield from self._work(told, own[beside]())
            self.installed(page)
        elif op == _ALLOW_WRITE:
            yield from self._ring(ring)
            yield from self._work(told, draw.allow_write[beside]())
            if draw.measured:
                self._flushes_for_write(share)
            lib.edm_done(self.ptr, page, env.now)
            self.fire(page)

    def _work(self, told: tuple[int, int], ns: int) -> Steps:
        """A decision and the call that carries it out."""
        held = self.locked(*told)
        self.spent["decide"] += held
        self.spent["install"] += ns
        ns += held
        if self.env.skip(ns):
            return
        self.under_way += 1
        yield self.env.timeout(ns)
        self.under_way -= 1

    def _flushes_for_write(self, share: Share) -> None:
        """Lifting write-protection interrupts who runs on other cores, too."""
        self.interrupt_others(share)
        if self.lpet_works:
            self.lpet_interrupted_ns += self.draw.interrupt()

    def locked(self, lock: int, decide: int) -> int:
        """Taking the pager's lock and deciding under it, ns, with the wait for other threads that
        decide: one does at a time."""
        if not self.lock:
            return lock + decide
        now = self.env.now
        return lock + self.lock.admit(now, decide) - now

    def _fetch(
        self, share: Share, page: int, told: tuple[int, int], ring: int, beside: int
    ) -> Steps:
        env, install_ns = self.env, self.draw.install[beside]()
        delay = self.dms.fetch(self.number, [self.base + page], share.near > 0)
        if isinstance(delay, int) and not (self.dms.remote and self.cores):
            held = self.locked(*told)
            ns = held + ring + install_ns + delay
            self.spent["decide"] += held
            self.spent["get"] += delay
            self.spent["install"] += install_ns
            if not env.skip(ns):
                share.running = not self.dms.remote
                self.under_way += 1
                yield env.timeout(ns)
                self.under_way -= 1
                share.running = True
            self.installed(page)
            return
        self.under_way += 1
        begin = env.now
        self.off_core(share)
        try:
            if isinstance(delay, int):
                yield env.timeout(delay + ring)
            else:
                yield from delay
            failed = False
        except StoreError:
            failed = True
        finally:
            self.under_way -= 1
        self.spent["get"] += env.now - begin
        yield from self.on_core(share)
        if failed:
            self._failed(page)
            return
        yield from self._work(told, install_ns)
        self.installed(page)

    def installed(self, page: int) -> None:
        """The page is there."""
        if self.gone:
            return
        lib.edm_installed(self.ptr, page, self.env.now)
        self.spt.take(self.base + page, self.number)
        self.fire(page)

    def _failed(self, page: int) -> None:
        """The page could not be had: it is poisoned, and nobody has it."""
        if self.gone:
            return
        lib.edm_fetch_failed(self.ptr, page, self.env.now, self.out.ptr)
        if self.spt.owner[self.base + page] == self.number:
            self.spt.give(self.base + page, self.number)
        self.fire(page)

    def _ask(self, share: Share, page: int) -> Steps:
        """A page that is new here: the DMS may know it."""
        number, page_there = self.number, self.base + page
        while lib.edm_page_state(self.ptr, page) == lib.EDM_NEW:
            if self.spt.owner[page_there] == number:
                return
            self.off_core(share)
            failed = False
            try:
                yield from self.dms.ask(number, page_there)  # type: ignore[attr-defined]
            except StoreError:
                failed = True
            yield from self.on_core(share)
            if failed:
                continue
            if self.spt.owner[page_there] != number and self.spt.known(page_there):
                lib.edm_adopt(self.ptr, page, self.env.now)

    def _beside(self, commands: list[tuple[int, int, int]], beside: int) -> tuple[int, list[int]]:
        """What comes with a verdict: LPET's wake-up, and what that takes the faulting thread, ns;
        and pages to be prefetched."""
        ring, wanted = 0, []
        for op, page, _ in commands:
            if op == lib.EDM_PREFETCH:
                wanted.append(page)
            elif op == lib.EDM_WAKE_LPET:
                ring = self.draw.ring[beside]() if self.wake_lpet() else self.draw.tap()
        return ring, wanted

    def _prefetch(self, share: Share, pages: list[int], beside: int) -> Steps:
        """The thread that faulted brings further pages, before it goes on."""
        env, begin = self.env, self.env.now
        near = pages[-1] - pages[0] == len(pages) - 1
        delay = self.dms.fetch(self.number, [self.base + page for page in pages], near)
        away = not isinstance(delay, int) or bool(self.dms.remote and self.cores)
        failed: frozenset[int] = frozenset()
        self.under_way += 1
        if away:
            self.off_core(share)
        try:
            if isinstance(delay, int):
                yield env.timeout(delay)
            else:
                yield from delay
        except StoreError as error:
            failed = error.pages
        if away:
            yield from self.on_core(share)
        self.spent["get"] += env.now - begin
        install = self.draw.install[beside % NEAR + NEAR * near]
        ns = sum([install() for _ in pages])
        self.spent["install"] += ns
        yield env.timeout(ns)
        for page in pages:
            if self.base + page in failed:
                self._failed(page)
            else:
                self.installed(page)
        self.under_way -= 1
        self.made_progress()

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
