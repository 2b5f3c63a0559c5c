"""versus: touch measures what it says, and what is set up on the machine is undone."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edm_policy.errors import CannotError, EdmError, UsageError
from edm_real import versus
from edm_real.versus_machine import STATE, Machine
from edm_workload import Experiment, Result

ROOT = Path(__file__).resolve().parents[1]
PAGE = 4096


@pytest.fixture(scope="session")
def touch() -> Path:
    folder = ROOT / "benchmarks" / "versus"
    subprocess.run(["make", "-sC", str(folder)], check=True, timeout=60)
    return folder / "touch"


def run(touch: Path, *args: str) -> dict[str, object]:
    done = subprocess.run(
        [str(touch), *args], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


# ---- touch, on plain memory ----


@pytest.mark.parametrize("fill", ["none", "word", "half", "random"])
@pytest.mark.parametrize("write", [True, False])
def test_touch_verifies_plain_memory(touch: Path, fill: str, write: bool) -> None:
    args = ["--pages", "256", "--refs", "5000", "--pattern", "uniform", "--fill", fill]
    got = run(touch, *args, *(["--write"] if write else []))
    assert got["verified"] is True
    assert got["accesses"] == 5000 and got["writes"] == (5000 if write else 0)
    assert got["resident_pages"] == 256
    assert got["p50_ns"] <= got["p90_ns"] <= got["p99_ns"] <= got["p999_ns"]  # type: ignore[operator]
    assert 0 < got["mean_ns"] * got["accesses"] <= got["elapsed_s"] * 1e9  # type: ignore[operator]


def first_words(path: Path) -> np.ndarray:
    return np.fromfile(path, dtype="<u8").reshape(-1, PAGE // 8)[:, 0]


def counts(path: Path) -> list[int]:
    return [int(n) for n in first_words(path) & 0xFFFFFFFF]


def test_a_mapped_file_holds_a_stamp_and_a_count_for_each_page(touch: Path, tmp_path: Path) -> None:
    region = tmp_path / "region"
    region.write_bytes(bytes(8 * PAGE))
    args = ["--file", str(region), "--pages", "8", "--fill", "half", "--random"]
    run(touch, *args, "--pattern", "seq", "--refs", "20", "--write")
    assert counts(region) == [3, 3, 3, 3, 2, 2, 2, 2]
    assert list(first_words(region) >> 32) == list(range(1, 9))


def test_stride_goes_over_every_page_before_it_comes_again(touch: Path, tmp_path: Path) -> None:
    region = tmp_path / "region"
    args = ["--file", str(region), "--pages", "10", "--pattern", "stride:4", "--write"]
    region.write_bytes(bytes(10 * PAGE))
    run(touch, *args, "--refs", "4")
    assert np.flatnonzero(counts(region)).tolist() == [0, 1, 4, 8]
    region.write_bytes(bytes(10 * PAGE))
    run(touch, *args, "--refs", "10")
    assert counts(region) == [1] * 10


def test_a_reference_file_says_which_page_and_whether_to_write(touch: Path, tmp_path: Path) -> None:
    region = tmp_path / "region"
    region.write_bytes(bytes(4 * PAGE))
    trace = (np.array([3, 1, 3, 0]), np.array([True, True, True, False]))
    access = versus.Access(trace, pages=4, local_pages=4, fill="none")
    got = run(touch, *access.arguments(tmp_path), "--file", str(region))
    assert got["accesses"] == 4 and got["writes"] == 3
    assert counts(region) == [0, 1, 0, 2]


def test_touch_notices_a_page_that_is_not_as_it_was_left(touch: Path, tmp_path: Path) -> None:
    region = tmp_path / "region"
    region.write_bytes(bytes(4 * PAGE - 1) + b"x")
    args = ["--file", str(region), "--pages", "4", "--pattern", "seq", "--refs", "4", "--write"]
    done = subprocess.run([str(touch), *args], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["verified"] is False
    with pytest.raises(EdmError, match="NOT as written"):
        versus.run_touch([str(touch), *args])


@pytest.mark.parametrize(
    "args",
    [
        ["--pages", "0"],
        ["--pages", "4"],
        ["--pages", "4", "--refs", "1", "--pattern", "stride:5"],
        ["--pages", "4", "--refs", "1", "--pattern", "zigzag"],
        ["--pages", "4", "--refs", "1", "--anon", "--file", "x"],
        ["--pages", "4", "--refs", "1", "--fill", "quarter"],
    ],
)
def test_touch_refuses_what_cannot_be(touch: Path, args: list[str]) -> None:
    done = subprocess.run([str(touch), *args], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stderr.startswith(b"touch: ") and not done.stdout


def test_touch_refuses_a_reference_outside_of_the_region(touch: Path, tmp_path: Path) -> None:
    np.array([0, 9], dtype="<u4").tofile(tmp_path / "refs")
    args = [str(touch), "--pages", "4", "--refs-file", str(tmp_path / "refs")]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "reference 1 is to page 9 of 4" in done.stderr


# ---- setting up and undoing ----


def traces_of_us() -> set[str]:
    """Everything on the machine that versus could have left, by name."""
    swaps = {line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]}
    found = {f"swap {s}" for s in swaps}
    found |= {str(p) for p in Path("/sys/block").glob("zram*")}
    found |= {str(p) for p in Path("/sys/fs/cgroup").glob("*/edm-versus-*")}
    found |= {str(p) for p in Path("/sys/fs/cgroup").glob("edm-versus-*")}
    return found


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[set[str]]:
    """Everything is as before; two test runs on one machine take turns."""
    if os.geteuid():
        yield traces_of_us()
        return
    with open(f"{STATE}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = traces_of_us()
        yield before
        assert traces_of_us() == before
    assert not list(tmp_path.glob("edm-versus-*"))
    assert not (tmp_path / "state.json").exists()


def machine(folder: Path) -> Machine:
    return Machine(folder, state=folder / "state")


def try_all(folder: Path, kind: str) -> Path:
    """Set `kind` up, look at it, undo it; skips where the machine refuses."""
    try:
        with machine(folder) as m, getattr(m, kind)(1 << 24) as made:
            path = Path(made.path if kind == "cgroup" else made)
            assert path.exists()
            assert (f"swap {path}" in traces_of_us()) == (kind in ("zram", "swap_file"))
            assert json.loads((folder / "state.json").read_text())["steps"]
        return path
    except CannotError as refused:
        pytest.skip(str(refused))


@pytest.mark.parametrize("kind", ["cgroup", "zram", "swap_file", "file"])
def test_what_is_set_up_is_gone_afterwards(untouched: set[str], tmp_path: Path, kind: str) -> None:
    assert not try_all(tmp_path, kind).exists()


def test_a_failure_inside_undoes_it_too(untouched: set[str], tmp_path: Path) -> None:
    try_all(tmp_path, "zram")
    with pytest.raises(ZeroDivisionError), machine(tmp_path) as m, m.zram(1 << 24):
        raise ZeroDivisionError


CHILD = """
import subprocess, sys
from pathlib import Path
from edm_real.versus_machine import Machine
folder = Path(sys.argv[1])
with Machine(folder, state=folder / "state") as m, m.cgroup(1 << 24) as group, m.zram(1 << 26), \\
        m.swap_file(1 << 24):
    child = subprocess.Popen(group.command("sh", "-c", "echo ready; exec sleep 60"))
    child.wait()
