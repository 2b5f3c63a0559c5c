"""A program that is stopped (Ctrl-Z, a paused machine) longer than its deadlines loses nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.child import HEAD, ROOT
from tests.servers import Server

WORK = HEAD + textwrap.dedent("""
    import time
    url, faults, seconds = sys.argv[1:]
    r = Region(1024, local=128, store=url, deadline_s=0.3, faults=faults)
    a = r.array(np.uint64, (1024, 512))
    end = time.monotonic() + float(seconds)

    def work(t):
        rng, version = np.random.default_rng(t), {}
        while time.monotonic() < end:
            k = int(rng.integers(512)) * 2 + t
            assert k not in version or a[k, 7] == version[k], k
            a[k, 7] = version[k] = version.get(k, 0) + 1
            if rng.random() < 0.01:
                r.flush(slice(k, k + 1))
                r.evict(slice(k, k + 1))

    threads = [threading.Thread(target=work, args=(t,)) for t in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert r.lost_pages == 0 and r.stats()["evictions"] > 1000
""")


def stopped_often(url: str, faults: str, seconds: float) -> None:
    """Most of the time: 0.7 s, and then 10 to 100 ms to recover."""
    draw = random.Random(1)
    command = [sys.executable, "-X", "faulthandler", "-c", WORK, url, faults, str(seconds)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as program:
        try:
            time.sleep(1)
            deadline = time.monotonic() + seconds + 30
            while program.poll() is None and time.monotonic() < deadline:
                program.send_signal(signal.SIGSTOP)
                time.sleep(0.7)
                program.send_signal(signal.SIGCONT)
                time.sleep(draw.uniform(0.01, 0.1))
        finally:
            program.kill()
        assert program.stdout
        said = program.stdout.read()
        assert program.wait(10) == 0, said
        assert not said, said


@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_in_memory(faults: str) -> None:
    """Pages leave late: threads wait for room when they are stopped."""
    stopped_often("mem:", faults, 9)


def test_on_a_file(tmp_path: Path) -> None:
    """Fetches and write-backs wait for a disk."""
    stopped_often(f"file:{tmp_path / 'pages'}", "upcall", 9)


def test_on_a_server() -> None:
    """Requests are under way when the program stops; the server goes on."""
    with Server() as server:
        stopped_often(server.url, "upcall", 9)


def test_on_members_one_of_which_is_a_server() -> None:
    """A member that gave no answer while the program was stopped is not dead."""
    with Server() as server:
        stopped_often(f"striped:{server.url},mem:", "upcall", 9)
