"""striped: pages over several stores; one is added, one dies, one is full."""

from __future__ import annotations

import errno
import signal
import threading
import time

import numpy as np
import pytest

from edm_policy import Ring
from tests.child import passes
from tests.servers import Server, until
from tests.store import PAGE, Store, random_pages


def of_member(m: int, members: int, pages: int) -> list[int]:
    ring = Ring(members)
    return [page for page in range(pages) if ring.first(page) == m]


def held(server: Server) -> int:
    return int(server.command("DBSIZE")[1:])


@pytest.mark.redis
def test_pages_are_where_the_ring_says(servers: tuple[Server, Server]) -> None:
    one, two = servers
    with Store(f"striped:{one.url},{two.url}", 256) as store:
        assert set(store.put(range(256), random_pages(256))) == {0}
        assert [held(one), held(two)] == [len(of_member(m, 2, 256)) for m in (0, 1)]


def test_the_parts_of_a_batch_go_side_by_side() -> None:
    with Store("striped:" + ",".join(["[shaped:p50=200ms,mem:]"] * 4), 64) as store:
        for call in (lambda: store.put(range(64), random_pages(64)), lambda: store.get(range(64))):
            began = time.perf_counter()
            call()
            assert time.perf_counter() - began < 0.5  # one after the other: 800 ms


