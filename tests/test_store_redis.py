"""redis: what a server, and the way to it, may do to pages."""

from __future__ import annotations

import errno
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child import passes
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


def test_a_full_server_says_so_and_keeps_what_it_has() -> None:
    options = ("--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
    with Server(*options) as server, Store(server.url, 2048) as store:
        data = random_pages(2048)
        results = store.put(range(2048), data)
        assert set(results) == {0, -errno.ENOSPC}
        kept = [k for k in range(2048) if not results[k]]
        back, got = store.get(kept)
        assert set(got) == {0} and (back == data[kept]).all()


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
CLUSTER = ["--cluster-enabled", "yes", "--cluster-port", "0"]


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
        ([], "rediss://a:s3cret@b", "TLS is not supported"),
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


@pytest.mark.uffd
def test_a_workload_goes_on_over_a_server_that_is_killed_and_paused(
    server: Server, tmp_path: Path
) -> None:
    opened = tmp_path / "opened"

    def trouble() -> None:
        end = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < end:
            time.sleep(0.01)
        for _ in range(2):
            time.sleep(0.4)
            server.kill()
            time.sleep(0.2)
            server.start()
            time.sleep(0.4)
            server.signal(signal.SIGSTOP)
            time.sleep(0.3)
            server.signal(signal.SIGCONT)

    thread = threading.Thread(target=trouble)
    thread.start()
    passes(
        """
        import time
        with Region(1024, local=128, store=sys.argv[1], deadline_s=10) as r:
            open(sys.argv[2], "w").close()
            end = time.monotonic() + 3
            page = np.random.default_rng(1).integers(0, 1024, 4000).astype(np.uint32)
            while time.monotonic() < end:
                done = r.replay(page, (page % 2).astype(np.uint8), threads=3, fill=True)
                assert done["verified"] and done["fetches"] > 100, done
            assert r.lost_pages == 0 and r.check()
        """,
        server.url, str(opened),
    )
    thread.join()


@pytest.mark.uffd
def test_pages_that_are_truly_gone_are_named_and_the_others_intact(server: Server) -> None:
    with Server() as forgetful:
        done = passes(
            """
            import time
            r = Region(256, local=64, store=sys.argv[1], deadline_s=0.3)
            a = r.array(np.uint64, (256, 512))
            for k in range(256):
                a[k] = k + 1
            r.flush()
            r.evict(slice(0, 200))
            print("evicted", flush=True)
            import socket
            s = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
            s.sendall(b"FLUSHALL\\r\\n")
            assert s.recv(64) == b"+OK\\r\\n"
            try:
                r.prefault(slice(10, 11))
            except PageLostError as e:
                assert e.page == 10 and e.errno == errno.ENOENT, e
            else:
                raise SystemExit("a page that is gone came back")
            held = [k for k in range(200, 256)]
            assert all((a[k] == k + 1).all() for k in held[-20:])
            del a
            r.close()
            """,
            forgetful.url, str(forgetful.port),
        )
    assert "evicted" in done


class Relay:
    """Passes bytes between a client and a server. cut_after: of the next reply's bytes, so many,
    then the connection ends. instead: said in place of the next reply."""

    def __init__(self, port: int):
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut_after: int | None = None
        self.instead: bytes | None = None
        self.cuts = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            for pump, args in ((self._there, (client, server)), (self._back, (server, client))):
                threading.Thread(target=pump, args=args, daemon=True).start()

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        self._pump(client, server, lambda data: (data, False))

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        def change(data: bytes) -> tuple[bytes, bool]:
            if self.instead is not None:
                return self.instead, False
            if self.cut_after is None:
                return data, False
            data, self.cut_after, self.cuts = data[: self.cut_after], None, self.cuts + 1
            return data, True

        self._pump(server, client, change)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, change) -> None:  # type: ignore[no-untyped-def]
        end = False
        try:
            while not end and (data := source.recv(65536)):
                data, end = change(data)
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
