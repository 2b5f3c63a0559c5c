"""A verified workload over servers that fail meanwhile: what was answered comes back, and what is
truly gone is named."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.child import passes
from tests.relay import Relay
from tests.servers import Cluster, Server, until

pytestmark = [pytest.mark.redis, pytest.mark.uffd]

KEEPS = ("--appendonly", "yes", "--appendfsync", "always")


def goes_on(url: str, tmp_path: Path, trouble: Callable[[], None], deadline_s: float = 15) -> None:
    """Replays, every page written, read and compared, until `trouble` has come to its end."""
    opened, over = tmp_path / "opened", tmp_path / "over"
    failed: list[BaseException] = []

    def make() -> None:
        try:
            until(opened.exists, 30)
            trouble()
        except BaseException as error:
            failed.append(error)
        over.touch()

    thread = threading.Thread(target=make)
    thread.start()
    said = passes(
        """
        page = np.random.default_rng(1).integers(0, 1024, 3000).astype(np.uint32)
        url, opened, over, deadline = sys.argv[1:]
        with Region(1024, local=128, store=url, deadline_s=float(deadline)) as r:
            rounds = 0
            while not os.path.exists(over) or not rounds:
                done = r.replay(page, (page % 2).astype(np.uint8), threads=3, fill=True)
                assert done["verified"] and done["fetches"] > 100, done
                rounds += 1
                open(opened, "w").close()
            assert r.lost_pages == 0 and r.check()
        print("rounds", rounds)
        """,
        *(url, str(opened), str(over), str(deadline_s)),
    )
    thread.join()
    assert not failed, failed
    assert "rounds" in said


def test_a_server_that_is_killed_and_comes_back_with_its_data(tmp_path: Path) -> None:
    with Server(*KEEPS) as server:

        def trouble() -> None:
            for _ in range(3):
                time.sleep(0.3)
                server.kill()
                time.sleep(0.2)
                server.start()

        goes_on(server.url, tmp_path, trouble)


def test_connections_cut_in_mid_reply(tmp_path: Path) -> None:
    with Server(*KEEPS) as server, Relay(server.port) as relay:

        def trouble() -> None:
            relay.cut_within = 60_000
            until(lambda: relay.cuts > 100)
            relay.cut_within = None

        goes_on(f"redis://127.0.0.1:{relay.port}/0", tmp_path, trouble)


def test_a_server_that_is_paused(tmp_path: Path) -> None:
    with Server() as server:

        def trouble() -> None:
            for _ in range(3):
                time.sleep(0.2)
                server.signal(signal.SIGSTOP)
                time.sleep(0.5)
                server.signal(signal.SIGCONT)

        goes_on(server.url, tmp_path, trouble)


@pytest.mark.parametrize("store", ["redis", "replicated", "striped", "redis-cluster"])
def test_servers_that_are_full_for_a_while(tmp_path: Path, store: str) -> None:
    with ExitStack() as stack:
        if store == "redis-cluster":
            cluster = stack.enter_context(Cluster())
            servers, url = cluster.servers[:3], cluster.url
        else:
            servers = [stack.enter_context(Server()) for _ in range(1 if store == "redis" else 2)]
            url = ",".join(server.url for server in servers)
            url = url if store == "redis" else f"{store}:{url}"

        def trouble() -> None:
            for _ in range(3):
                for server in servers:
                    server.command("CONFIG", "SET", "maxmemory", "1mb")
                time.sleep(0.4)
                for server in servers:
                    server.command("CONFIG", "SET", "maxmemory", "0")
                time.sleep(0.2)
            for server in servers:
                assert "errorstat_OOM" in server.all_of("INFO", "errorstats")

        goes_on(url, tmp_path, trouble)


def test_masters_of_a_cluster_that_die_and_one_that_is_paused(tmp_path: Path) -> None:
    with Cluster() as cluster:
        masters, replicas = cluster.servers[:3], cluster.servers[3:]

        def takes_over(k: int) -> None:
            until(lambda: cluster.role(replicas[k]) == "master")
            time.sleep(0.3)

        def trouble() -> None:
            time.sleep(0.3)
            masters[0].kill()
            takes_over(0)
            masters[0].start()
            until(cluster.well)
            masters[1].signal(signal.SIGSTOP)
            takes_over(1)
            masters[1].signal(signal.SIGCONT)
            until(cluster.well)
            for server in cluster.servers:
                server.command("CLIENT", "KILL", "TYPE", "normal")

        goes_on(cluster.url, tmp_path, trouble)


def test_a_pause_past_the_deadline_costs_the_pages_asked_for_and_no_others() -> None:
    with Server() as server:
        passes(
            """
            url, pid = sys.argv[1], int(sys.argv[2])
            r = Region(256, local=64, store=url, deadline_s=0.4)
            a = r.array(np.uint64, (256, 512))
            for k in range(256):
                a[k] = k + 1
            r.flush()
            r.evict(slice(0, 192))
            os.kill(pid, signal.SIGSTOP)
            a[200:220] = 7   # in local memory
            try:
                r.prefault(slice(10, 11))
            except PageLostError as e:
                assert e.page == 10 and e.errno == errno.ETIMEDOUT, e
            else:
                raise SystemExit("a server that is stopped has answered")
            try:
                r.flush()
            except WritebackError as e:
                assert "still in" in str(e), e
            else:
                raise SystemExit("a server that is stopped has taken pages")
            os.kill(pid, signal.SIGCONT)
            r.flush()
            r.evict(slice(192, 256))
            for k in range(256):
                if k != 10:
                    assert (a[k] == (7 if 200 <= k < 220 else k + 1)).all(), k
            del a
            assert r.lost_pages == 1
            try:
                r.close()
            except PageLostError:
                pass
            """,
            *(server.url, str(server.pid)),
        )


def test_pages_that_are_truly_gone_are_named_and_the_others_intact(tmp_path: Path) -> None:
    """A server without persistence, killed and started again."""
    ready, emptied = tmp_path / "ready", tmp_path / "emptied"
    with Server() as server:

        def lose_all() -> None:
            until(ready.exists, 30)
            server.kill()
            server.start()
            emptied.touch()

        thread = threading.Thread(target=lose_all)
        thread.start()
        passes(
            """
            import time
            url, ready, emptied = sys.argv[1:]
            # fifo: the newest pages are in memory for sure; what was evicted is gone
            r = Region(256, local=64, evict="fifo", store=url, deadline_s=0.5)
            a = r.array(np.uint64, (256, 512))
            for k in range(256):
                a[k] = k + 1
            r.flush()
            r.evict(slice(0, 200))
            open(ready, "w").close()
            while not os.path.exists(emptied):
                time.sleep(0.01)
            for page in (10, 150):
                try:
                    r.prefault(slice(page, page + 1))
                except PageLostError as e:
                    assert e.page == page and e.errno == errno.ENOENT and str(page) in str(e), e
                else:
                    raise SystemExit("a page that is gone came back")
            assert all((a[k] == k + 1).all() for k in range(236, 256))
            a[236:240] = 5  # the new server takes pages as the old one did
            r.flush()
            r.evict(slice(236, 240))
            assert (a[236:240] == 5).all() and r.lost_pages == 2
            """,
            *(server.url, str(ready), str(emptied)),
        )
        thread.join()
