"""rediss: pages over TLS, and servers that are not who they should be."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.child import passes
from tests.relay import Relay
from tests.servers import Server
from tests.store import Store, random_pages

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(made: Certificates) -> Iterator[Server]:
    with made.server() as started:
        yield started


def url_of(server: Server, made: Certificates, host: str = "127.0.0.1", more: str = "") -> str:
    return f"rediss://{host}:{server.option('--tls-port')}/0?ca={made['ca.pem']}{more}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_pages_go_there_and_back(server: Server, made: Certificates, host: str) -> None:
    data = random_pages(600)
    with Store(url_of(server, made, host), 600) as store:
        assert set(store.put(range(600), data)) == {0}
        back, results = store.get(range(600))
        assert set(results) == {0} and (back == data).all()
        assert server.command("DBSIZE") == ":600\r\n"
    assert server.command("DBSIZE") == ":0\r\n"


def test_threads_have_connections_of_their_own(server: Server, made: Certificates) -> None:
    data, wrong = random_pages(64), []
    with Store(url_of(server, made)) as store:
        store.put(range(64), data)

        def look() -> None:
            for _ in range(50):
                back, results = store.get(range(64))
                if any(results) or (back != data).any():
                    wrong.append(results)

        threads = [threading.Thread(target=look) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
    assert not wrong


def test_a_client_with_a_certificate(made: Certificates) -> None:
    with made.server(clients="yes") as server:
        mine = f"&cert={made['client.pem']}&key={made['client.key']}"
        with Store(url_of(server, made, more=mine)) as store:
            assert store.put([1], random_pages(1)) == [0]
        with pytest.raises(ValueError, match="cert=FILE&key=FILE"):
            Store(url_of(server, made))


@pytest.mark.parametrize(
    ("name", "ca", "says"),
    [
        ("server", "other.pem", r"cannot be trusted .*\?ca=FILE"),
        ("stranger", "ca.pem", "another host's"),
        ("late", "ca.pem", "expired"),
        ("server", "nowhere.pem", "it must be a file in PEM"),
        ("server", "ca.key", "it must be a file in PEM"),
    ],
)
def test_a_server_that_cannot_be_trusted_is_refused(
    made: Certificates, name: str, ca: str, says: str
) -> None:
    if name == "late":
        time.sleep(1.1)
    with made.server(name) as server, pytest.raises(ValueError, match=says) as error:
        Store(url_of(server, made).replace("ca.pem", ca).replace("/0?", "/0?prefix=x&"))
    assert "\n" not in str(error.value)


def test_no_authority_given_means_the_systems(server: Server) -> None:
    with pytest.raises(ValueError, match="cannot be trusted"):
        Store(f"rediss://127.0.0.1:{server.option('--tls-port')}/0")


def test_a_plain_server_is_not_one_that_speaks_tls(server: Server, made: Certificates) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="does not speak TLS, write redis://"):
        Store(f"rediss://127.0.0.1:{server.port}/0")
    assert time.monotonic() - began < 3
    with pytest.raises(ValueError, match="rediss://"):
        Store(f"redis://127.0.0.1:{server.option('--tls-port')}/0")
    with pytest.raises(ValueError, match="goes with cert=FILE"):
        Store(url_of(server, made, more="&key=k"))
    with pytest.raises(ValueError, match="ca=/no/such: No such file or directory; it must be"):
        Store(f"rediss://127.0.0.1:{server.option('--tls-port')}/0?ca=/no/such")


def test_a_connection_that_breaks_is_made_again(server: Server, made: Certificates) -> None:
    data = random_pages(64)
    with Relay(int(server.option("--tls-port"))) as relay:
        url = f"rediss://127.0.0.1:{relay.port}/0?ca={made['ca.pem']}"
        with Store(url) as store:
            store.put(range(64), data)
            for cut in (1, 3000, 100_000):
                relay.cut_after = cut
                back, results = store.get(range(64))
                assert set(results) == {0} and (back == data).all()
            assert relay.cuts >= 3
            relay.instead = b"nonsense, not a record of TLS"
            began = time.monotonic()
            assert store.get([1], deadline_s=0.3)[1][0] < 0
            assert time.monotonic() - began < 0.6
            relay.instead = None
            assert store.get([1])[1] == [0]


def test_a_paused_server_ends_at_the_deadline(server: Server, made: Certificates) -> None:
    with Store(url_of(server, made)) as store:
        store.put(range(8), random_pages(8, 1))
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        assert set(store.put(range(8), random_pages(8, 2), deadline_s=0.3)) < {-110, -111, -104}
        assert time.monotonic() - began < 0.6
        server.signal(signal.SIGCONT)
        for turn in range(3, 10):
            data = random_pages(8, turn)
            assert set(store.put(range(8), data)) == {0} and (store.get(range(8))[0] == data).all()


@pytest.mark.uffd
def test_a_workload_over_tls_goes_on_over_a_server_that_is_killed(
    server: Server, made: Certificates, tmp_path: Path
) -> None:
    opened = tmp_path / "opened"

    def trouble() -> None:
        while not opened.exists():
            time.sleep(0.01)
        for _ in range(2):
            time.sleep(0.3)
            server.kill()
            time.sleep(0.2)
            server.start()

    thread = threading.Thread(target=trouble, daemon=True)
    thread.start()
    passes(
        """
        import time
        with Region(1024, local=128, store=sys.argv[1], deadline_s=10) as r:
            open(sys.argv[2], "w").close()
            end = time.monotonic() + 2
            page = np.random.default_rng(1).integers(0, 1024, 3000).astype(np.uint32)
            while time.monotonic() < end:
                done = r.replay(page, (page % 2).astype(np.uint8), threads=3, fill=True)
                assert done["verified"] and done["fetches"] > 100, done
            assert r.lost_pages == 0 and r.check()
        """,
        *(url_of(server, made), str(opened)),
    )
    thread.join(30)
