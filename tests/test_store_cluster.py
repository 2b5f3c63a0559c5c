"""redis-cluster: what a cluster does with its slots, and what becomes of pages meanwhile."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Iterator

import pytest

from tests.servers import Cluster
from tests.store import Store, random_pages

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """For tests that leave it as it was."""
    with Cluster() as started:
        yield started


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as started:
        yield started


def keeps_pages(store: Store) -> None:
    data = random_pages(64)
    assert set(store.put(range(64), data)) == {0}
    back, results = store.get(range(64))
    assert set(results) == {0} and (back == data).all()


def test_every_key_goes_to_the_right_node_at_once(shared: Cluster) -> None:
    """No server had to say MOVED."""
    for server in shared.servers:
        server.command("CONFIG", "RESETSTAT")
    with Store(shared.url, 600) as store:
        store.put(range(600), random_pages(600))
        assert set(store.get(range(600))[1]) == {0}
    assert not any("MOVED" in s.all_of("INFO", "errorstats") for s in shared.servers)


def test_pages_are_on_every_master_and_on_a_replica_when_a_put_is_answered(
    shared: Cluster,
) -> None:
    with Store(shared.url, 600) as store:
        assert set(store.put(range(600), random_pages(600))) == {0}
        held = [int(s.command("DBSIZE")[1:]) for s in shared.servers]
        assert sum(held[:3]) == 600 and min(held[:3]) > 100
        assert held[3:] == held[:3]
    assert all(s.command("DBSIZE") == ":0\r\n" for s in shared.servers[:3])


def test_any_node_will_do_to_find_the_others(shared: Cluster) -> None:
    """A replica, and a list of which the first is not there."""
    ports = [shared.servers[4].port, 1, shared.servers[2].port]
    for url in (f"{ports[0]}/", f"{ports[1]},127.0.0.1:{ports[2]}/?prefix=two"):
        with Store(f"redis-cluster://127.0.0.1:{url}") as store:
            keeps_pages(store)


def test_slots_that_move_are_followed(cluster: Cluster) -> None:
    """Keys on their way (ASK) and arrived (MOVED), and those that come new meanwhile."""
    one, two = cluster.servers[0], cluster.servers[1]
    ids = [s.all_of("CLUSTER", "MYID") for s in (one, two)]

    def move(key: str) -> None:
        there = ("127.0.0.1", str(two.port))
        assert one.command("MIGRATE", *there, key, "0", "5000") == "+OK\r\n"

    data = random_pages(300)
    with Store(cluster.url, 300) as store:
        store.put(range(300), data)
        slots = {one.command("CLUSTER", "KEYSLOT", key)[1:-2] for key in one.list_of("KEYS", "*")}
        assert len(slots) > 50
        store.delete(range(0, 300, 2))
        for slot in slots:
            two.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            one.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        for key in one.list_of("KEYS", "*")[::2]:
            move(key)
        for page in range(0, 300, 2):
            assert store.put([page], data[page : page + 1]) == [0]
        back, results = store.get(range(300))
        assert set(results) == {0} and (back == data).all()
        for key in one.list_of("KEYS", "*"):
            move(key)
        for slot in slots:
            for s in (two, one, cluster.servers[2]):
                s.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        back, results = store.get(range(300))
        assert set(results) == {0} and (back == data).all()
        assert set(store.put(range(300), data[::-1].copy())) == {0}
        assert (store.get(range(300))[0] == data[::-1]).all()
        assert one.command("DBSIZE") == ":0\r\n"


def test_a_dead_masters_replica_has_every_page(cluster: Cluster) -> None:
    data = random_pages(512)
    with Store(cluster.url, 512) as store:
        store.put(range(512), data)
        cluster.servers[0].kill()
        back, results = store.get(range(512), deadline_s=15)
        assert set(results) == {0} and (back == data).all()
        assert set(store.put(range(512), data[::-1].copy(), deadline_s=15)) == {0}
        assert (store.get(range(512))[0] == data[::-1]).all()


def test_a_master_that_is_paused_does_not_hold_up_the_others(cluster: Cluster) -> None:
    """Past the deadline, and then while its replica takes over."""
    old, new = random_pages(512, 1), random_pages(512, 2)
    with Store(cluster.url, 512) as store:
        store.put(range(512), old)
        cluster.servers[1].signal(signal.SIGSTOP)
        began = time.monotonic()
        back, results = store.get(range(512), deadline_s=0.3)
        assert time.monotonic() - began < 0.6
        got = [k for k in range(512) if not results[k]]
        assert 250 < len(got) < 450 and (back[got] == old[got]).all()
        assert set(results) == {0, -errno.ETIMEDOUT}
        assert set(store.put(range(512), new, deadline_s=15)) == {0}
        cluster.servers[1].signal(signal.SIGCONT)
        for _ in range(20):
            back, results = store.get(range(512), deadline_s=15)
            assert set(results) == {0} and (back == new).all()


def test_a_put_waits_for_a_replica_and_does_without_one_that_is_dead(cluster: Cluster) -> None:
    data = random_pages(64)
    with Store(cluster.url) as store, Store(cluster.url + "?wait=0") as hasty:
        for replica in cluster.servers[3:]:
            replica.signal(signal.SIGSTOP)
        assert set(hasty.put(range(64), data)) == {0}
        assert set(store.put(range(64), data, deadline_s=0.25)) == {-errno.ETIMEDOUT}
        assert set(store.put(range(64), data, deadline_s=15)) == {0}  # the cluster has noticed
        for replica in cluster.servers[3:]:
            replica.signal(signal.SIGCONT)


def test_a_password_is_told_to_every_node() -> None:
    with Cluster(3, 0, options=("--requirepass", "s3cret")) as cluster:
        url = cluster.url.replace("//", "//:s3cret@")
        with Store(url) as store:
            keeps_pages(store)
