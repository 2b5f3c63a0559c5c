"""The pager's promises, one behaviour each: what the random walks must never lose sight of."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from edm_policy._core import lib

from edm_policy import LogBuffer, Pager, PolicyConfig, UsageError, evictors
from model.world import PrefetchingPager, World


def make(pages: int = 10, limit: int = 4, **more: Any) -> Pager:
    return Pager(PolicyConfig(pages=pages, limit=limit, **more))


def ops(commands: list[Any]) -> list[tuple[str, int]]:
    return [(c.op, c.page) for c in commands]


def bring(pager: Pager, *pages: int, write: bool = False) -> None:
    for page in pages:
        assert pager.fault(page, write)[0].op in ("ZERO_FILL", "FETCH", "RESCUE")
        pager.installed(page)


def carry_out(pager: Pager, commands: list[Any], store: bool = True) -> None:
    for c in commands:
        if c.op in ("EVICT", "CLEAN", "MARK_IDLE", "ALLOW_WRITE", "DISCARD"):
            pager.done(c.page)
    for c in commands:
        if c.op in ("EVICT", "CLEAN") and store:
            pager.stored(c.page)


def reclaim(pager: Pager) -> list[int]:
    """LPET until it sleeps; the pages it evicted."""
    evicted = []
    while True:
        status, commands = pager.reclaim()
        assert status != "FAIL"
        carry_out(pager, commands)
        evicted += [c.page for c in commands if c.op == "EVICT"]
        if status == "OK":
            return evicted


def touch(pager: Pager, page: int) -> None:
    """The program touches a page; as an idle one it is rescued."""
    refs = np.array([page], np.uint32)
    if not pager.consume(refs):
        bring(pager, page)


class TestTheOriginalsScenarios:
    """seed: high 20, low 15, five areas of five pages; high 20, low 10, areas of 10, 10, 1."""

    def test_five_areas(self) -> None:
        pager = make(pages=25, limit=20, high=20, low=15, evict="lpet", observe="idle")
        bring(pager, *range(20), write=True)
        assert pager.resident == 20 and pager.stats()["wakes"] == 0
        assert ops(pager.fault(20, True)) == [("RECLAIM", 20), ("WAKE_LPET", 0)]
        assert reclaim(pager) == [0, 1, 2, 3, 4]
        bring(pager, *range(20, 25), write=True)
        assert pager.resident == 20
        for page in range(5, 15):
            touch(pager, page)
        assert ops(pager.fault(0))[0] == ("RECLAIM", 0)
        assert reclaim(pager) == [15, 16, 17, 18, 19]
        assert ops(pager.fault(0)) == [("FETCH", 0)]

    def test_ten_ten_one(self) -> None:
        pager = make(pages=21, limit=20, high=20, low=10, evict="lpet", observe="idle")
        bring(pager, *range(20), write=True)
        pager.fault(20, True)
        assert reclaim(pager) == list(range(10))
        bring(pager, 20, write=True)
        for page in range(9):
            assert ops(pager.fault(page)) == [("FETCH", page)]
            pager.installed(page)
        assert pager.resident == 20


class TestWatermarks:
    def test_high_wakes_lpet_once_and_the_limit_stops_the_fault(self) -> None:
        pager = make(limit=4, high=2, low=1, evict="fifo")
        bring(pager, 0, 1)
        assert ops(pager.fault(2)) == [("ZERO_FILL", 2), ("WAKE_LPET", 0)]
        pager.installed(2)
        assert ops(pager.fault(3)) == [("ZERO_FILL", 3)]
        pager.installed(3)
        assert ops(pager.fault(4)) == [("RECLAIM", 4)]
        assert reclaim(pager) == [0, 1, 2]

    def test_a_leaving_page_counts_against_the_limit_until_it_is_stored(self) -> None:
        pager = make(limit=2, high=2, low=0, evict="fifo")
        bring(pager, 0, 1, write=True)
        pager.fault(2)
        status, commands = pager.reclaim()
        assert status == "OK"
        carry_out(pager, commands, store=False)
        assert pager.resident == 2 and pager.leaving == 2
        assert pager.fault(2)[0].op == "RECLAIM"
        assert pager.stored(0) == 1
        assert pager.fault(2)[0].op == "ZERO_FILL"

    def test_a_lowered_limit_is_reached_by_reclaim(self) -> None:
        pager = make(limit=8, high=8, low=7, evict="fifo")
        bring(pager, *range(8))
        pager.resize(2, 3, 3)
        assert pager.fault(8)[0].op == "RECLAIM"
        assert len(reclaim(pager)) == 6

    def test_watermarks_out_of_order_are_refused(self) -> None:
        with pytest.raises(UsageError, match="low 3, high 3, limit 4"):
            make().resize(3, 3, 4)


class TestCleanAndDirty:
    def test_a_clean_page_is_dropped_and_a_dirty_one_written(self) -> None:
        pager = make(limit=2, high=2, low=0, evict="fifo")
        bring(pager, 0)
        bring(pager, 1, write=True)
        pager.fault(2)
        _, commands = pager.reclaim()
        assert [(c.page, c.flags & lib.EDM_F_DIRTY) for c in commands] == [(0, 0), (1, 2)]
        carry_out(pager, commands)
        assert (pager.state(0), pager.state(1)) == ("NEW", "REMOTE")

    def test_a_clean_page_rescued_on_its_way_out_is_not_taken_for_stored(self) -> None:
        pager = make(limit=1, high=1, low=0, evict="fifo")
        bring(pager, 0)
        pager.fault(1)
        carry_out(pager, pager.reclaim()[1], store=False)
        bring(pager, 0)
        assert pager.stored(0) == 0
        pager.fault(1)
        reclaim(pager)
        assert pager.state(0) == "NEW"  # REMOTE would fetch what no store was ever given

    def test_a_page_whose_write_back_failed_stays(self) -> None:
        pager = make(limit=1, high=1, low=0, evict="fifo")
        bring(pager, 0, write=True)
        carry_out(pager, pager.recall(0), store=False)
        assert pager.store_failed(0) == 2
        assert pager.state(0) == "IDLE" and pager.word(0) & lib.EDM_DIRTY
        assert reclaim(pager) == [0]  # a later round tries again

    def test_flushed_pages_stay_dirty_once_they_are_used_where_writes_are_not_seen(self) -> None:
        pager = make(dirty="always", evict="fifo")
        bring(pager, 0)
        carry_out(pager, pager.flush(0), store=False)
        assert pager.stored(0) == 2
        (rescue,) = pager.fault(0)
        assert rescue.flags & lib.EDM_F_WRITE
        pager.installed(0)
        assert pager.word(0) & lib.EDM_DIRTY

    def test_the_first_write_to_a_clean_page_is_asked_for(self) -> None:
        pager = make(evict="fifo")
        bring(pager, 0)
        assert ops(pager.fault(0, True)) == [("ALLOW_WRITE", 0)]
        assert ops(pager.fault(0, True)) == [("WAIT", 0)]
        pager.done(0)
        assert ops(pager.fault(0, True)) == [("RETRY", 0)]


class TestFlushInPlace:
    """A page that is changed and mapped, under exact dirty tracking."""

    def flushed(self) -> Pager:
        pager = make(evict="fifo")
        bring(pager, 0, write=True)
        assert pager.flush(0) == [("CLEAN", 0, lib.EDM_F_DIRTY)]
        return pager

    def test_it_waits_for_the_copy_only(self) -> None:
        pager = self.flushed()
        assert ops(pager.fault(0, True)) == [("WAIT", 0)]
        pager.done(0)
        assert ops(pager.fault(0, False)) == [("RETRY", 0)]
        assert ops(pager.fault(0, True)) == [("ALLOW_WRITE", 0)]
        assert pager.stored(0) == 0  # before that write was allowed
        pager.done(0)
        assert pager.word(0) & 0x7F == lib.EDM_RESIDENT | lib.EDM_DIRTY | lib.EDM_COPY
        assert ops(pager.flush(0)) == [("CLEAN", 0)]

    @pytest.mark.parametrize("write", [False, True])
    def test_a_page_the_store_refused_is_dirty_and_can_be_written(self, write: bool) -> None:
        pager = self.flushed()
        pager.done(0)
        if write:
            assert ops(pager.fault(0, True)) == [("ALLOW_WRITE", 0)]
            pager.done(0)
        assert pager.store_failed(0) == (0 if write else 1)
        if not write:
            assert ops(pager.fault(0, True)) == [("WAIT", 0)]
            pager.done(0)
        assert pager.word(0) & 0x7F == lib.EDM_RESIDENT | lib.EDM_DIRTY
        assert ops(pager.fault(0, True)) == [("RETRY", 0)]

    def test_nobody_takes_it_before_it_is_stored(self) -> None:
        pager = self.flushed()
        pager.done(0)
        for ask in (pager.recall, pager.discard, pager.flush):
            assert ops(ask(0)) == [("WAIT", 0)]
        pager.resize(0, 1, 1)
        assert pager.reclaim() == ("FAIL", [])
        pager.stored(0)
        assert pager.flush(0) == [] and reclaim(pager) == [0] and pager.state(0) == "REMOTE"

    def test_a_write_told_of_late_does_not_make_it_dirty(self) -> None:
        """Its next write would be answered with RETRY for ever: it is protected."""
        pager = self.flushed()
        pager.done(0)
        pager.touched(0, True)
        assert ops(pager.fault(0, True)) == [("ALLOW_WRITE", 0)]

    def test_an_answer_before_the_copy_aborts(self) -> None:
        code = (
            "from edm_policy import *; p = Pager(PolicyConfig(pages=4, limit=2)); p.fault(1, True);"
            "p.installed(1); p.flush(1); p.stored(1)"
        )
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert child.returncode < 0 and "page 1 may not go from RESIDENT" in child.stderr


class TestHeldPages:
    def test_a_touch_reported_late_does_not_bring_back_a_page_being_taken_away(self) -> None:
        pager = make(limit=2, high=2, low=0, evict="lpet", observe="idle")
        bring(pager, 0)
        _, commands = pager.reclaim()
        assert ops(commands) == [("MARK_IDLE", 0)]
        pager.touched(0)
        assert pager.state(0) == "IDLE"  # RESIDENT would answer its next fault with RETRY for ever
        pager.done(0)
        pager.touched(0)
        assert pager.state(0) == "RESIDENT"

    @pytest.mark.parametrize("evict", ["lpet", "lru"])
    def test_reclaim_ends_when_every_page_is_in_somebodys_hands(self, evict: str) -> None:
        pager = make(limit=3, high=3, low=0, evict=evict, observe="idle")
        bring(pager, 0, 1, 2)
        assert pager.reclaim()[0] == "RUNNING"  # marks, not yet carried out
        assert pager.reclaim() == ("FAIL", [])

    @pytest.mark.parametrize("asked", range(4))
    @pytest.mark.parametrize("evict", ["fifo", "lru", "clock", "sieve"])
    def test_asking_while_every_page_is_flushed_leaves_their_order(
        self, evict: str, asked: int
    ) -> None:
        """LPET asks every millisecond then: a slow store must not make the newest page leave."""
        pager = make(limit=6, high=6, low=3, evict=evict, observe="exact")
        assert pager.fault(9)[0].op == "ZERO_FILL"  # in the LSPT, and in no list yet
        bring(pager, 3, 1, 4, 0, 5, write=True)
        cleaned = [c for page in range(6) for c in pager.flush(page)]
        for _ in range(asked):
            assert pager.reclaim() == ("FAIL", [])
        carry_out(pager, cleaned)
        assert pager.check() and reclaim(pager) == [3, 1, 4]

    def test_an_answer_holds_512_commands_and_no_more(self) -> None:
        pager = make(pages=900, limit=900, high=900, low=0, evict="lpet", observe="idle", batch=256)
        bring(pager, *range(600))
        carry_out(pager, pager.recall(599), store=False)
        assert pager.store_failed(599) == 2  # IDLE, and the newest: met after 599 marks
        _, commands = pager.reclaim()
        assert len(commands) == 511
        carry_out(pager, commands)
        assert pager.check() and sorted(reclaim(pager)) == list(range(600))

    def test_a_victim_after_511_marks_still_fits(self) -> None:
        pager = make(pages=900, limit=900, high=900, low=0, evict="lpet", observe="idle")
        bring(pager, *range(512))
        carry_out(pager, pager.recall(511), store=False)
        pager.store_failed(511)
        _, commands = pager.reclaim()
        assert len(commands) == 512 and ops(commands)[-1] == ("EVICT", 511)
        assert pager.check()


class TestPrefetch:
    def test_a_fault_on_a_prefetched_page_under_way_is_late_and_goes_on(self) -> None:
        config = PolicyConfig(pages=10, limit=8, evict="fifo")
        pager = PrefetchingPager(config, LogBuffer(), ahead=2)
        for page in range(6):
            pager.adopt(page)
        assert ops(pager.fault(0)) == [("FETCH", 0), ("PREFETCH", 1), ("PREFETCH", 2)]
        assert ops(pager.fault(1)) == [("WAIT", 1), ("PREFETCH", 3)]
        pager.installed(1)
        pager.installed(2)
        assert ops(pager.fault(1)) == [("RESCUE", 1)]  # a marker; its use was seen already
        assert ops(pager.fault(2, True)) == [("ALLOW_WRITE", 2), ("PREFETCH", 4)]
        s = pager.stats()
        assert (s["prefetches"], s["prefetch_late"], s["prefetch_hits"]) == (4, 1, 2)

    def test_a_prefetch_never_passes_the_limit(self) -> None:
        pager = PrefetchingPager(
            PolicyConfig(pages=10, limit=2, high=2, low=1, evict="fifo"), LogBuffer(), ahead=3
        )
        for page in range(4):
            pager.adopt(page)
        assert ops(pager.fault(0)) == [("FETCH", 0), ("PREFETCH", 1)]


def test_discard_forgets_content_and_waits_for_what_is_under_way() -> None:
    world = World(PolicyConfig(pages=4, limit=4, evict="fifo"))
    world.access(0, True)
    assert ops(world.pager.discard(0)) == [("WAIT", 0)]
    world.model.discard(0)
    world.installed(0)
    world.request("discard", 0)
    assert world.pager.state(0) == "NEW"
    assert ops(world.pager.fault(0)) == [("WAIT", 0)]


def test_only_a_new_page_can_be_adopted() -> None:
    pager = make()
    pager.adopt(3)
    assert ops(pager.fault(3)) == [("FETCH", 3)]
    with pytest.raises(ValueError, match="page 3 is FETCHING"):
        pager.adopt(3)


def test_a_page_outside_the_region_is_refused() -> None:
    with pytest.raises(IndexError, match="page 10 of a region of 10"):
        make().fault(10)


def test_a_transition_not_in_the_table_aborts() -> None:
    code = "from edm_policy import *; p = Pager(PolicyConfig(pages=4, limit=2)); p.installed(1)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert child.returncode < 0
    assert "edm: page 1 may not go from NEW" in child.stderr


def test_memory_is_at_most_32_bytes_a_page() -> None:
    pages = 1 << 16
    for name in ("lpet", "fifo", "lru", "random"):
        assert Pager(PolicyConfig(pages=pages, limit=pages // 4, evict=name)).bytes <= 32 * pages
        assert evictors()[name].bytes_per_page <= 30
