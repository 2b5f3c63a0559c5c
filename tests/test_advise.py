"""Advice: what the pager does with it, and what becomes of the pages of a real region."""

from __future__ import annotations

import pytest

from edm_policy import LogBuffer, Pager, PolicyConfig, UsageError, replay
from tests.child import passes

CONFIG = PolicyConfig(pages=64, limit=8, high=7, low=4, evict="fifo", prefetch="nextn", batch=4)


def away(pager: Pager, *pages: int) -> None:
    for page in pages:
        pager.adopt(page)


def come(pager: Pager, page: int) -> list[str]:
    commands = pager.fault(page)
    for c in commands:
        if c.op in ("FETCH", "PREFETCH"):
            pager.installed(c.page)
    return [c.op for c in commands]


def test_willneed_fetches_what_is_out_and_nothing_else() -> None:
    pager = Pager(CONFIG)
    away(pager, 3)
    assert [(c.op, c.page) for c in pager.willneed(3)] == [("PREFETCH", 3)]
    assert pager.willneed(3) == []  # under way
    pager.installed(3)
    assert pager.willneed(3) == [] and pager.willneed(4) == []  # here; never written
    assert pager.stats()["prefetches"] == 1


def test_willneed_without_room_asks_for_reclaim_and_never_passes_the_limit() -> None:
    pager = Pager(CONFIG)
    away(pager, *range(20))
    answers = []
    for page in range(20):
        commands = [c.op for c in pager.willneed(page)]
        answers += commands
        if "PREFETCH" in commands:
            pager.installed(page)
        assert pager.resident <= CONFIG.limit
    assert answers.count("PREFETCH") == 8 and answers.count("RECLAIM") == 12
    assert answers.count("WAKE_LPET") == 1


def test_a_fault_where_access_is_random_asks_no_prefetcher() -> None:
    pager = Pager(CONFIG)
    away(pager, *range(40))
    pager.advise(0, 20, True)
    assert come(pager, 0) == ["FETCH"] and come(pager, 1) == ["FETCH"]
    assert come(pager, 30) == ["FETCH"] and "PREFETCH" in come(pager, 31)
    pager = Pager(CONFIG)
    away(pager, *range(40))
    pager.advise(0, 20, True)
    pager.advise(0, 20, False)
    assert come(pager, 0) == ["FETCH"] and "PREFETCH" in come(pager, 1)


def test_ranges_are_cut_as_later_advice_says() -> None:
    """Against a set of pages: each range random or not, in any order, up to the 16 there may be."""
    import random

    draw = random.Random(3)
    for _ in range(30):
        pager, quiet = Pager(CONFIG), set()
        for _ in range(40):
            first = draw.randrange(60)
            pages, is_random = draw.randrange(1, 64 - first), draw.random() < 0.6
            span = set(range(first, first + pages))
            pager.advise(first, pages, is_random)
            quiet = quiet | span if is_random else quiet - span
            assert {page for page in range(64) if pager.quiet(page)} == quiet


def test_too_many_ranges_and_pages_outside_are_refused() -> None:
    pager = Pager(CONFIG)
    for i in range(16):
        pager.advise(4 * i, 1, True)
    with pytest.raises(UsageError, match="more than 16"):
        pager.advise(50, 1, True)
    pager.advise(0, 64, True)  # one range again
    for i in range(15):
        pager.advise(4 * i + 1, 1, False)
    with pytest.raises(UsageError, match="outside"):
        pager.advise(60, 5, True)


def test_advice_is_in_the_log_and_replays() -> None:
    log = LogBuffer()
    pager = Pager(CONFIG, log)
    away(pager, *range(30))
    pager.advise(0, 10, True)
    assert come(pager, 0) == come(pager, 1) == ["FETCH"]
    for c in pager.willneed(20):
        pager.installed(c.page)
    pager.advise(5, 5, False)
    come(pager, 6)
    records = log.records()
    assert replay(CONFIG, records)[0] == len(records)
    without = records[records["kind"] != next(k for k, n in events().items() if n == "ADVISE")]
    assert replay(CONFIG, without)[0] < len(without)


def events() -> dict[int, str]:
    from edm_policy.pager import EVENTS

    return EVENTS


@pytest.mark.uffd
@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_willneed_brings_pages_so_that_none_is_fetched_by_a_fault(faults: str) -> None:
    passes(
        """
        # Which pages stay is known under fifo; lpet may choose one that has just come.
        with Region(256, local=64, faults=sys.argv[1], evict="fifo") as r:
            a = r.array(np.int64, (256, 512))
            a[:, 0] = np.arange(256)
            for first in (200, 0, 100):
                r.advise(a[first:first + 32], "willneed")
                before = r.stats()["fetches"]
                assert (a[first:first + 32, 0] == np.arange(first, first + 32)).all()
                assert r.stats()["fetches"] == before, first
            before = r.stats()["prefetches"]
            r.advise(a, "willneed")  # more than there is room for: no more than the low watermark
            assert r.stats()["prefetches"] - before <= r.config.low
            r.advise(a, "dontneed")
            assert r.stats()["resident"] == 0
            assert (a[:, 0] == np.arange(256)).all()
            assert r.check()
            del a
        """,
        faults,
    )


@pytest.mark.uffd
def test_willneed_without_a_reclaim_thread_and_in_threads() -> None:
    passes(
        """
        for options in ({"reclaim": "faulter"}, {"lockstep": True}, {}):
            with Region(512, local=64, **options) as r:
                a = r.array(np.int64, (512, 512))
                a[:, 0] = np.arange(512)
                def work(k):
                    for i in range(k, 512, 16):
                        r.advise(a[i:i + 16], "willneed")
                        assert a[i, 0] == i
                if options:
                    work(0)
                else:
                    ts = [threading.Thread(target=work, args=(k,)) for k in range(4)]
                    [t.start() for t in ts]
                    [t.join() for t in ts]
                assert (a[:, 0] == np.arange(512)).all() and r.check()
                del a
        """
    )


@pytest.mark.uffd
def test_random_advice_stops_prefetching_there() -> None:
    passes(
        """
        with Region(512, local=128, prefetch="nextn") as r:
            a = r.array(np.int64, (512, 512))
            a[:, 0] = 1
            r.evict()
            r.advise(a[:256], "random")
            before = r.stats()["prefetches"]
            a[:100, 0].sum()
            assert r.stats()["prefetches"] == before
            r.advise(None, "sequential")
            a[100:200, 0].sum()
            assert r.stats()["prefetches"] > before
            try:
                r.advise(a, "maybe")
            except UsageError as e:
                assert "maybe" in str(e) and "willneed" in str(e)
            else:
                raise AssertionError
            del a
        """
    )
