"""Reclaim: LPET, direct reclaim, write-back, and who waits for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from operator import itemgetter
from typing import Any

import simpy
from edm_policy._core import lib

from edm_policy import Pager
from edm_sim import recorder as record
from edm_sim.clock import Clock
from edm_sim.commands import Commands
from edm_sim.cores import Cores, Thread
from edm_sim.costs import Costs
from edm_sim.dms import PageServer, StoreError
from edm_sim.draws import FAULTER, LPET, NOBODY, Machine, share_apart
from edm_sim.references import Share
from edm_sim.rest import Rest
from edm_sim.spt import Spt

Steps = Generator[simpy.Event, Any, Any]

_DIRTY, _IDLE = lib.EDM_F_DIRTY, lib.EDM_F_IDLE
_EVICT, _WAIT, _MARK = lib.EDM_EVICT, lib.EDM_WAIT, lib.EDM_MARK_IDLE

DIRECT, TOLD, PUT = lib.EDM_DIRECT, lib.EDM_TOLD, lib.EDM_PUT
IN_VAIN = 1000  # times that LPET asks again; then it is a deadlock


def bucket_of(page: int) -> int:
    """Which of edm_real's events a page's is."""
    return (page * lib.EDM_SCATTER % 2**32) * lib.EDM_BUCKETS >> 32


class Reclaim:
    """The part of an Instance that makes room."""

    env: Clock
    number: int
    base: int
    pager: Pager
    ptr: Any
    out: Commands
    costs: Costs
    dms: PageServer
    spt: Spt
    recorder: record.Recorder | None
    gone: bool
    shares: list[Share]
    threads: list[simpy.Process]
    draw: Machine
    cores: Cores | None
    locked: Callable[[int, int], int]
    spent: Counter[str]
    beside: Callable[[Share | None], int]
    wait_for: Callable[[simpy.Event, Share], Steps]

    def start_reclaim(self) -> None:
        self.lpet_active = False
        self.lpet_works = False  # on a core, in a step
        self.lpet_interrupted_ns = 0  # by faults that changed the page table: not paid yet
        self.flushing = 0  # threads that are taking pages out of the page table
        self.mapped: set[int] = set()  # chosen, but the program reaches them still
        self.in_store: set[int] = set()  # marked, but no buffer has their bytes
        self._places: set[int] = set()  # pages whose place in the store has memory
        self._lpet_core = Thread()
        self._in_vain = 0  # times in a row that nothing could be chosen, with nothing under way
        self.under_way = 0  # fetches and evictions that will end, and then make progress
        self._lpet_bell: simpy.Event | None = None
        self._rest, self._rests_since = Rest(self.draw), 0
        self._waiting: dict[int, list[simpy.Event]] = {}  # by bucket
        self._progress: list[simpy.Event] = []
        self.env.process(self._lpet())

    # -- waiting for one another

    def event_of(self, page: int) -> simpy.Event:
        """Succeeds when the page's installation or eviction under way has ended, or that of another
        one in its bucket: as on real memory, who is woken asks again."""
        event = self.env.event()
        self._waiting.setdefault(bucket_of(page), []).append(event)
        return event

    def fire(self, page: int) -> None:
        """The page's installation or eviction has ended."""
        if self._waiting:
            self._wake(bucket_of(page))
        if self._progress:
            self.made_progress()

    def _wake(self, bucket: int) -> None:
        for event in self._waiting.pop(bucket, ()):
            event.succeed()

    def wake_all(self) -> None:
        """Whoever waits for a page."""
        for bucket in list(self._waiting):
            self._wake(bucket)

    def made_progress(self) -> None:
        waiting, self._progress = self._progress, []
        for event in waiting:
            event.succeed()

    def _next_progress(self) -> simpy.Event:
        event = self.env.event()
        self._progress.append(event)
        if not self.under_way:  # a policy may find a victim when it is asked again
            self._in_vain += 1
            if self._in_vain > IN_VAIN:
                raise AssertionError("nothing can be evicted and nothing is under way")
            self.env.timeout(lib.EDM_AGAIN_NS).callbacks.append(lambda _: self.made_progress())
        return event

    # -- LPET and direct reclaim

    def wake_lpet(self) -> bool:
        """Rings for LPET; whether it must be woken."""
        self.lpet_active = True
        if not self._lpet_bell:
            return False
        notices_ns = self._rest.rung(self.env.now - self._rests_since)
        self._lpet_bell.succeed(self.draw.late() if notices_ns is None else notices_ns)
        self._lpet_bell = None
        return notices_ns is None

    def _lpet(self) -> Steps:
        """LPET: sleeps until the high watermark, works until the low one."""
        while True:
            if not self.lpet_active:
                self._lpet_sleeps()
                self._rests_since, self._lpet_bell = self.env.now, self.env.event()
                comes_ns = yield self._lpet_bell
                yield self.env.timeout(comes_ns)
                yield from self._lpet_runs()
                self._rest.ended(self.env.now - self._rests_since)
                continue  # direct reclaim may have been faster
            if self.gone:
                self._lpet_sleeps()
                return
            yield from self._lpet_runs()
            begin = self.env.now
            status, worked = yield from self._reclaim_step()
            if self.lpet_interrupted_ns:
                delay, self.lpet_interrupted_ns = self.lpet_interrupted_ns, 0
                yield self.env.timeout(delay)
            self.spent["lpet"] += self.env.now - begin
            if status == lib.EDM_FAIL and not worked:
                self._lpet_sleeps()
                yield self._next_progress()

    def _lpet_runs(self) -> Steps:
        """LPET has a core, or gets one; when its slice is over, after the others."""
        if self.cores and not self._lpet_core.on:
            yield from self.cores.enter(self._lpet_core)
        elif self.cores and self.cores.over(self._lpet_core):
            self.lpet_works = False
            yield from self.cores.turn(self._lpet_core)
        self.lpet_works = True

    def _lpet_sleeps(self) -> None:
        self.lpet_works = False
        if self.cores and self._lpet_core.on:
            self.cores.leave(self._lpet_core)

    def reclaim_or_wait(self, by: Share) -> Steps:
        """Direct reclaim; when there is nothing to choose, waits for what is under way."""
        _, worked = yield from self._reclaim_step(DIRECT, by)
        if not worked and lib.edm_resident(self.ptr) >= self.pager.config.limit:
            yield from self.wait_for(self._next_progress(), by)

    def _reclaim_step(
        self, most: int = 0, by: Share | None = None
    ) -> Generator[simpy.Event, Any, tuple[int, bool]]:
        """One step of reclaim, of `most` evictions (0: the policy's batch), with all its
        commands: (status, whether there were any). by: the thread that does it, if not LPET."""
        env, ptr = self.env, self.ptr
        status = lib.edm_reclaim(ptr, most, env.now, self.out.ptr)
        commands = self.out.all()
        if status == lib.EDM_OK:
            self.lpet_active = False
        self.pager.raise_policy_error()
        if commands:
            self._in_vain = 0
            self.draw.evicts()
            yield from self._carry_out(commands, by, lpet=by is None)
        return status, bool(commands)

    def interrupt_others(self, by: Share | None, ns: Callable[[], int] | None = None) -> int:
        """Entries of the page table were changed: every core that runs the program is
        interrupted (for `ns`, or what a flush of many pages takes), and who does it waits for
        that. Returns that wait, ns."""
        interrupt = ns or self.draw.interrupt
        running = [share for share in self.shares if share.running and share is not by]
        if self.cores:
            running = [share for share in running if share.core.on]
        for share in running:
            share.interrupted_ns += interrupt()
            share.interrupted_at = self.env.now
        return self.costs.tlb_ns if running else 0

    def _carry_out(
        self, commands: list[tuple[int, int, int]], by: Share | None = None, lpet: bool = False
    ) -> Steps:
        """Marks and evictions, write-back included. As in evict.c, pages in their buffers go
        first and make room at once; the others are unmapped together, and hit until then."""
        env = self.env
        self.under_way += 1
        n, begin = len(commands), env.now
        idle = [c for c in commands if c[2] & _IDLE]
        mapped = [c for c in commands if not c[2] & _IDLE]
        self.mapped.update([page for _, page, _ in mapped])
        if self.draw.measured:
            yield env.timeout(self.draw.choose[self._who(by)](n))
        else:
            yield env.timeout(self.locked(0, self.costs.decide_ns))
        for some, out_of_sight in ((idle, self._tell_done), (mapped, self._take_out)):
            if some:
                to_store = yield from out_of_sight(some, begin, by)
                yield from self._store(to_store, begin, by, lpet)
        self.under_way -= 1
        self.made_progress()

    def _who(self, by: Share | None) -> int:
        """Who does a step (None: LPET), and a thread beside what, as draws.py counts it."""
        if not by:
            return LPET
        return FAULTER if self.beside(by) == FAULTER else NOBODY

    def _dropped(self, command: tuple[int, int, int]) -> bool:
        """A clean page's bytes are not kept: it leaves, or the store is quickly asked again."""
        op, page, _ = command
        return bool(lib.edm_droppable(self.ptr, page, op, self.dms.quick))

    def _placed(self, page: int) -> bool:
        """Its bytes go straight to where they are stored, where there is such a place."""
        return self.dms.place is not None and bool(lib.edm_placeable(self.ptr, page))

    def _take_out(
        self, commands: list[tuple[int, int, int]], begin: int, by: Share | None
    ) -> Generator[simpy.Event, Any, list[int]]:
        """Unmaps pages, all at once; then the bytes of those that are not dropped come, some at a
        time. Returns what is still to be stored."""
        env, draw = self.env, self.draw
        commands = sorted(commands, key=itemgetter(1))
        pages = [page for _, page, _ in commands]
        clean = [c for c in commands if self._dropped(c)]
        dropped = {page for _, page, _ in clean}
        kept = [c for c in commands if c[1] not in dropped]
        placed = {page for _, page, _ in kept if self._placed(page)}
        marked = [page for op, page, _ in commands if op == _MARK]
        self.in_store.update([p for p in marked if p in dropped or p in placed])
        n, out, apart = len(pages), len(kept), share_apart(pages)
        if draw.measured:
            beside = self._who(by)
            yield env.timeout(draw.sort[beside](n, apart) + draw.splice[beside](out, apart))
            beside = self._who(by)
            self.flushing += 1
            flush_ns = draw.flush[beside](n, apart)
            yield env.timeout(flush_ns // 2)
            self.mapped.difference_update(pages)  # on the mean, when half of it is over
            yield env.timeout(flush_ns - flush_ns // 2)
            self.flushing -= 1
            self.interrupt_others(by)
            read_ns = draw.read[self._who(by)](out, apart)
        else:
            self.mapped.difference_update(pages)
            drop_ns = self.costs.reclaim_ns(0, len(dropped))
            yield env.timeout(drop_ns + self.interrupt_others(by))
            read_ns = self.costs.reclaim_ns(out, len(dropped)) - drop_ns
        to_store = (yield from self._tell_done(clean, begin, by)) if clean else []
        for first in range(0, out, TOLD):
            some = kept[first : first + TOLD]
            new = {page for _, page, _ in some if page in placed} - self._places
            self._places |= new
            first_ns = round(draw.first_use_ns * len(new))
            yield env.timeout(read_ns * len(some) // out + first_ns)
            to_store += yield from self._tell_done(some, begin, by)
        return to_store

    def _tell_done(
        self, commands: list[tuple[int, int, int]], begin: int, by: Share | None
    ) -> Generator[simpy.Event, Any, list[int]]:
        """The pager is told that the pages are out of sight. Returns those that leave and are not
        stored yet."""
        if self.draw.measured:
            yield self.env.timeout(self.draw.done[self._who(by)](len(commands)))
        for _, page, _ in commands:
            if not self.gone:
                lib.edm_done(self.ptr, page, self.env.now)
            self.fire(page)
        clean = [page for op, page, flags in commands if op == _EVICT and not flags & _DIRTY]
        dirty = [page for op, page, flags in commands if op == _EVICT and flags & _DIRTY]
        self.in_store.difference_update(clean + dirty)
        self._left(clean, record.EVICT, begin)
        if dirty and self.dms.place:
            self.dms.place([self.base + page for page in dirty])
            self._left(dirty, record.WRITEBACK, begin)
            return []
        return dirty

    def _store(self, dirty: list[int], begin: int, by: Share | None, lpet: bool) -> Steps:
        for first in range(0, len(dirty), PUT):
            yield from self._write_back(dirty[first : first + PUT], begin, by, lpet)

    def _write_back(self, dirty: list[int], begin: int, by: Share | None, lpet: bool) -> Steps:
        # LPET waits for an answer off its core.
        asleep = lpet and self.dms.remote
        if asleep:
            self._lpet_sleeps()
        delay = self.dms.put(self.number, [self.base + page for page in dirty])
        try:
            if isinstance(delay, int):
                yield self.env.timeout(delay)
            else:
                yield from delay
            if asleep:
                yield from self._lpet_runs()
            if self.draw.measured:
                yield self.env.timeout(self.draw.stored[self._who(by)](len(dirty)))
        except StoreError:
            for page in dirty:
                if not self.gone:
                    lib.edm_store_failed(self.ptr, page, self.env.now)
                self._note(page, record.STORE_FAILED, begin)
                self.fire(page)
            return
        self._left(dirty, record.WRITEBACK, begin)

    def _left(self, pages: list[int], event: str, begin: int) -> None:
        """Evictions that have ended well."""
        for page in pages:
            if not self.gone and lib.edm_stored(self.ptr, page, self.env.now) == 1:
                self.spt.give(self.base + page, self.number)
            self._note(page, event, begin)
            self.fire(page)

    def _note(self, page: int, event: str, begin: int) -> None:
        if self.recorder:
            self.recorder.page(begin, self.number, page, event, self.env.now - begin)

    def check_rest(self) -> None:
        """At the end of a run: raises AssertionError for whoever or whatever still waits."""
        if self.under_way or self._waiting or self._progress:
            raise AssertionError(
                f"instance {self.number}: {self.under_way} steps never ended, "
                f"pages of buckets {sorted(self._waiting)} are waited for"
            )
