"""Faults: from the pager's verdict until the page can be used.

Its commands are carried out in the thread that faulted, or, in monitor mode, in DM-Handler while
that thread sleeps.
"""

from __future__ import annotations

from array import array
from collections import deque

import simpy
from edm_policy._core import lib

from edm_sim.dms import StoreError
from edm_sim.draws import AWAY, BY_NEAR, HERE, HERE_NEXT, NEAR
from edm_sim.queueing import Server
from edm_sim.reclaim import Steps
from edm_sim.references import Share
from edm_sim.sharing import Sharing

_ZERO, _FETCH, _RESCUE = lib.EDM_ZERO_FILL, lib.EDM_FETCH, lib.EDM_RESCUE
_RECLAIM, _WAIT = lib.EDM_RECLAIM, lib.EDM_WAIT
_ALLOW_WRITE, _POISON = lib.EDM_ALLOW_WRITE, lib.EDM_POISON
_FINAL = (_ZERO, _FETCH, _RESCUE, _ALLOW_WRITE, _POISON)


class Faults(Sharing):
    """The part of an Instance that brings pages. asks: see Instance."""

    asks: bool
    lock: Server | None
    _spinning: bool
    _limit: int
    _brought: int
    _brought_at: array[int]
    _handlers_free: int
    _handler_near: Share | None
    _handler_stays: int
    _served_last: Share | None
    _served_alone: int
    _handler_queue: deque[simpy.Event]

    def handle(self, share: Share, j: int, page: int, write: int) -> Steps:
        """DM-Handler: the fault waits its turn, and its thread sleeps."""
        share.way = HERE
        if self._handlers_free:
            self._handlers_free -= 1
        else:
            share.way, begin = HERE_NEXT, self.env.now
            turn = self.env.event()
            self._handler_queue.append(turn)
            self.off_core(share)
            yield turn
            yield from self.on_core(share)
            self.spent["turn"] += self.env.now - begin
        if not self._handler_stays:
            self._handler_near, self._handler_stays = share, lib.EDM_FOLLOW
        elif self._handler_near:
            self._handler_stays -= 1
        self._served_alone = self._served_alone + 1 if share is self._served_last else 0
        self._served_last = share
        if share is not self._handler_near:
            share.way += AWAY
        elif self._served_alone >= lib.EDM_ALONE:
            share.way = BY_NEAR
        there_ns = self.draw.there[write][share.way]()
        if self._spinning:
            there_ns = self.costs.monitor_busy_ns
        self.spent["arrive"] += there_ns
        if not self.env.skip(there_ns):
            yield self.env.timeout(there_ns)
        op = yield from self.resolve(share, j, page, write)
        if self._handler_queue:
            self._handler_queue.popleft().succeed()
        else:
            self._handlers_free += 1
        return op

    def resolve(self, share: Share, j: int, page: int, write: int) -> Steps:
        """From the pager's verdict until the page can be used; returns the last command."""
        env, draw, out, ptr = self.env, self.draw, self.out, self.ptr
        while True:
            if self.asks:
                yield from self.ask(share, page)
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
            yield from self._carry_out_verdict(share, page, write, op, told, ring, beside)
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
        self,
        share: Share,
        page: int,
        write: int,
        op: int,
        told: tuple[int, int],
        ring: int,
        beside: int,
    ) -> Steps:
        """On the page itself. Waiting and making room are the caller's."""
        env, draw = self.env, self.draw
        if op == _FETCH or (op == _RESCUE and page in self.in_store):
            self.in_store.discard(page)
            install_ns = draw.install[write][beside]()
            yield from self._fetch(share, page, install_ns, told, ring, beside)
        elif op in (_ZERO, _RESCUE):
            if op == _ZERO and self.base + page in self.spt.copies:
                raise AssertionError(f"page {self.base + page} is stored, but reads as zeros")
            own = draw.zero if op == _ZERO else draw.rescue
            yield from self._ring(ring)
            yield from self._work(told, own[write][beside]())
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
        self.interrupt_others(share, self.draw.write_interrupt)
        if self.lpet_works:
            self.lpet_interrupted_ns += self.draw.write_interrupt()

    def locked(self, lock: int, decide: int) -> int:
        """Taking the pager's lock and deciding under it, ns, with the wait for other threads that
        decide: one does at a time."""
        if not self.lock:
            return lock + decide
        now = self.env.now
        return lock + self.lock.admit(now, decide) - now

    def _fetch(
        self,
        share: Share,
        page: int,
        install_ns: int,
        told: tuple[int, int],
        ring: int,
        beside: int,
    ) -> Steps:
        env = self.env
        delay = self.dms.fetch(self.number, [self.base + page], beside)
        if self.dms.place and isinstance(delay, int):
            delay = round(delay * self._get_scale(page))
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

    def _get_scale(self, page: int) -> float:
        """What the page's bytes in `mem:` cost: the more faults since its last one, the fewer of
        them are in the caches still."""
        return self.draw.get_scales[(self._brought - self._brought_at[page]).bit_length()]

    def installed(self, page: int) -> None:
        """The page is there."""
        if self.gone:
            return
        self._brought += 1
        self._brought_at[page] = self._brought
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

    def _ring(self, ns: int) -> Steps:
        """Waking LPET, where that was asked for."""
        if ns and not self.env.skip(ns):
            yield self.env.timeout(ns)

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
        beside = beside % NEAR + NEAR * (pages[-1] - pages[0] == len(pages) - 1)
        delay = self.dms.fetch(self.number, [self.base + page for page in pages], beside)
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
        install = self.draw.install[0][beside]
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
