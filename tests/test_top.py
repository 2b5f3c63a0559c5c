"""top: another process's regions by /proc, and one clear line where there is nothing to see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PAGING = """
import os, sys
import numpy as np
from edm_real import Region
with Region(1024, local=256, name="my one", seed=3) as r, Region(64, watch=False):
    a = r.array(np.int64, (1024, 512))
    for i in range(1024):
        a[i, 0] = i + 1
    r.evict(slice(0, 1024))
    if sys.argv[1] == "fork":
        if child := os.fork():
            print(child, flush=True)
            sys.stdin.readline()
            os.waitpid(child, 0)
            del a
        else:
            sys.stdin.readline()
            os._exit(0)
    else:
        print("ready", flush=True)
        sys.stdin.readline()
        for i in range(100):
            assert a[i, 0] == i + 1
        print("touched", flush=True)
        sys.stdin.readline()
        del a
print("closed", flush=True)
sys.stdin.readline()
"""


def top(*args: str, timeout: float = 30, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edm_real", "top", *args],
        capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False, **more,
    )  # fmt: skip


@contextmanager
def paging(how: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PAGING, how]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as child:
        try:
            yield child
        finally:
            child.kill()


def says(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def go_on(child: subprocess.Popen[str]) -> str:
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()
    return says(child)


def values(line: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in line.split())


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.uffd
def test_figures_are_of_the_moment_they_are_asked_for() -> None:
    with paging() as child:
        assert says(child) == "ready"
        pid = str(child.pid)
        first = values(top(pid, "--plain", "--once").stdout.strip())
        assert first["region"] == "my_one" and first["MiB"] == "4.0" and first["limit"] == "1.0"
        assert first["resident"] == "0.0" and first["lost"] == "0"
        assert go_on(child) == "touched"
        again = values(top(pid, "--plain", "--once").stdout.strip())
        assert int(again["faults"]) == int(first["faults"]) + 100
        assert again["resident"] == f"{100 / 256:.1f}"
        shown = top(pid, "--once").stdout
        assert "my one" in shown and "evict lpet" in shown and "puts 1,024" in shown
        assert go_on(child) == "closed"
        assert "no open region" in one_line(top(pid, "--once"))


@pytest.mark.uffd
def test_it_ends_when_the_process_does_and_tells_rates_meanwhile() -> None:
    with paging() as child:
        assert says(child) == "ready"
        command = [sys.executable, "-m", "edm_real", "top", str(child.pid), "--plain"]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*command, "--interval", "0.2"], stdout=pipe, stderr=pipe, text=True, cwd=ROOT
        ) as follower:
            assert values(says(follower))["faults/s"] == "0.0"
            go_on(child)
            rates = [float(values(says(follower))["faults/s"]) for _ in range(3)]
            assert any(rate > 50 for rate in rates)
            child.kill()
            child.wait()
            _, err = follower.communicate(timeout=10)
        assert follower.returncode == 0 and err.startswith("top ends: there is no process")


@pytest.mark.uffd
def test_a_stopped_process_is_told_and_its_child_has_no_region() -> None:
    with paging("fork") as child:
        grandchild = says(child)
        assert "no open region" in one_line(top(grandchild, "--once"))
        child.send_signal(signal.SIGSTOP)
        assert "does not answer; is it stopped?" in one_line(top(str(child.pid), "--once"))
        child.send_signal(signal.SIGCONT)
        os.kill(int(grandchild), signal.SIGKILL)


def test_no_such_process_and_no_permission_are_one_line() -> None:
    assert "there is no process" in one_line(top(str(2**22 + 1)))
    if os.geteuid() == 0:
        code = (
            "import os, sys; from edm_real import top; from edm_workload.cli import run_cli\n"
            "os.setuid(65534); sys.exit(run_cli(lambda: top.follow(1, 1.0, True, True)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT
        )
        assert "belongs to somebody else" in one_line(done)
    assert top("1", "--interval", "0").returncode == 2
    assert top("one").returncode == 2


@pytest.mark.uffd
def test_someone_elses_memfd_of_that_name_is_passed_over() -> None:
    code = (
        "import os, sys\n"
        "fd = os.memfd_create('edm-region')\n"
        "os.truncate(fd, 100)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True
    ) as child:
        assert says(child) == "ready"
        assert "no open region" in one_line(top(str(child.pid), "--once"))
        child.kill()
