"""redis: what a server, and the way to it, may do to pages."""

from __future__ import annotations

import errno
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.relay import Relay
from tests.servers import Server, free_port
from tests.store import Store, random_pages

pytestmark = pytest.mark.redis


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("--appendonly", "yes", "--appendfsync", "always") as started:
        yield started


def test_pages_outlive_a_killed_server_that_keeps_them(server: Server) -> None:
    data = random_pages(64)
    with Store(server.url) as store:
        store.put(range(64), data)
        server.kill()
        began = time.monotonic()
        assert store.get([1], deadline_s=0.2)[1] == [-errno.ECONNREFUSED]
        assert time.monotonic() - began < 0.5
        back = threading.Timer(0.3, server.start)
        back.start()
        got, results = store.get(range(64), deadline_s=10)
        back.join()
        assert set(results) == {0} and (got == data).all()
        assert store.stats()["reconnects"] >= 1


def test_a_paused_server_ends_at_the_deadline_and_late_commands_harm_nobody(
    server: Server,
) -> None:
    """What the server takes up late must not undo what came after it on another connection."""
    old, new = random_pages(8, 1), random_pages(8, 2)
    with Store(server.url) as store:
        store.put(range(8), old)
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        assert set(store.put(range(8), old, deadline_s=0.2)) == {-errno.ETIMEDOUT}
        assert set(store.delete(range(8), deadline_s=0.2)) == {-errno.ETIMEDOUT}
        assert store.get([1], deadline_s=0.2)[1] == [-errno.ETIMEDOUT]
        assert time.monotonic() - began < 1
        server.signal(signal.SIGCONT)
        for _ in range(20):
            assert set(store.put(range(8), new)) == {0}
            assert (store.get(range(8))[0] == new).all()
        assert store.stats()["pages"] == 8


def test_commands_that_arrive_after_later_ones_harm_nobody(server: Server) -> None:
    """As on a network: the connection has ended, what was sent on it is still under way."""
    old, new = random_pages(8, 1), random_pages(8, 2)
    with Relay(server.port) as relay, Store(f"redis://127.0.0.1:{relay.port}/0") as store:
        for verb, data in ((store.put, [old]), (store.delete, [])):
            late = relay.hold = threading.Event()
            assert set(verb(range(8), *data, deadline_s=0.2)) == {-errno.ETIMEDOUT}
            relay.hold = None
            assert set(store.put(range(8), new)) == {0}
            late.set()
            for _ in range(20):
                assert (store.get(range(8))[0] == new).all()
                time.sleep(0.005)