"""


def start_and_signal(folder: Path, number: int) -> int:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        return child.wait(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_undoes_everything(untouched: set[str], tmp_path: Path, number: int) -> None:
    for kind in ("cgroup", "zram", "swap_file"):
        try_all(tmp_path, kind)
    assert start_and_signal(tmp_path, number) != 0
    assert traces_of_us() == untouched


def test_what_a_killed_run_left_is_removed_by_the_next(untouched: set[str], tmp_path: Path) -> None:
    for kind in ("cgroup", "zram", "swap_file"):
        try_all(tmp_path, kind)
    assert start_and_signal(tmp_path, signal.SIGKILL) == -signal.SIGKILL
    left = traces_of_us() - untouched
    assert len(left) == 4  # two swap areas, the zram device, the cgroup with the sleeper in it
    with machine(tmp_path):
        assert traces_of_us() == untouched


def test_a_swap_area_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """A journal that names a file without our label: neither swapoff nor an error."""
    if os.geteuid():
        pytest.skip("needs root")
    other = tmp_path / "someone-elses"
    other.write_bytes(bytes(PAGE))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    steps = [["zram", "0 -1"], ["swap", str(other)]]
    (tmp_path / "state.json").write_text(json.dumps({"boot": boot, "steps": steps}))
    before = traces_of_us()
    with machine(tmp_path):
        assert traces_of_us() == before and other.exists()


def test_two_runs_do_not_meet(untouched: set[str], tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    start = time.monotonic()
    with (
        machine(tmp_path),
        pytest.raises(CannotError, match="another run holds"),
        Machine(tmp_path, state=tmp_path / "state", wait_s=0.3),
    ):
        pass
    assert time.monotonic() - start < 10


def test_as_an_ordinary_user_it_is_one_clear_line() -> None:
    program = (
        "import os, sys\n"
        "from edm_real import versus\n"
        "from edm_workload.cli import run_cli\n"
        "os.geteuid() or os.setuid(65534)\n"
        "sys.exit(run_cli(lambda: print(versus.baselines('uniform', 64, 16, refs=10))))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 77
    assert done.stderr.count("\n") == 1 and "needs root" in done.stderr and "sudo" in done.stderr


# ---- the comparison ----


@pytest.mark.parametrize("kind", versus.KINDS)
def test_the_kernel_pages_as_much_as_the_limit_says(
    untouched: set[str], tmp_path: Path, kind: str
) -> None:
    for part in ("cgroup", "zram" if kind == "zram" else "swap_file"):
        try_all(tmp_path, part)
    pages, local = 8192, 2048
    access = versus.Access("uniform", pages, local, refs=20_000)
    with machine(tmp_path) as m:
        got = versus.measure(m, kind, access, tmp_path)
    assert got["verified"] is True
    assert 0.85 < got["resident_pages"] / local < 1.1
    assert 0.7 < got["major_faults"] / got["accesses"] < 0.8


def test_a_row_for_each_kind_with_medians_and_our_ratio(tmp_path: Path) -> None:
    try_all(tmp_path, "cgroup")
    times = iter([3.0, 1.0, 2.0])
    rows = versus.compare(
        versus.Access("uniform", 8192, versus.MMAP_LOCAL_MIN, refs=20_000),
        lambda: {"accesses": 1000, "elapsed_s": next(times)},
        kinds=["mmap"],
        repeats=3,
        folder=tmp_path,
    )
    assert [r["kind"] for r in rows] == ["edm", "mmap"]
    ours, theirs = rows
    assert ours["mean_us"] == 2000 and ours["least_us"] == 1000 and ours["most_us"] == 3000
    assert ours["own_ratio"] == 1 and theirs["own_ratio"] > 1
    assert theirs["runs"] == 3 and theirs["refs"] == 20_000
    assert {r["load"] for r in rows} <= {"idle", "loaded"}


def test_table_gives_the_kernel_the_experiments_own_accesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_all(tmp_path, "cgroup")
    experiment = Experiment.from_options(
        trace="zipf:1.0", pages=4096, refs=5000, local="50%", writes=0.5
    )

    def run(given: Experiment) -> Result:
        return Result("real", given.workload.trace, refs=5000, elapsed_s=0.5, verified=True)

    monkeypatch.setattr(versus, "run", run)
    ours, theirs = versus.table(experiment, 1, kinds=["mmap"], folder=tmp_path)
    assert ours["mean_us"] == 100 and ours["own_ratio"] == 1
    assert (theirs["pages"], theirs["local"], theirs["refs"]) == (4096, 2048, 5000)
    # Untouched at the start, so each page that occurs is missed once at least.
    missed = theirs["major_faults"] + theirs["minor_faults"]
    assert missed >= len(np.unique(experiment.trace.page))


def test_a_run_that_the_oom_killer_ended_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter(["kill -9 $$", "kill -9 $$", "echo '{\"verified\": true}'"])
    access = versus.Access("seq", 64, 32, refs=64)

    def once(*_: object) -> dict[str, object]:
        return versus.run_touch(["sh", "-c", next(ends)])

    monkeypatch.setattr(versus, "_measure_once", once)
    got = versus.measure(machine(tmp_path), "mmap", access, tmp_path)
    assert got == {"verified": True, "killed": 2}
    ends = iter(["kill -9 $$"] * (versus.KILLED_MAX + 1))
    with pytest.raises(EdmError, match="ran out of memory"):
        versus.measure(machine(tmp_path), "mmap", access, tmp_path)


def test_a_mapped_file_that_the_kernel_cannot_page_is_refused(tmp_path: Path) -> None:
    """So few local pages that a run measures how long reclaim sleeps for the flusher."""
    try_all(tmp_path, "cgroup")
    few = versus.MMAP_LOCAL_MIN - 1
    reads, trace = np.zeros(64, bool), np.arange(64)
    with machine(tmp_path) as m:
        for written in ("seq", (trace, ~reads)):
            access = versus.Access(written, 64, few, refs=64)
            with pytest.raises(CannotError, match="use at least 2,048"):
                versus.measure(m, "mmap", access, tmp_path)
        read = versus.Access((trace, reads), 64, few)
        assert versus.measure(m, "mmap", read, tmp_path)["verified"] is True


def test_table_refuses_threads() -> None:
    with pytest.raises(UsageError, match="one thread"):
        versus.table(Experiment.from_options(threads=2))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown kind tape"):
        versus.baselines("uniform", 64, 16, kinds=["tape"])


def test_bench_versus_prints_a_row_a_kind_and_writes_json(tmp_path: Path) -> None:
    try_all(tmp_path, "cgroup")
    out = tmp_path / "out.json"
    command = [
        *(sys.executable, "-m", "edm_real", "bench", "--versus", "--repeats", "2", "-o", str(out)),
        *("--kinds", "mmap", "--folder", str(tmp_path), "--pages", "8192", "--refs", "3000"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    ours, theirs = document["metadata"]["versus"]
    assert (ours["kind"], theirs["kind"]) == ("edm", "mmap")
    assert ours["runs"] == theirs["runs"] == len(document["results"]) == 2
    assert ours["local"] * 4 == ours["pages"] == 8192
    assert f"{theirs['own_ratio']:.3g}" in done.stdout


def test_a_refused_kind_is_a_line_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"kind": "edm", "mean_us": 1.0}, {"kind": "zram", "refused": "no zram here"}]
    versus.print_table(Experiment.from_options(pages=64, refs=10), rows)
    assert "zram: refused: no zram here" in capsys.readouterr().out


@pytest.mark.parametrize("repeats", ["0", "x"])
def test_bench_versus_wants_a_number_of_repeats(repeats: str) -> None:
    command = [sys.executable, "-m", "edm_real", "bench", "--versus", "--repeats", repeats]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
