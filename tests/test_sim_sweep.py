"""Sweeps: the grid as a table, the same from any executor, resumed, and ended cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from edm_policy import EdmError, UsageError
from edm_sim import run, sweep
from edm_sim.pool import WorkerPool
from edm_sim.sweep import Points, point_key
from edm_workload import Experiment, Trace
from edm_workload.result import frame

ROOT = Path(__file__).resolve().parents[1]

GRID = """
[memory]
region = "4MiB"
local = ["10%", 200]
[policy]
evict = ["fifo", "lpet"]
[store]
network = ["rdma", {p50_us = 4.0, p99_us = 9.0, gbit = 10.0, loss = 0.0}]
[workload]
refs = 5_000
"""


class Counting(Executor):
    """Runs at once, in the caller, and counts."""

    def __init__(self) -> None:
        self.ran = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.ran += 1
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


def command(*args: str | Path, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "edm_sim", "sweep", *map(str, args)]
    return subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{cwd}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def living(session: int) -> list[int]:
    """Processes of a session, zombies not counted."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def none_left(session: int, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while living(session) and time.monotonic() < end:
        time.sleep(0.05)
    return not living(session)


def test_a_row_a_point_with_the_grids_keys_first(grid: Path) -> None:
    table = sweep(grid, executor=Counting()).frame
    assert list(table)[:3] == ["local", "evict", "network"]
    assert list(zip(table["local"], table["evict"], strict=True))[::2] == [
        ("10%", "fifo"),
        ("10%", "lpet"),
        ("200", "fifo"),
        ("200", "lpet"),
    ]
    assert set(table["limit"]) == {102, 200}
    alone = frame(run(point) for point in Experiment.grid(grid))
    pd.testing.assert_frame_equal(table[alone.columns], alone, check_exact=True)


def test_any_number_of_workers_gives_the_same_table_bit_for_bit(grid: Path) -> None:
    one = sweep(grid, jobs=1).frame
    pd.testing.assert_frame_equal(one, sweep(grid, jobs=3).frame, check_exact=True)
    with ThreadPoolExecutor(2) as threads:
        theirs = sweep(grid, executor=threads).frame
    pd.testing.assert_frame_equal(one, theirs, check_exact=True)


def test_dask_runs_it_too(grid: Path) -> None:
    distributed = pytest.importorskip(
        "distributed", reason="distributed is not installed: pip install 'edm-paging[cluster]'"
    )
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(**options, processes=True) as client:
        theirs = sweep(grid, executor=client.get_executor()).frame
    pd.testing.assert_frame_equal(sweep(grid, jobs=1).frame, theirs, check_exact=True)


def test_a_finished_point_is_not_run_again(grid: Path, tmp_path: Path) -> None:
    first = Counting()
    before = sweep(grid, tmp_path / "points", executor=first)
    assert (first.ran, before.reused) == (8, 0)
    kept = sorted((tmp_path / "points").iterdir())
    kept[3].unlink()
    kept[5].write_text(kept[5].read_text()[:40])  # as a full disk leaves it
    again = Counting()
    after = sweep(grid, tmp_path / "points", executor=again)
    assert (again.ran, after.reused) == (2, 6)
    pd.testing.assert_frame_equal(before.frame, after.frame, check_exact=True)