@pytest.mark.redis
def test_a_member_that_is_added_gets_its_pages_and_the_others_lose_them(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    data = random_pages(512)
    with Store(f"striped:{one.url}", 512) as store:
        store.put(range(512), data)
        store.add(two.url)
        back, results = store.get(range(512))
        assert set(results) == {0} and (back == data).all()
        parts = [len(of_member(m, 2, 512)) for m in (0, 1)]
        until(lambda: [held(one), held(two)] == parts)
        assert store.stats()["moved"] == parts[1] and store.stats()["pages"] == 512
        back, results = store.get(range(512))
        assert set(results) == {0} and (back == data).all()
    assert held(one) == held(two) == 0


def test_pages_that_are_read_and_written_while_they_move_are_neither_wrong_nor_lost() -> None:
    """Eight threads on pages of their own; the members are slow, so each order of events comes."""
    pages, threads = 256, 8
    wrong: list[object] = []
    stop = threading.Event()

    def work(store: Store, t: int) -> None:
        rng = np.random.default_rng(t)
        mine = np.arange(t, pages, threads)
        version = np.zeros(pages, np.uint8)
        while not stop.is_set():
            some = rng.choice(mine, 4, replace=False)
            if rng.random() < 0.5:
                version[some] += 1
                data = np.repeat(version[some, None], PAGE, axis=1)
                wrong.extend(r for r in store.put(some.tolist(), data) if r)
            else:
                back, results = store.get(some.tolist())
                for page, got, result in zip(some, back, results, strict=True):
                    if result != (0 if version[page] else -errno.ENOENT):
                        wrong.append((page, result))
                    elif version[page] and (got != version[page]).any():
                        wrong.append((page, version[page], got[:4]))

    slow = "shaped:p50=1ms,p99=4ms,seed={},mem:"
    with Store(f"striped:[{slow.format(1)}]", pages) as store:
        running = [threading.Thread(target=work, args=(store, t)) for t in range(threads)]
        for thread in running:
            thread.start()
        try:
            for seed in range(2, 6):
                time.sleep(0.3)
                store.add(slow.format(seed))
            time.sleep(0.3)
        finally:
            stop.set()
            for thread in running:
                thread.join(30)
        assert not wrong, wrong[:5]
        assert store.stats()["moved"] > 50
        until(lambda: store.stats()["bytes_held"] == store.stats()["pages"] * PAGE)


def test_wrong_bytes_are_not_moved() -> None:
    data = random_pages(128)
    with Store("striped:[shaped:flip=0.4,mem:]", 128) as store:
        store.put(range(128), data)
        store.add("mem:")
        moved = len(of_member(1, 2, 128))
        until(lambda: store.stats()["moved"] == moved)
        back, results = store.get(of_member(1, 2, 128))
        assert set(results) == {0} and (back == data[of_member(1, 2, 128)]).all()


def test_a_full_member_s_pages_go_to_the_next() -> None:
    data = random_pages(128)
    with Store("striped:mem:?cap=64KiB,mem:", 128) as store:
        assert set(store.put(range(128), data)) == {0}
        back, results = store.get(range(128))
        assert set(results) == {0} and (back == data).all()
        store.delete(of_member(0, 2, 128)[:16])  # there is room: the others come home
        until(lambda: store.stats()["moved"] > 0)


@pytest.mark.redis
def test_a_dead_member_fails_its_own_pages_at_once_and_puts_go_elsewhere(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    data, more = random_pages(128), random_pages(128, 2)
    lost = of_member(0, 2, 128)
    with Store(f"striped:{one.url},{two.url}?patience=200ms", 128) as store:
        store.put(range(128), data)
        one.kill()
        results = np.array(store.get(range(128))[1])
        assert (np.flatnonzero(results) == lost).all() and set(results[lost]) == {-errno.EHOSTDOWN}
        began = time.monotonic()
        assert store.get(lost[:1])[1] == [-errno.EHOSTDOWN] and time.monotonic() - began < 0.1
        assert set(store.put(range(128), more)) == {0} and held(two) == 128
        back, results = store.get(range(128))
        assert set(results) == {0} and (back == more).all()
        one.start()
        until(lambda: held(one) == len(lost) and held(two) == 128 - len(lost))
        back, results = store.get(range(128))
        assert set(results) == {0} and (back == more).all()


@pytest.mark.redis
def test_a_paused_member_that_took_a_page_late_does_not_bring_it_back(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    old, new = random_pages(64), random_pages(64, 2)
    with Store(f"striped:{one.url},{two.url}?patience=200ms", 64) as store:
        store.put(range(64), old)
        one.signal(signal.SIGSTOP)
        assert set(store.put(range(64), new)) == {0}
        one.signal(signal.SIGCONT)
        until(lambda: store.stats()["dead"] == 0 and store.stats()["moved"] > 0)
        for _ in range(20):
            back, results = store.get(range(64))
            assert set(results) == {0} and (back == new).all()
            time.sleep(0.01)


@pytest.mark.redis
@pytest.mark.uffd
def test_a_member_is_added_while_eight_threads_page(servers: tuple[Server, Server]) -> None:
    one, two = servers
    passes(
        """
        import time
        with Region(2048, local=256, store=f"striped:{sys.argv[1]}", deadline_s=10) as r:
            def add():
                time.sleep(0.5)
                r.store_add(sys.argv[2])
                time.sleep(0.4)
                r.store_add("mem:")
            adding = threading.Thread(target=add)
            adding.start()
            page = np.random.default_rng(1).integers(0, 2048, 20000).astype(np.uint32)
            end = time.monotonic() + 2
            while time.monotonic() < end or adding.is_alive():
                done = r.replay(page, (page % 2).astype(np.uint8), threads=8, fill=True, chunk=64)
                assert done["verified"], done
            stats = r.stats()
            assert stats["store_stats"]["moved"] > 100 and r.lost_pages == 0 and r.check(), stats
            assert stats["store"].endswith(f" + {sys.argv[2]} + mem:"), stats["store"]
        """,
        one.url,
        two.url,
    )


@pytest.mark.redis
@pytest.mark.uffd
def test_pages_on_a_dead_member_are_named_and_the_others_are_intact(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    lost = of_member(0, 2, 256)
    passes(
        """
        r = Region(256, local=64, store=sys.argv[1], deadline_s=0.5)
        a = r.array(np.uint64, (256, 512))
        for k in range(256):
            a[k] = k + 1
        r.evict()
        os.kill(int(sys.argv[2]), signal.SIGKILL)
        lost = [int(k) for k in sys.argv[3].split()]
        for k in range(256):
            try:
                r.prefault(slice(k, k + 1))
            except PageLostError as e:
                assert k in lost and e.page == k and "Host is down" in str(e), e
                break
            assert k not in lost and (a[k] == k + 1).all()
        for k in set(range(256)) - set(lost):
            assert (a[k] == k + 1).all()
        free = [k for k in range(256) if k not in lost][:100]
        for k in free:
            a[k] += 1000  # what is written now finds a place
        r.evict()
        assert all((a[k] == k + 1001).all() for k in free)
        del a
        r.close()
        """,
        f"striped:{one.url},{two.url}",
        str(one.pid),
        " ".join(map(str, lost)),
    )


@pytest.mark.redis
def test_striped_over_replicated_loses_nothing_with_a_server(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    data = random_pages(64)
    with Store(
        f"striped:[replicated:{one.url},mem:?patience=200ms],[replicated:{two.url},mem:]", 64
    ) as store:
        store.put(range(64), data)
        one.kill()
        back, results = store.get(range(64))
        assert set(results) == {0} and (back == data).all()
        assert set(store.put(range(64), data[::-1].copy())) == {0}
        assert store.stats()["dead"] == 1 and store.stats()["skipped"] > 0


@pytest.mark.redis
def test_replicated_over_striped_goes_on_with_the_half_that_lives(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    data = random_pages(64)
    with Store(
        f"replicated:[striped:{one.url},{two.url}?patience=200ms],[striped:mem:,mem:]", 64
    ) as store:
        store.put(range(64), data)
        one.kill()
        for _ in range(3):
            back, results = store.get(range(64))
            assert set(results) == {0} and (back == data).all()
        assert set(store.put(range(64), data[::-1].copy())) == {0}
        assert (store.get(range(64))[0] == data[::-1]).all()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("striped:", "striped:URL,URL"),
        ("striped:mem:,nowhere:", "unknown store 'nowhere'"),
        ("striped:[shaped:p50=1ms,mem:,mem:", "brackets go in pairs"),
        ("striped:mem:?patience=2m", "patience=120us"),
        ("striped:mem:?threads=99", "threads must be 1 to 16"),
        ("striped:" + ",".join(["mem:"] * 17), "16 members at most"),
    ],
)
def test_a_url_that_will_not_do_is_one_clear_line(url: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        Store(url)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_only_striped_takes_members() -> None:
    with Store("mem:") as store, pytest.raises(ValueError, match="striped:URL,URL"):
        store.add("mem:")
    with Store("striped:mem:") as store, pytest.raises(ValueError, match="unknown store"):
        store.add("nowhere:")
