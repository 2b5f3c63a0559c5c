"""Refault distances, and the limit that follows them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edm_policy import LogBuffer, Pager, PolicyConfig, UsageError, replay


def classical(page, limit, pages, **more):
    config = PolicyConfig(
        pages, limit, high=limit, low=limit - 1, evict="lru", observe="exact", **more
    )
    pager = Pager(config)
    return pager, pager.run_classic(page)


def loop(pages, rounds):
    return np.tile(np.arange(pages, dtype=np.uint32), rounds)


@pytest.mark.parametrize("extra", [1, 5, 9, 40])
def test_a_loop_refaults_at_the_distance_that_it_is_too_long_by(extra):
    """`limit` + extra pages: extra - 1 others leave before each comes back."""
    pager, _ = classical(loop(10 + extra, 10), 10, 64, working_set=True)
    distances = np.flatnonzero(pager.refault_distances())
    assert distances.tolist() == [(extra - 1).bit_length()]
    stats = pager.stats()
    assert stats["refaults"] == 9 * (10 + extra)
    assert stats["workingset_refaults"] == (stats["refaults"] if extra <= 11 else 0)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=400), st.integers(1, 20))
def test_distances_below_d_are_at_most_what_d_more_frames_save(refs, limit):
    page = np.array(refs, np.uint32)
    pager, misses = classical(page, limit, 41, working_set=True)
    nearer = np.cumsum(pager.refault_distances())
    for k in range(5):
        _, fewer = classical(page, limit + 2**k, 41)
        assert nearer[k] <= misses - fewer


@pytest.mark.parametrize("observe", ["idle", "faults", "exact"])
def test_both_ways_to_run_see_the_same(observe):
    """The loop of its own and the events (a log makes those run) count the same refaults."""
    page = np.random.default_rng(1).zipf(1.3, 4000).clip(max=300).astype(np.uint32) - 1
    kinds = []
    for log in (None, LogBuffer()):
        config = PolicyConfig(
            300, 40, high=40, low=39, evict="clock", observe=observe, working_set=True
        )
        pager = Pager(config, log)
        pager.run_classic(page)
        kinds.append((pager.stats()["refaults"], pager.refault_distances().tolist()))
    assert kinds[0] == kinds[1] and kinds[0][0] > 100


def test_a_discarded_page_is_new_again():
    pager = Pager(PolicyConfig(8, 2, high=2, low=0, working_set=True, evict="fifo"))
    pager.run_classic(np.array([0, 1, 2, 3], np.uint32))
    assert pager.state(0) == "NEW"
    pager.adopt(0)
    pager.discard(0)
    pager.done(0)
    pager.run_classic(np.array([0, 1], np.uint32))
    assert pager.stats()["refaults"] == 1


def test_four_bytes_a_page():
    assert Pager(PolicyConfig(1000, 9, working_set=True)).bytes == (
        Pager(PolicyConfig(1000, 9)).bytes + 4000
    )


AUTO = {"auto_min": 64, "auto_target": 2000, "auto_interval": 1000}


def drive(pager, page, base):
    """Every reference; LPET has a turn at least every 1000 of them. `base`: now of the first."""
    at = 0
    for end in range(1000, page.size + 1, 1000):
        part = page[:end]
        while (at := pager.consume(part, start=at)) < end:
            now = base + at
            while (answer := pager.fault(int(page[at]), now=now))[0].op == "RECLAIM":
                settle(pager, now)
            pager.installed(int(page[at]), now)
            at += 1
            if any(c.op == "WAKE_LPET" for c in answer):
                settle(pager, now)
        settle(pager, base + end)


def test_auto_finds_the_working_set_of_each_phase_and_the_log_replays():
    """Loops over 200 pages, then 900, then 200 others."""
    log = LogBuffer()
    config = PolicyConfig(2048, 2048, evict="lru", observe="exact", **AUTO).resolved()
    pager = Pager(config, log)
    limits, base = [], 0
    for page in (loop(200, 1000), loop(900, 200), loop(200, 1000) + np.uint32(900)):
        drive(pager, page, base)
        base += page.size
        limits.append(pager.limit)
    assert 190 <= limits[0] <= 260
    assert 860 <= limits[1] <= 1200
    assert 190 <= limits[2] <= 260
    records = log.records()
    assert replay(config, records)[0] == len(records)


def test_auto_holds_the_rate_of_refaults_near_its_target():
    """On references that are no loop, where more memory always saves something."""
    draw = np.random.default_rng(7)
    page = (draw.pareto(0.8, 400_000) * 40).clip(max=3999).astype(np.uint32)
    for target in (20_000, 60_000):
        config = PolicyConfig(
            4000,
            4000,
            evict="lru",
            observe="exact",
            auto_min=16,
            auto_target=target,
            auto_interval=1000,
        )
        pager = Pager(config)
        drive(pager, page[:200_000], 0)
        before = pager.stats()["workingset_refaults"]
        drive(pager, page[200_000:], 200_000)
        rate = (pager.stats()["workingset_refaults"] - before) * 5
        assert 0.4 * target < rate < 1.1 * target
        assert config.auto_min < pager.limit < 4000


def settle(pager, now):
    status = "RUNNING"
    while status == "RUNNING":
        status, commands = pager.reclaim(now=now)
        for c in commands:
            pager.done(c.page, now)
        for c in commands:
            if c.op == "EVICT":
                pager.stored(c.page, now)
    assert status == "OK"
    assert pager.resident <= pager.limit


def test_auto_without_what_it_needs_is_refused():
    for wrong in ({"auto_min": 9}, {**AUTO, "auto_min": 65}, {**AUTO, "auto_interval": 0}):
        with pytest.raises(UsageError, match="auto"):
            PolicyConfig(128, 64, **wrong).resolved()
