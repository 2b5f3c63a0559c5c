"""edm_real run: unmodified programs in less memory do what they do without, to the byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.compiled import ROOT, shared_library

pytestmark = pytest.mark.uffd


def call(
    *command: str, give: str | None = None, env: dict[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(command),
        input=give,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env=os.environ | {"LC_ALL": "C"} | (env or {}),
    )


def paged(
    *command: str,
    options: tuple[str, ...] = ("--local", "4MiB"),
    give: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    return call(
        sys.executable, "-m", "edm_real", "run", *options, "--", *command, give=give, env=env
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("program") / "preload_program"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    source = str(ROOT / "tests" / "preload_program.c")
    subprocess.run(["gcc", *flags, source, "-o", str(out)], check=True)
    return str(out)


@pytest.mark.parametrize("scenario", ["heap", "mappings", "system_calls", "threads", "children"])
def test_memory_asked_for_in_every_way_holds_what_was_written(program: str, scenario: str) -> None:
    """Four times what is local."""
    done = paged(program, scenario, "16", options=("--local", "4MiB", "--prefetch", "nextn"))
    assert (done.returncode, done.stdout) == (0, ""), done
    assert "16.0 MiB in 4.0 MiB" in done.stderr or scenario in ("heap", "mappings"), done.stderr
    assert ("a forked child used paged memory" in done.stderr) == (scenario == "children")


@pytest.mark.parametrize("store", ["mem:", "zstd+mem:", "file:"])
def test_sort_of_a_file(tmp_path: Path, store: str) -> None:
    lines = [f"{(k * 2654435761) % 2**32:08x} {k}\n" for k in range(60_000)]
    file = tmp_path / "lines"
    file.write_text("".join(lines))
    command = "sort", "--buffer-size=12M", "--parallel=2", str(file)
    done = paged(*command, options=("--local", "2MiB", "--store", store))
    assert done.returncode == 0 and done.stdout == call(*command).stdout, done.stderr


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="no sqlite3 here: sudo apt install sqlite3")
def test_sqlite_in_memory() -> None:
    sql = """create table t(a integer, b text);
        with recursive c(x) as (select 1 union all select x + 1 from c where x < 40000)
        insert into t select (x * 7919) % 10007, printf('%064d', x) from c;
        create index i on t(a);
        select count(*), sum(length(b)), sum(a) from t;
        select a, b from t order by b desc limit 5; delete from t where a % 3 = 0;
        vacuum; pragma integrity_check; select sum(a) from t;"""
    done = paged("sqlite3", ":memory:", give=sql, options=("--local", "1MiB", "--least", "4KiB"))
    assert done.returncode == 0 and done.stdout == call("sqlite3", ":memory:", give=sql).stdout
    assert "MiB in 1.0 MiB" in done.stderr, done.stderr


def test_python_with_numpy_and_children_of_its_own() -> None:
    code = """import hashlib, subprocess, sys, threading
