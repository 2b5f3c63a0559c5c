"""Prefetchers on the patterns they are for, and what holds on any trace."""

from __future__ import annotations

import numpy as np
import pytest
from edm_policy._core import lib
from hypothesis import given, settings
from hypothesis import strategies as st

from edm_policy import (
    LogBuffer,
    Pager,
    PolicyConfig,
    UsageError,
    fault_order,
    prefetch_metrics,
    prefetchers,
    replay,
)
from edm_policy.config import OBSERVE

PAGES = 4096
COMES = [op | 0x80 for op in (lib.EDM_ZERO_FILL, lib.EDM_FETCH, lib.EDM_PREFETCH)]
LIMIT = 512
AHEAD = [name for name in prefetchers() if name != "none"]


def run(prefetch, page, observe="idle", limit=LIMIT, pages=PAGES, evict="lpet", log=None, **more):
    """(pager after the trace, misses); every page is in the store already."""
    config = PolicyConfig(
        pages, limit, evict=evict, prefetch=prefetch, observe=observe, **more
    ).resolved()
    pager = Pager(config, log)
    if pager.config.prefetch.startswith("planned"):
        pager.set_plan(fault_order(page, limit, pages=pages))
    for k in range(pages):
        pager.adopt(k)
    misses = pager.run_classic(page)
    assert pager.check()
    return pager, misses


