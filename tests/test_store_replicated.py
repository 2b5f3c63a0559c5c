"""replicated: one member of several fails, and comes back."""

from __future__ import annotations

import errno
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.child import passes
from tests.servers import Server, until
from tests.store import Store, random_pages


def test_wrong_bytes_of_one_member_are_got_from_the_other() -> None:
    data = random_pages(32)
    with Store("replicated:[shaped:flip=0.5,mem:],mem:?write=quorum", 32) as store:
        assert set(store.put(range(32), data)) == {0}
        for _ in range(10):
            back, results = store.get(range(32))
            assert set(results) == {0} and (back == data).all()


def test_write_all_fails_where_a_living_member_is_full() -> None:
    with Store("replicated:mem:,mem:?cap=16KiB", 8) as store:
        assert store.put(range(8), random_pages(8)) == [0] * 4 + [-errno.ENOSPC] * 4
        assert store.get(range(8))[1] == [0] * 4 + [-errno.ENOENT] * 4  # none, not what failed


@pytest.mark.redis
def test_a_member_that_lost_everything_is_filled_again(servers: tuple[Server, Server]) -> None:
    one, two = servers
    data, more = random_pages(64), random_pages(64, 2)
    with Store(f"replicated:{one.url},{two.url}") as store:
        store.put(range(64), data)
        one.kill()
        back, results = store.get(range(64))
        assert set(results) == {0} and (back == data).all()
        assert set(store.put(range(32), more[:32])) == {0}
        assert store.stats()["dead"] == 1
        one.start()
        until(lambda: store.stats()["dead"] == 0)
        store.get(range(64))  # finds what the member has lost
        until(lambda: one.command("DBSIZE") == ":64\r\n")
        assert store.stats()["resynced"] >= 64
        two.kill()
        back, results = store.get(range(64))
        assert set(results) == {0}
        assert (back[:32] == more[:32]).all() and (back[32:] == data[32:]).all()