import numpy as np
a = np.random.default_rng(1).random(800_000)
b = np.sort(a)
c = a.reshape(800, 1000) @ a.reshape(1000, 800)
words = {k: str(k) * 3 for k in range(30_000)}
seen = []
t = threading.Thread(target=lambda: seen.append(np.cumsum(b)[-1]))
t.start(); t.join()
print(hashlib.sha256(b.tobytes()).hexdigest(), hashlib.sha256(c.tobytes()).hexdigest(), seen)
print(sum(map(len, words.values())), subprocess.run(["echo", "child"], capture_output=True).stdout)
sys.exit(7)"""
    alone = call(sys.executable, "-c", code, env={"OPENBLAS_NUM_THREADS": "1"})
    done = paged(
        sys.executable, "-c", code, options=("--local", "6MiB"), env={"OPENBLAS_NUM_THREADS": "1"}
    )
    assert (done.returncode, done.stdout) == (7, alone.stdout), done.stderr


def test_figures_are_a_result_a_process(program: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    both = f"{program} threads 8; {program} system_calls 8"
    done = paged(
        "sh", "-c", both, options=("--local", "2MiB", "--evict", "fifo", "--quiet", "-o", str(out))
    )
    assert done.returncode == 0 and "MiB in" not in done.stderr, done
    data = json.loads(out.read_text())
    assert data["schema"] == 1 and len(data["results"]) == 2, data
    for r in data["results"]:
        assert r["workload"] == "preload_program" and r["extra"]["command"][0] == "sh"
        assert (r["driver"], r["evict"], r["faults_mode"]) == ("real", "fifo", "monitor")
        assert r["limit"] == 512 and r["faults"] > 2000 and r["evictions"] > 1000
        assert r["extra"]["resident"] <= 512 and r["latency_us"]["p50"] > 0
        assert r["extra"]["paged_bytes_most"] == 8 << 20 and not r["extra"]["unpaged_bytes"]


def test_what_finds_no_room_in_the_region_is_not_paged_and_said(program: str) -> None:
    done = paged(program, "threads", "32", options=("--local", "2MiB", "--region", "16MiB"))
    assert done.returncode == 0 and "NOT paged, --region is full" in done.stderr, done
    done = paged("echo", "word")
    assert done.stdout == "word\n" and "nothing was paged" in done.stderr, done


def test_exit_codes_and_signals_are_the_programs(program: str) -> None:
    assert paged("sh", "-c", "exit 42").returncode == 42
    assert paged("sh", "-c", "kill -9 $$").returncode == 128 + 9
    with begun(program, "--quiet") as run:
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 128 + signal.SIGTERM


def begun(program: str, *options: str) -> subprocess.Popen[str]:
    """The program that runs for ever, once it runs."""
    command = [sys.executable, "-m", "edm_real", "run", "--local", "4MiB", *options]
    run = subprocess.Popen(
        [*command, "--", program, "forever", "16"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout and run.stdout.readline() == "begun\n"
    return run


def test_lost_page_ends_the_program_with_a_line(program: str) -> None:
    with begun(program, "--deadline", "0.2") as run:
        child = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0]
        store = next(
            fd for fd in Path(f"/proc/{child}/fd").iterdir() if "edm-pages-" in os.readlink(fd)
        )
        end = time.monotonic() + 20
        while run.poll() is None and time.monotonic() < end:
            size = store.stat().st_size if store.exists() else 0
            try:
                with open(store, "r+b") as f:
                    f.write(bytes(size))
            except OSError:
                pass  # it has ended
            time.sleep(0.05)
        error = run.stderr.read() if run.stderr else ""
        assert run.wait(5) == 128 + signal.SIGBUS, error
    assert "is lost: store file:" in error and "the program ends here" in error, error


def test_wrong_requests_are_one_line(program: str, tmp_path: Path) -> None:
    for options, command, code, says in (
        ((), ("no_such_program",), 2, "no_such_program: No such file"),
        ((), (), 2, "no program given"),
        (("--evict", "nosuch"), ("true",), 2, "unknown evictor 'nosuch'"),
        (("--evict", "test_custom:Fifo"), ("true",), 2, "is Python"),
        (("--store", "nosuch:"), ("true",), 2, "unknown store"),
        (("--local", "nonsense"), ("true",), 2, "nonsense"),
        (("--local", "1"), ("true",), 2, "local: 1 pages are too few"),
        (("--region", "1"), ("true",), 2, "region: 1 pages are too few"),
    ):
        done = paged(*command, options=options, env={"PYTHONPATH": str(ROOT / "tests")})
        assert done.returncode == code and says in done.stderr, done
        assert done.stderr.count("\n") == 1, done.stderr


def test_without_a_full_userfaultfd_it_is_refused_with_77(tmp_path: Path) -> None:
    library = shared_library(ROOT / "tests" / "old_kernel.c", tmp_path / "old_kernel.so")
    done = paged("true", env={"LD_PRELOAD": str(library), "EDM_OLD_KERNEL": "kernel"})
    assert done.returncode == 77 and "full userfaultfd" in done.stderr, done
    assert done.stderr.count("\n") == 1, done.stderr