def interleaved(streams=4, length=900, step=1):
    starts = np.arange(streams) * (PAGES // streams)
    walk = np.arange(length // step) * step
    return (starts[None, :] + walk[:, None]).ravel().astype(np.uint32)


def scattered(refs=6000, seed=3):
    return np.random.default_rng(seed).integers(0, PAGES, refs, dtype=np.uint32)


SEQUENTIAL = np.arange(PAGES, dtype=np.uint32)
PERMUTED = np.random.default_rng(5).permutation(PAGES)[:1500].astype(np.uint32)
LOOP = np.tile(PERMUTED, 4)

PATTERNS = [  # prefetcher, trace, at most this part of the misses without
    ("nextn", SEQUENTIAL, 0.02),
    ("nextn", interleaved(2), 0.6),
    ("stride", SEQUENTIAL, 0.02),
    ("stride", SEQUENTIAL[::-1], 0.02),
    ("stride", interleaved(4), 0.02),
    ("stride", interleaved(4, step=7), 0.1),
    ("stride", np.arange(0, PAGES, 13, dtype=np.uint32), 0.1),
    ("leap", SEQUENTIAL, 0.02),
    ("leap", np.arange(0, PAGES, 13, dtype=np.uint32), 0.1),
    ("leap", np.arange(PAGES - 1, 0, -5, dtype=np.uint32), 0.1),
    ("markov", LOOP, 0.35),
    ("planned", LOOP, 0.02),
    ("planned", scattered(), 0.05),
]


@pytest.mark.parametrize("observe", OBSERVE)
@pytest.mark.parametrize(("prefetch", "page", "most"), PATTERNS)
def test_a_prefetcher_takes_over_the_misses_of_its_pattern(prefetch, page, most, observe):
    _, without = run("none", page, observe)
    pager, misses = run(prefetch, page, observe)
    assert misses <= most * without, f"{misses} of {without} misses left"
    metrics = prefetch_metrics(pager.stats(), observe)
    assert metrics.accuracy is not None and metrics.accuracy > 0.8
    assert metrics.estimated == (observe != "exact")
    assert metrics.coverage > 0.9 - most


@pytest.mark.parametrize("prefetch", [name for name in AHEAD if name != "planned"])
@pytest.mark.parametrize("observe", OBSERVE)
def test_random_references_are_left_alone(prefetch, observe):
    page = scattered()
    _, without = run("none", page, observe)
    pager, misses = run(prefetch, page, observe)
    stats = pager.stats()
    assert stats["prefetches"] <= 0.02 * stats["fetches"]
    assert misses <= 1.01 * without


def test_nextn_doubles_its_window_up_to_max():
    log = LogBuffer()
    run("nextn:min=4:max=16", SEQUENTIAL[:200], log=log)
    events = log.records()
    ahead = events[events["kind"] == lib.EDM_PREFETCH | 0x80]
    sizes = np.unique(ahead["now"], return_counts=True)[1].tolist()
    assert sizes[:3] == [4, 8, 16] and set(sizes[3:-1]) <= {16}


def test_a_marker_is_in_the_stash_until_it_is_touched():
    pager = Pager(PolicyConfig(64, 32, prefetch="nextn", evict="lpet", observe="idle"))
    for k in range(64):
        pager.adopt(k)
    pager.fault(0)
    pager.installed(0)
    ahead = [c for c in pager.fault(1) if c.op == "PREFETCH"]
    pager.installed(1)
    assert [c.page for c in ahead] == [2, 3, 4, 5]
    assert [c.flags for c in ahead] == [16, 0, 0, 0]
    for c in ahead:
        pager.installed(c.page)
    assert [pager.state(k) for k in range(2, 6)] == ["IDLE", "RESIDENT", "RESIDENT", "RESIDENT"]
    answer = pager.fault(2)
    assert (answer[0].op, answer[0].page) == ("RESCUE", 2)
    assert [c.page for c in answer[1:] if c.op == "PREFETCH"] == list(range(6, 14))
    assert pager.stats()["prefetch_mark_hits"] == 1


def writes_back(writes):
    """Stats and misses of two windows' and more worth of a stream whose k-th reference is a write
    where writes[k % len(writes)] is 1."""
    pager = Pager(PolicyConfig(PAGES, LIMIT, prefetch="nextn", evict="fifo", observe="faults"))
    for k in range(PAGES):
        pager.adopt(k)
    pager.run_classic(SEQUENTIAL, np.resize(np.array(writes, np.uint8), PAGES))
    assert pager.check()
    return pager.stats()


def test_a_stream_of_writes_takes_no_fault_for_each_first_write():
    stats = writes_back([1])
    assert stats["write_faults"] < 16, "pages fetched ahead were write-protected"
    assert stats["writebacks"] + LIMIT >= PAGES - 32, "a page that was written counts as clean"


@pytest.mark.parametrize("writes", [[0], [0, 0, 0, 1]])
def test_a_stream_that_reads_is_fetched_clean(writes):
    stats = writes_back(writes)
    assert stats["writebacks"] <= PAGES * sum(writes) // len(writes)
    assert stats["faults"] < PAGES * (sum(writes) / len(writes) + 0.1)


def test_random_writes_do_not_look_like_runs():
    """Of a mapped page a use is seen where it is a write, and never that there was none. Who
    learned from such pages would find every guess a good one."""
    page = scattered(60_000)
    for evict, observe in (("fifo", "faults"), ("lpet", "idle")):
        pager = Pager(
            PolicyConfig(PAGES, PAGES // 4, prefetch="nextn", evict=evict, observe=observe)
        )
        for k in range(PAGES):
            pager.adopt(k)
        pager.run_classic(page, np.ones(len(page), np.uint8))
        assert pager.stats()["prefetches"] < len(page) / 50


def test_lpet_makes_room_for_the_next_window_and_takes_it_back():
    page = np.concatenate([SEQUENTIAL[:2000], scattered(3000)])
    pager, _ = run("nextn", page[:2000], observe="faults", evict="fifo")
    assert pager.resident <= LIMIT - 32, "no room is kept for a window of 32"
    pager, _ = run("nextn", page, observe="faults", evict="fifo")
    assert pager.resident > LIMIT - 16, "the room was not given back"


def test_a_full_classical_cache_prefetches_too():
    """high = limit, low = limit - 1: only the room that LPET makes lets anything in."""
    for prefetch in ("nextn", "stride", "leap"):
        _, misses = run(prefetch, SEQUENTIAL, "exact", high=LIMIT, low=LIMIT - 1, evict="lru")
        assert misses < 0.1 * PAGES


def test_a_stream_that_changes_its_stride_is_followed():
    page = np.concatenate([np.arange(0, 600, 3), np.arange(602, 3000, 5)]).astype(np.uint32)
    _, misses = run("stride", page, "faults")
    assert misses < 20


@pytest.mark.parametrize("prefetch", ["none", "nextn"])
@pytest.mark.parametrize(("limit", "high", "low"), [(1, 1, 0), (2, 1, 0), (3, 2, 1), (40, 8, 2)])
def test_lpet_is_not_woken_for_what_it_cannot_reach(prefetch, limit, high, low):
    """The pages under way are not to be had: so few others that low is out of reach."""
    run(prefetch, SEQUENTIAL[:200], "faults", limit=limit, high=high, low=low)


def test_planned_refuses_without_a_plan():
    pager = Pager(PolicyConfig(16, 8, prefetch="planned"))
    with pytest.raises(UsageError, match="no plan"):
        pager.run_classic(np.zeros(1, np.uint32))
    with pytest.raises(UsageError, match="no plan"):
        pager.fault(0)
    with pytest.raises(IndexError):
        pager.set_plan(np.array([16], np.uint32))


@pytest.mark.parametrize(
    "spec",
    [
        "nextn:min=9:max=4",
        "nextn:max=129",
        "stride:streams=0",
        "leap:history=1.5",
        "markov:entries=1e9",
        "planned:window=0",
        "nextn:depth=3",
    ],
)
def test_parameters_out_of_range_are_refused(spec):
    with pytest.raises(UsageError):
        Pager(PolicyConfig(16, 8, prefetch=spec))


@pytest.mark.parametrize("prefetch", AHEAD)
def test_memory_is_bounded_and_not_by_the_region(prefetch):
    small = Pager(PolicyConfig(64, 8, prefetch=prefetch)).bytes
    base = Pager(PolicyConfig(64, 8)).bytes
    large = Pager(PolicyConfig(64_000, 8, prefetch=prefetch)).bytes
    assert large - Pager(PolicyConfig(64_000, 8)).bytes == small - base
    assert small - base <= (120_000 if prefetch == "markov" else 4096)


def test_markov_takes_the_table_it_is_given():
    def size(n):
        return Pager(PolicyConfig(64, 8, prefetch=f"markov:entries={n}")).bytes

    assert size(2048) - size(1024) == 1024 * 28


def test_exact_accounting_adds_up():
    page = np.concatenate([interleaved(4)[:1000], scattered(2000)])
    stats = run("stride", page, "exact")[0].stats()
    here = stats["prefetches"] - stats["prefetch_hits"] - stats["prefetch_unused"]
    assert stats["prefetch_unseen"] == 0 and 0 <= here <= LIMIT


def test_a_page_that_leaves_unused_counts_against_accuracy():
    """A run of 100 pages starts windows that are never entered; then they are displaced."""
    page = np.concatenate([SEQUENTIAL[:100], scattered(4000) // 2 + 2000]).astype(np.uint32)
    stats = run("nextn", page, "exact")[0].stats()
    metrics = prefetch_metrics(stats, "exact")
    assert stats["prefetch_unused"] >= 16
    assert 0.5 < metrics.accuracy < 0.95


@st.composite
def traces(draw):
    """Pages below 48: jumps, runs with a stride, repeats."""
    page = []
    for _ in range(draw(st.integers(1, 12))):
        start, step = draw(st.integers(0, 47)), draw(st.integers(-5, 5))
        page += [(start + k * step) % 48 for k in range(draw(st.integers(1, 12)))]
    return np.array(page, np.uint32)


@settings(max_examples=150, deadline=None)
@given(
    page=traces(),
    prefetch=st.sampled_from(
        [*AHEAD, "nextn:min=1:max=64", "stride:depth=64:streams=2", "markov:entries=4:k=4:depth=64"]
    ),
    observe=st.sampled_from(OBSERVE),
    limit=st.integers(1, 40),
    classical=st.booleans(),
    dirty=st.sampled_from(["exact", "always"]),
    data=st.data(),
)
def test_whatever_the_trace(page, prefetch, observe, limit, classical, dirty, data):
    """The limit holds, a fetch stays inside the region, counters add up, the log replays."""
    log = LogBuffer()
    marks = {"high": limit, "low": limit - 1} if classical else {}
    config = PolicyConfig(
        48, limit, prefetch=prefetch, observe=observe, dirty=dirty, **marks
    ).resolved()
    pager = Pager(config, log)
    plan = np.array(data.draw(st.lists(st.integers(0, 47), max_size=60)), np.uint32)
    if prefetch == "planned":
        pager.set_plan(plan)
    for k in range(0, 48, 2):
        pager.adopt(k)
    write = np.array(data.draw(st.lists(st.booleans(), min_size=page.size, max_size=page.size)))
    pager.run_classic(page, write.astype(np.uint8))
    assert pager.check() and pager.resident <= limit
    stats, records = pager.stats(), log.records()
    resident = 0
    for record in records:
        resident += record["kind"] in COMES
        resident -= record["kind"] == lib.EDM_EV_STORED
        assert resident <= limit
        assert record["page"] < 48
    flagged = sum(bool(pager.word(k) & lib.EDM_PREFETCHED) for k in range(48))
    assert stats["prefetches"] == flagged + sum(
        stats[f"prefetch_{end}"] for end in ("hits", "unused", "unseen")
    )
    assert stats["refs"] == page.size
    at, got = replay(config, records, plan if prefetch == "planned" else None)
    assert at == len(records), f"record {at}: {records[at]}, replayed {got}"
