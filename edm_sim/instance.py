"""Instance: a program whose memory is paged. Application threads, DM-Handler, LPET.

The pager decides; this file turns its commands into time. A thread's hits are consumed
by the C core in one call and cost one timeout together; a fault costs two: up to the
moment the pager is asked, and until the page is installed.

Skew: hits of a stretch are consumed at its beginning, so a page evicted during the
stretch can still be hit in it. While anybody else is at work on the pager a stretch is
cut at `skew_ns`, which bounds that.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Generator
from typing import Any

import simpy
from edm_policy._core import ffi, lib

from edm_policy import LogBuffer, Pager, PolicyConfig
from edm_sim.costs import Costs
from edm_sim.dms import PageServer, Spt, StoreError
from edm_sim.references import References

Steps = Generator[simpy.Event, Any, Any]

_DIRTY, _LEAVING = lib.EDM_F_DIRTY, lib.EDM_F_LEAVING
_ZERO, _FETCH, _RESCUE = lib.EDM_ZERO_FILL, lib.EDM_FETCH, lib.EDM_RESCUE
_PREFETCH, _WAKE, _EVICT = lib.EDM_PREFETCH, lib.EDM_WAKE_LPET, lib.EDM_EVICT

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


class Instance:
    """One pager and the processes around it.

    references: one stretch of references for each application thread. `latencies` holds a
    fault's time at its thread, touch to resume, ns. `finished_ns` is when the last thread
    was done.
    """

    def __init__(
        self,
        env: simpy.Environment,
        number: int,
        config: PolicyConfig,
        references: list[References],
        costs: Costs,
        dms: PageServer,
        spt: Spt,
        monitor: bool = False,
        handlers: int = 1,
        log: LogBuffer | None = None,
    ):
        self.env = env
        self.number = number
        self.costs = costs
        self.dms = dms
        self.spt = spt
        self.pager = Pager(config, log)
        self.ptr = self.pager.ptr
        self.out = Commands()
        self.latencies = array("q")
        self.finished_ns = 0
        self.monitor = monitor
        self._handlers_free = handlers
        self._handler_queue: deque[simpy.Event] = deque()
        self._waiting: dict[int, simpy.Event] = {}
        self._progress: simpy.Event | None = None
        self._under_way = 0
        self._lpet_active = False
        self._lpet_bell: simpy.Event | None = None
        self.threads = [env.process(self._thread(r, len(references) > 1)) for r in references]
        env.process(self._lpet())

    # -- application threads

    def _thread(self, refs: References, crowded: bool) -> Steps:
        env, costs, ptr, monitor = self.env, self.costs, self.ptr, self.monitor
        timeout, consume, think = env.timeout, lib.edm_consume, refs.think_ns
        pages, writes, n = refs.pages, refs.writes, refs.n
        cut = refs.records_in(SKEW_NS)
        back_ns = costs.monitor_return_ns if monitor else costs.upcall_return_ns
        owed = 0  # the way back from the last fault, paid together with the thinking after it
        i = 0
        while i < n:
            end = min(n, i + cut) if crowded or self._lpet_active else n
            refs.c.n = end
            j = consume(ptr, refs.c, i)
            if j == end:
                yield timeout(owed + think(i, j))
                owed, i = 0, j
                continue
            pause = owed + think(i, j + 1)
            touched = int(env.now) + pause
            page, write = pages[j], writes[j] if writes else 0
            if monitor:
                yield timeout(pause)
                yield from self._handle(refs, j, page, write)
            else:
                yield timeout(pause + costs.upcall_ns)
                yield from self._resolve(refs, j, page, write)
            self.latencies.append(int(env.now) + back_ns - touched)
            owed, i = back_ns, j + 1
        if owed:
            yield timeout(owed)
        self.finished_ns = int(env.now)

    def _handle(self, refs: References, j: int, page: int, write: int) -> Steps:
        """DM-Handler: the fault waits its turn, and its thread sleeps."""
        costs = self.costs
        if self._handlers_free:
            self._handlers_free -= 1
            yield self.env.timeout(costs.monitor_ns)
        else:
            turn = self.env.event()
            self._handler_queue.append(turn)
            yield turn
            yield self.env.timeout(costs.monitor_busy_ns)
        yield from self._resolve(refs, j, page, write)
        if self._handler_queue:
            self._handler_queue.popleft().succeed()
        else:
            self._handlers_free += 1

    def _resolve(self, refs: References, j: int, page: int, write: int) -> Steps:
        """From the pager's verdict until the page can be used."""
        env, costs, out, ptr = self.env, self.costs, self.out, self.ptr
        while True:
            lib.edm_fault(ptr, page, write, env.now, out.ptr)
            op, flags = out.bytes[8], out.bytes[9]
            if out.words[0] > 1:
                self._beside(out.all()[1:])
            if op == _FETCH:
                yield from self._fetch(page)
                return
            if op in (_ZERO, _RESCUE):
                copied = op == _RESCUE and flags & _LEAVING
                install = costs.install_ns if copied else costs.rescue_ns
                yield env.timeout(costs.decide_ns + (costs.zero_ns if op == _ZERO else install))
                self._installed(page)
                return
            if op == lib.EDM_ALLOW_WRITE:
                yield env.timeout(costs.decide_ns + costs.allow_write_ns)
                lib.edm_done(ptr, page, env.now)
                self._fire(page)
                return
            if op == lib.EDM_POISON:
                return
            if op == lib.EDM_WAIT:
                yield self._event_of(page)
            elif op == lib.EDM_RECLAIM:
                yield from self._reclaim_or_wait()
                continue
            # The access is tried again: it hits now, or it faults again.
            refs.c.n = j + 1
            if lib.edm_consume(ptr, refs.c, j) == j + 1:
                return

    def _fetch(self, page: int) -> Steps:
        env, costs = self.env, self.costs
        self._under_way += 1
        delay = self.dms.fetch([page])
        try:
            if isinstance(delay, int):
                yield env.timeout(costs.decide_ns + costs.install_ns + delay)
            else:
                yield from delay
                yield env.timeout(costs.decide_ns + costs.install_ns)
        except StoreError:
            lib.edm_fetch_failed(self.ptr, page, env.now, self.out.ptr)
            self._under_way -= 1
            self._fire(page)
            return
        self._under_way -= 1
        self._installed(page)

    def _installed(self, page: int) -> None:
        lib.edm_installed(self.ptr, page, self.env.now)
        self.spt.take(page, self.number)
        self._fire(page)

    def _beside(self, commands: list[tuple[int, int, int]]) -> None:
        """What comes with a verdict and nobody waits for: prefetches, LPET's wake-up."""
        wanted = [page for op, page, _ in commands if op == _PREFETCH]
        if wanted:
            self.env.process(self._prefetch(wanted))
        if any(op == _WAKE for op, _, _ in commands):
            self._lpet_active = True
            if self._lpet_bell:
                self._lpet_bell.succeed()
                self._lpet_bell = None

    def _prefetch(self, pages: list[int]) -> Steps:
        env = self.env
        self._under_way += 1
        delay = self.dms.fetch(pages)
        failed = False
        try:
            if isinstance(delay, int):
                yield env.timeout(delay)
            else:
                yield from delay
        except StoreError:
            failed = True
        for page in pages:
            if failed:
                lib.edm_fetch_failed(self.ptr, page, env.now, self.out.ptr)
                self._fire(page)
            else:
                yield env.timeout(self.costs.install_ns)
                self._installed(page)
        self._under_way -= 1
        self._made_progress()

    # -- waiting for one another

    def _event_of(self, page: int) -> simpy.Event:
        """Succeeds when the page's installation or eviction under way has ended."""
        if page not in self._waiting:
            self._waiting[page] = self.env.event()
        return self._waiting[page]

    def _fire(self, page: int) -> None:
        if self._waiting and (event := self._waiting.pop(page, None)):
            event.succeed()
        if self._progress:
            self._made_progress()

    def _made_progress(self) -> None:
        if self._progress:
            self._progress.succeed()
            self._progress = None

    # -- reclaim

    def _lpet(self) -> Steps:
        """LPET: sleeps until the high watermark, works until the low one."""
        while True:
            if not self._lpet_active:
                self._lpet_bell = self.env.event()
                yield self._lpet_bell
                yield self.env.timeout(self.costs.wake_ns)
                continue  # direct reclaim may have been faster
            status, worked = yield from self._reclaim_step()
            if status == lib.EDM_FAIL and not worked:
                yield self._next_progress()

    def _reclaim_or_wait(self) -> Steps:
        """Direct reclaim; when there is nothing to choose, waits for what is under way."""
        _, worked = yield from self._reclaim_step()
        if not worked and lib.edm_resident(self.ptr) >= self.pager.config.limit:
            yield self._next_progress()

    def _next_progress(self) -> simpy.Event:
        if not self._under_way:
            raise AssertionError("nothing can be evicted and nothing is under way")
        if not self._progress:
            self._progress = self.env.event()
        return self._progress

    def _reclaim_step(self) -> Generator[simpy.Event, Any, tuple[int, bool]]:
        """One step of reclaim with all its commands: (status, whether there were any)."""
        env, costs, ptr = self.env, self.costs, self.ptr
        status = lib.edm_reclaim(ptr, 0, env.now, self.out.ptr)
        commands = self.out.all()
        if status == lib.EDM_OK:
            self._lpet_active = False
        if not commands:
            return status, False
        self._under_way += 1
        # A page that was idle is in the stash already: no move.
        moved = [page for op, page, flags in commands if not flags & lib.EDM_F_IDLE]
        yield env.timeout(costs.decide_ns + costs.move_ns(moved))
        for _, page, _ in commands:
            lib.edm_done(ptr, page, env.now)
            self._fire(page)
        yield from self._write_back([(p, flags) for op, p, flags in commands if op == _EVICT])
        self._under_way -= 1
        self._made_progress()
        return status, True

    def _write_back(self, evicted: list[tuple[int, int]]) -> Steps:
        env, ptr = self.env, self.ptr
        clean = [page for page, flags in evicted if not flags & _DIRTY]
        dirty = [page for page, flags in evicted if flags & _DIRTY]
        if clean:
            yield env.timeout(len(clean) * self.costs.drop_ns)
            self._gone(clean, None)
        if not dirty:
            return
        delay = self.dms.put(dirty)
        try:
            if isinstance(delay, int):
                yield env.timeout(delay + len(dirty) * self.costs.drop_ns)
            else:
                yield from delay
                yield env.timeout(len(dirty) * self.costs.drop_ns)
        except StoreError:
            for page in dirty:
                lib.edm_store_failed(ptr, page, env.now)
                self._fire(page)
            return
        self._gone(dirty, self.spt)

    def _gone(self, pages: list[int], stored_in: Spt | None) -> None:
        for page in pages:
            if stored_in:
                stored_in.put(page, 0)
            if lib.edm_stored(self.ptr, page, self.env.now) == 1:
                self.spt.give(page, self.number)
            self._fire(page)