@pytest.mark.redis
def test_a_paused_member_costs_its_share_of_the_deadline_once(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    data = random_pages(16)
    with Store(f"replicated:{one.url},{two.url}") as store:
        store.put(range(16), data)
        one.signal(signal.SIGSTOP)
        back, results = store.get(range(16), deadline_s=1)
        assert set(results) == {0} and (back == data).all()
        began = time.monotonic()
        assert set(store.get(range(16), deadline_s=5)[1]) == {0}
        assert time.monotonic() - began < 0.5  # it is skipped now
        one.signal(signal.SIGCONT)
        until(lambda: store.stats()["dead"] == 0)


def reads(store: Store, n: int = 200, pages: int = 16) -> list[float]:
    """Seconds each of n reads of one page took, sorted; all must be right."""
    took = []
    for k in range(n):
        began = time.perf_counter()
        assert store.get([k % pages])[1] == [0]
        took.append(time.perf_counter() - began)
    return sorted(took)


SLOW_AND_FAST = "replicated:[shaped:p50=300ms,mem:],[shaped:p50=20us,mem:]"


def test_the_first_right_answer_wins_and_the_late_one_touches_nothing() -> None:
    data = random_pages(4)
    with Store(SLOW_AND_FAST + "?read=first", 4) as store:
        store.put(range(4), data)
        began = time.perf_counter()
        back, results = store.get(range(4))
        assert time.perf_counter() - began < 0.2
        assert results == [0] * 4 and (back == data).all()
        back[:] = 7  # the buffer is the caller's again
        time.sleep(0.4)
        assert (back == 7).all()
        assert store.stats()["asked"] == 8 and store.stats()["hedges"] == 0


def test_a_hedge_asks_the_second_member_only_when_the_first_is_late() -> None:
    with Store("replicated:[shaped:p50=200us,mem:],[shaped:p50=200us,mem:]?read=hedge:2s", 16) as s:
        s.put(range(16), random_pages(16))
        reads(s)
        assert s.stats()["asked"] == 200 and s.stats()["hedges"] == 0
    with Store(SLOW_AND_FAST + "?read=hedge:3ms", 16) as s:
        s.put(range(16), random_pages(16))
        took = reads(s, 4)
        assert took[0] >= 0.003 and took[-1] < 0.2
        stats = s.stats()
        assert (stats["hedges"], stats["hedges_won"], stats["asked"]) == (4, 4, 8)


def test_a_member_that_is_always_late_is_asked_last_until_it_answers() -> None:
    with Store(SLOW_AND_FAST + "?read=hedge:3ms", 16) as s:
        s.put(range(16), random_pages(16))
        reads(s, 8)
        assert reads(s, 20)[10] < 0.1 and s.stats()["hedges"] < 20
        until(lambda: reads(s, 1)[0] > 0.003)  # what it was asked has been answered meanwhile


def test_a_percentile_as_the_time_to_hedge_is_learnt() -> None:
    url = "replicated:[shaped:p50=300us,p99=6ms,mem:],[shaped:p50=20us,mem:]?read=hedge:p80"
    with Store(url, 16) as s:
        s.put(range(16), random_pages(16))
        reads(s, 700)
        time.sleep(0.1)
        before = s.stats()
        reads(s, 400)
        after = s.stats()
        assert 0.08 < (after["hedges"] - before["hedges"]) / 400 < 0.4


@pytest.mark.redis
def test_a_quorum_does_not_wait_for_the_slow_member_which_never_keeps_an_old_page(
    servers: tuple[Server, Server],
) -> None:
    """Its late writes, and those it missed meanwhile, end with the last page on it."""
    one, two = servers
    with Server() as three:
        url = f"replicated:[shaped:p50=400ms,{one.url}],{two.url},{three.url}?write=quorum"
        last = random_pages(8, 9)
        with Store(url, 8) as store:
            began = time.perf_counter()
            for seed in range(5):
                assert set(store.put(range(8), random_pages(8, seed))) == {0}
            assert set(store.put(range(8), last)) == {0}
            assert time.perf_counter() - began < 0.4
            back, results = store.get(range(8))
            assert set(results) == {0} and (back == last).all()
            until(lambda: store.stats()["resynced"] >= 8)
            two.kill()
            three.kill()
            back, results = store.get(range(8))
            assert set(results) == {0} and (back == last).all()


def test_a_member_that_was_skipped_does_not_count_towards_the_quorum() -> None:
    """The slow one has as many writes before it as it may (lanes.h); then another one is full."""
    jobs = 24
    data = random_pages(jobs + 1)
    small = f"mem:?cap={4 * jobs}KiB"
    url = f"replicated:mem:,[shaped:p50=150ms,mem:],[{small}]?write=quorum"
    with Store(url, jobs + 1) as store:
        for page in range(jobs):
            assert store.put([page], data[[page]]) == [0]
        assert store.put([jobs], data[[jobs]]) == [-errno.ENOSPC]  # one has it, two are needed
        assert store.stats()["skipped"] > 0 and store.get([jobs])[1] == [-errno.ENOENT]
        until(lambda: store.put([jobs], data[[jobs]]) == [0])  # the slow one has room again
        back, results = store.get(range(jobs + 1))
        assert set(results) == {0} and (back == data).all()


@pytest.mark.redis
def test_a_copy_that_overlaps_a_put_leaves_no_old_page(servers: tuple[Server, Server]) -> None:
    """Copies of earlier pages and puts of later ones reach the slow member in any order."""
    one, two = servers
    rng = np.random.default_rng(1)
    with Server() as three:
        slow = f"[shaped:p50=10ms,p99=150ms,{one.url}]"
        with Store(f"replicated:{slow},{two.url},{three.url}?write=quorum", 64) as store:
            for _ in range(20):
                for _ in range(3):
                    data = random_pages(64, int(rng.integers(99)))
                    assert set(store.put(range(64), data)) == {0}
                    time.sleep(rng.random() * 0.06)
                time.sleep(0.12)
                back, results = store.get(range(64))
                assert set(results) == {0} and (back == data).all()
            stats = store.stats()  # no member was asked in vain: none had an old page
            assert stats["asked"] == stats["gets"] and stats["resynced"] > 64, stats


@pytest.mark.redis
def test_a_member_that_came_back_empty_is_filled_though_nobody_reads_from_it(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    data = random_pages(64)
    with Store(f"replicated:{one.url},{two.url}") as store:
        store.put(range(64), data)
        two.kill()
        assert set(store.put(range(8), data[:8])) == {0} and store.stats()["dead"] == 1
        two.start()
        until(lambda: two.command("DBSIZE") == ":64\r\n")
        one.kill()
        back, results = store.get(range(64))
        assert set(results) == {0} and (back == data).all()


@pytest.mark.redis
@pytest.mark.parametrize("read", ["first", "hedge:2ms"])
def test_a_paused_member_is_not_felt_by_reads(servers: tuple[Server, Server], read: str) -> None:
    one, two = servers
    with Store(f"replicated:{one.url},{two.url}?read={read}") as store:
        store.put(range(16), random_pages(16))
        one.signal(signal.SIGSTOP)
        took = reads(store, 400)
        assert took[395] < 0.1, took[-10:]  # one member in turn would wait 2.5 s
        one.signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("replicated:mem:", "replicated:URL,URL"),
        ("replicated:mem:,mem:?read=often", "read must be one, first, hedge:200us"),
        ("replicated:mem:,mem:?read=hedge:x", "read=hedge:200us"),
        ("replicated:mem:,mem:?read=hedge:p100", "percentile"),
        ("replicated:mem:,mem:?write=some", "write must be all or quorum"),
        ("replicated:mem:,mem:?read=first&reed=1", "unknown option 'reed'"),
        ("replicated:mem:,mem:?patience=2m", "patience=120us"),
        ("replicated:mem:,mem:?threads=0", "threads must be 1 to 16"),
        ("replicated:" + ",".join(["mem:"] * 9), "8 members at most"),
    ],
)
def test_a_url_that_will_not_do_is_one_clear_line(url: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        Store(url)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.redis
@pytest.mark.uffd
@pytest.mark.parametrize("read", ["one", "hedge:1ms", "first"])
def test_a_workload_loses_nothing_when_one_member_is_killed_and_comes_back(
    servers: tuple[Server, Server], tmp_path: Path, read: str
) -> None:
    one, two = servers
    url = f"replicated:{one.url},{two.url}?read={read}&patience=200ms"
    opened = tmp_path / "opened"

    def trouble() -> None:
        until(opened.exists, 40)
        time.sleep(0.4)
        one.kill()
        time.sleep(0.8)
        one.start()

    kill = threading.Thread(target=trouble)
    kill.start()
    passes(
        """
        import time
        with Region(1024, local=128, store=sys.argv[1], deadline_s=10) as r:
            open(sys.argv[2], "w").close()
            end = time.monotonic() + 2.5
            page = np.random.default_rng(1).integers(0, 1024, 4000).astype(np.uint32)
            while time.monotonic() < end:
                done = r.replay(page, (page % 2).astype(np.uint8), threads=3, fill=True)
                assert done["verified"], done
            def came_back():
                stats = r.stats()["store_stats"]
                return stats["dead"] == 0 and stats["resynced"] > 0 and stats["skipped"] > 0
            while not came_back():
                assert time.monotonic() < end + 10, r.stats()["store_stats"]
                time.sleep(0.05)
            assert r.lost_pages == 0 and r.check()
        """,
        url,
        str(opened),
    )
    kill.join()