def test_a_full_server_says_so_and_keeps_what_it_has() -> None:
    options = ("--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
    with Server(*options) as server, Store(server.url, 2048) as store:
        data = random_pages(2048)
        results = store.put(range(2048), data)
        assert set(results) == {0, -errno.ENOSPC}
        kept = [k for k in range(2048) if not results[k]]
        back, got = store.get(kept)
        assert set(got) == {0} and (back == data[kept]).all()


@pytest.mark.parametrize(("may", "puts"), [("+@all", {"mset": 4}), ("-mset", {"set": 128})])
def test_pages_are_put_together_where_that_is_allowed(may: str, puts: dict[str, int]) -> None:
    data = random_pages(64)
    with Server() as server:
        server.command("ACL", "SETUSER", "me", "on", ">pw", "~*", "+@all", may)
        with Store(f"redis://me:pw@127.0.0.1:{server.port}/0") as store:
            assert set(store.put(range(64), data)) == {0}
            assert set(store.put(range(64), data[::-1].copy())) == {0}
            assert (store.get(range(64))[0] == data[::-1]).all()
        lines = server.all_of("INFO", "commandstats").splitlines()
    calls = {
        k: int(v.split("=")[1].split(",")[0]) for k, _, v in (s.partition(":") for s in lines) if v
    }
    assert {k: calls.get(f"cmdstat_{k}", 0) for k in puts} == puts


def test_nothing_is_left_on_the_server(server: Server) -> None:
    with Store(server.url) as store:
        store.put(range(64), random_pages(64))
        assert server.command("DBSIZE") == ":64\r\n"
        server.signal(signal.SIGSTOP)
        store.put(range(8), random_pages(8), deadline_s=0.1)
        server.signal(signal.SIGCONT)
        store.put(range(8), random_pages(8))
        time.sleep(0.1)  # the server takes up what it was sent
        assert server.command("DBSIZE") != ":64\r\n"  # versions that were given up
    assert server.command("DBSIZE") == ":0\r\n"


def test_two_regions_do_not_meet(server: Server) -> None:
    with Store(server.url) as one, Store(server.url) as two:
        one.put([1], random_pages(1, 1))
        assert two.get([1])[1] == [-errno.ENOENT]


@pytest.mark.parametrize("cut", [1, 5, 100, 4000])
def test_a_reply_cut_short_is_asked_for_again(server: Server, cut: int) -> None:
    data = random_pages(8)
    with Relay(server.port) as relay, Store(f"redis://127.0.0.1:{relay.port}/0") as store:
        store.put(range(8), data)
        relay.cut_after = cut
        back, results = store.get(range(8))
        assert set(results) == {0} and (back == data).all()
        relay.cut_after = cut
        assert set(store.put(range(8), data[::-1].copy())) == {0}
        assert (store.get(range(8))[0] == data[::-1]).all()
        assert relay.cuts >= 1 and store.stats()["reconnects"] >= 1


@pytest.mark.parametrize(
    "reply", [b"?what\r\n", b"$12\r\nshort\r\n", b"\r\n", b"$-x\r\n", b"$4096"]
)
def test_a_server_that_talks_nonsense_is_an_error(server: Server, reply: bytes) -> None:
    with Relay(server.port) as relay, Store(f"redis://127.0.0.1:{relay.port}/0") as store:
        store.put([1], random_pages(1))
        relay.instead = reply
        assert store.get([1], deadline_s=0.3)[1][0] < 0


LOCKED = ["--requirepass", "s3cret"]
CLUSTER = ["--cluster-enabled", "yes"]


@pytest.mark.parametrize(
    ("options", "url", "says"),
    [
        (LOCKED, "redis://127.0.0.1:{port}/0", "wants a password"),
        (LOCKED, "redis://me:no-s3cret@127.0.0.1:{port}", "wrong user or"),
        ([], "redis://127.0.0.1:{port}/99", "DB index is out of range"),
        (["--maxmemory", "9mb", "--maxmemory-policy", "allkeys-lru"], "{url}", "noeviction"),
        ([], "redis://127.0.0.1:{other}/0", "Connection refused"),
        ([], "redis://127.0.0.1:{port}/0?prefx=a", "unknown option 'prefx'"),
        ([], "redis://127.0.0.1:{port}/x", "this address cannot be"),
        ([], "redis://127.0.0.1:70000/0", "this address cannot be"),
        ([], "redis://:s3cret@127.0.0.1:{port}/0", "has no password; leave it out"),
        ([], "redis:127.0.0.1:{port}", "store redis: this URL cannot be; write redis://"),
        ([], "redis+unix:/s", "store redis+unix: this URL cannot be; write redis+unix://"),
        ([], "redis://127.0.0.1:{port}/0?prefix=a{{b}}", "no braces"),
        ([], "redis-cluster://127.0.0.1:{port}/", "not part of a cluster; write redis://"),
        ([], "redis-cluster://127.0.0.1:{port}/1", "no databases but 0"),
        ([], "redis-cluster://127.0.0.1:{other}", "Connection refused"),
        (CLUSTER, "redis://127.0.0.1:{port}/0", "write redis-cluster://"),
        (CLUSTER, "redis-cluster://127.0.0.1:{port}", "no node of this cluster"),
        (LOCKED, "redis-cluster://127.0.0.1:{port}", "wants a password"),
        (LOCKED, "redis-cluster://:no-s3cret@127.0.0.1:{port}", "wrong user or"),
        ([], "redis+unix:///no/such?db=1", "No such file"),
        ([], "redis://no-such-host.invalid", "is its name right?"),
        ([], "rediss://a:s3cret@b.invalid", "is its name right?"),
    ],
)
def test_what_will_not_do_is_one_line_with_the_fix(options: list[str], url: str, says: str) -> None:
    with Server(*options) as server, pytest.raises(ValueError) as error:
        Store(url.format(port=server.port, url=server.url, other=free_port()))
    assert says in str(error.value) and "\n" not in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_password_from_the_url_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a b@c:d\n")
    (tmp_path / "login").write_text("default:a b@c:d\n")
    with Server("--requirepass", "a b@c:d") as server:
        for url in (
            f"redis://default:a%20b%40c%3Ad@127.0.0.1:{server.port}/2",
            f"redis://127.0.0.1:{server.port}/0?auth={tmp_path}/login",
            f"redis+unix://:a b%40c:d@{server.socket}",
        ):
            with Store(url) as store:
                data = random_pages(1)
                assert store.put([1], data) == [0] and (store.get([1])[0] == data).all()