def test_a_point_is_kept_when_it_is_finished_not_at_the_end(grid: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(grid, tmp_path, jobs=1, progress=stop)
    assert len(list(tmp_path.glob("*.json"))) == 3
    assert sweep(grid, tmp_path, executor=Counting()).reused == 3


def test_a_point_that_stands_twice_in_the_grid_runs_once() -> None:
    point = Experiment.from_options(refs=1000, pages=256)
    counting = Counting()
    assert len(sweep([point, point], executor=counting).frame) == 2
    assert counting.ran == 1


def test_the_key_is_of_all_that_decides_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    Trace(page=[1, 2, 3]).save(path)
    point = Experiment.from_options(trace=str(path))
    keys = [point_key(point), point_key(point.with_(seed=2)), point_key(point.with_(local=9))]
    Trace(page=[1, 2, 4]).save(path)
    keys.append(point_key(point))
    monkeypatch.setattr(sys.modules["edm_sim.sweep"], "code_version", lambda: "another")
    keys.append(point_key(point))
    assert len(set(keys)) == len(keys)
    assert point_key(point) == point_key(Experiment.from_options(trace=str(path)))


def test_a_custom_policys_source_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_swept.py").write_text("class P: pass\n")
    point = Experiment.from_options(evict="mine_swept:P")
    before = point_key(point)
    (tmp_path / "mine_swept.py").write_text("class P: changed = 1\n")
    assert point_key(point) != before


def test_points_that_cannot_run_leave_the_others(tmp_path: Path) -> None:
    good, bad = Experiment(), Experiment.from_options(evict="nosuch")
    points = [p.with_(refs=1000, pages=256) for p in (good, bad)]
    swept = sweep(points, tmp_path, executor=Counting())
    assert list(swept.frame["evict"]) == ["lpet"]
    ((keys, reason),) = swept.failures
    assert keys == {"evict": "nosuch"} and "unknown evictor" in reason


def test_a_worker_that_dies_is_one_line_and_finished_points_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "deadly.py").write_text("import os\nos._exit(9)\n")
    points = [Experiment.from_options(refs=1000, evict=e) for e in ("fifo", "deadly:Policy")]
    with pytest.raises(EdmError, match="a worker was killed"):
        sweep(points, tmp_path / "points", jobs=1)
    assert Points(tmp_path / "points").get(point_key(points[0])) is not None


def test_no_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="jobs"):
        sweep([Experiment()], jobs=0)


# -- the command


def test_the_command_writes_parquet_with_the_grids_keys(grid: Path, tmp_path: Path) -> None:
    process = command(grid, "-o", "out.parquet", "--jobs", "2", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "8 of 8 points" in out
    table = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(table, sweep(grid, jobs=1).frame, check_exact=True)
    import pyarrow.parquet as pq

    about = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"edm_sweep"])
    assert about["schema"] == 1 and "edm_sim" in about["metadata"]["command"]


def test_the_command_exits_1_and_names_the_points_that_failed(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text(
        '[policy]\nevict = ["nosuch", "fifo"]\n[workload]\nrefs = 1000\n'
    )
    process = command("g.toml", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith("error: evict=nosuch: unknown evictor") and err.count("\n") == 1
    assert "1 of 2 points: g.parquet" in out


def test_the_command_refuses_a_bad_file_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text("[policy]\nevict = []\n")
    process = command("g.toml", cwd=tmp_path)
    assert process.communicate(timeout=60)[1].count("\n") == 1
    assert process.returncode == 2


def long_sweep(folder: Path) -> subprocess.Popen[str]:
    """20 points that take a while, under way: two are finished."""
    (folder / "long.toml").write_text(
        f"[workload]\nrefs = 60_000\nseed = {list(range(1, 21))}\n[memory]\nregion = '8MiB'\n"
    )
    process = command("long.toml", "--jobs", "2", cwd=folder)
    end = time.monotonic() + 60
    while len(list(folder.glob("long.points/*.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    return process


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_keeps_finished_points_exits_130_and_leaves_no_process(tmp_path: Path) -> None:
    process = long_sweep(tmp_path)
    assert len(living(process.pid)) >= 3
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert none_left(process.pid)
    kept = len(list(tmp_path.glob("long.points/*.json")))
    assert 2 <= kept < 20
    again = sweep(tmp_path / "long.toml", tmp_path / "long.points", jobs=2)
    assert again.reused == kept and len(again.frame) == 20


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    process = long_sweep(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert none_left(process.pid)


def test_idle_workers_end_with_a_pool_that_is_left_by_an_exception() -> None:
    pool = WorkerPool(3)
    workers = list(pool.executor._processes.values())
    assert len(workers) == 3
    ended = threading.Event()

    def leave() -> None:
        pool.executor.submit(os.getpid).result()  # all are there, or nearly; they wait for work
        pool.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        ended.set()

    threading.Thread(target=leave, daemon=True).start()
    assert ended.wait(30), "a worker that was ended held the lock that the others wait for"
    assert not any(worker.is_alive() for worker in workers)


def test_a_script_without_its_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from edm_sim import sweep\n"
        "from edm_workload import Experiment\n"
        "name = 'x' * 200_000  # more than a pipe holds\n"
        "points = [Experiment(name=name).with_(refs=100, seed=s) for s in range(4)]\n"
        "sweep(points, jobs=2)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr.splitlines()[-1]
