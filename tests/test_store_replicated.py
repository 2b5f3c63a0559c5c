"""replicated: one member of several fails, and comes back."""

from __future__ import annotations

import errno
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.child import passes
from tests.servers import Server
from tests.store import Store, random_pages


def wait_for(what: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    with Server() as one, Server() as two:  # they forget everything when they are killed
        yield one, two


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
        wait_for(lambda: store.stats()["dead"] == 0)
        store.get(range(64))  # finds what the member has lost
        wait_for(lambda: one.command("DBSIZE") == ":64\r\n")
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
        wait_for(lambda: store.stats()["dead"] == 0)


@pytest.mark.redis
@pytest.mark.uffd
def test_a_workload_loses_nothing_when_one_member_is_killed(
    servers: tuple[Server, Server], tmp_path: Path
) -> None:
    one, two = servers
    url = f"replicated:{one.url},{two.url}"
    opened = tmp_path / "opened"

    def trouble() -> None:
        wait_for(opened.exists, 40)
        time.sleep(0.5)
        one.kill()

    kill = threading.Thread(target=trouble)
    kill.start()
    passes(
        """
        import time
        with Region(1024, local=128, store=sys.argv[1], deadline_s=10) as r:
            open(sys.argv[2], "w").close()
            end = time.monotonic() + 3
            page = np.random.default_rng(1).integers(0, 1024, 4000).astype(np.uint32)
            while time.monotonic() < end:
                done = r.replay(page, (page % 2).astype(np.uint8), threads=3, fill=True)
                assert done["verified"], done
            assert r.lost_pages == 0 and r.stats()["store_stats"]["dead"] == 1
        """,
        url, str(opened),
    )
    kill.join()
