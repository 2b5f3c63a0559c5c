"""edm_sim mrc: every evictor at every size, bounds, samples, pictures, memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edm_policy import EvictionPolicy, UsageError, evictors, optimum
from edm_sim import miss_ratio_curve
from edm_workload import synth

COLUMNS = ["evict", "size", "refs", "misses", "miss_ratio"]


def mrc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edm_sim", "mrc", *arguments, "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("evict", evictors())
def test_one_to_twenty_frames_work_or_are_refused_in_words(evict: str, tmp_path: Path) -> None:
    sizes = ",".join(map(str, range(1, 21)))
    out = tmp_path / "out.csv"
    small = ["zipf:1.0", "--pages", "300", "--refs", "5000"]
    done = mrc(*small, "--evict", evict, "--size", sizes, "-o", str(out))
    if done.returncode:
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
        return
    curve = pd.read_csv(out)
    assert list(curve.columns) == COLUMNS
    assert list(curve["size"]) == list(range(1, 21))
    assert curve["misses"].between(1, 5000).all()


def test_fifty_sizes_take_memory_by_the_footprint() -> None:
    """All evictors over 100,000 references to 10,000 pages: less than 100 MB beyond the imports."""
    program = """
import resource
import edm_sim, edm_sim.__main__
from edm_workload import synth
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
trace = synth("zipf:1.0", 10_000, 100_000, seed=1)
sizes = [200 * k for k in range(1, 51)]
edm_sim.miss_ratio_curve(trace, ["all"], sizes)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True
    )
    assert int(done.stdout) < 100 * 1024  # KiB


def test_the_columns_of_the_file_are_the_same_unless_more_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    small = ["loop", "--pages", "100", "--refs", "2000", "--evict", "lru,sieve", "--size", "20,50"]
    assert mrc(*small, "-o", str(out)).returncode == 0
    assert list(pd.read_csv(out).columns) == COLUMNS
    assert mrc(*small, "--bounds", "-o", str(out)).returncode == 0
    assert list(pd.read_csv(out).columns)[:5] == COLUMNS
    assert {"gap_closed", "writebacks_bound"} < set(pd.read_csv(out).columns)


def test_the_gap_closed_is_0_for_lru_and_1_for_belady_and_no_bound_is_beaten() -> None:
    trace = synth("zipf:1.0", 500, 20_000, seed=3)
    names = [name if name != "lirs" else "lirs:quirk=1" for name in evictors()]
    curve = miss_ratio_curve(trace, names, [10, 100, 500], bounds=True)
    by_name = curve.set_index(["evict", "size"])
    page, _ = trace.dense("address").arrays()
    for size in (10, 100):
        assert by_name.loc[("lru", size), "gap_closed"] == 0
        assert by_name.loc[("belady", size), "gap_closed"] == 1
        assert by_name.loc[("fifo", size), "belady_misses"] == optimum(page, 500, size)
    assert by_name.loc[("lru", 500), "gap_closed"] != by_name.loc[("lru", 500), "gap_closed"]
    assert (curve["misses"] >= curve["belady_misses"]).all()
    assert (curve["writebacks"] >= curve["writebacks_bound"]).all()
    assert curve["writebacks_bound"].max() > 0


@pytest.mark.parametrize("evict", ["lru", "fifo", "sieve", "arc", "wtinylfu", "belady"])
def test_a_sample_tells_the_curve_within_its_error(evict: str) -> None:
    trace = synth("zipf:0.8", 40_000, 400_000, seed=5)
    sizes = [4_000, 10_000, 20_000]
    exact = miss_ratio_curve(trace, [evict], sizes)
    rough = miss_ratio_curve(trace, [evict], sizes, sampled=0.2)
    assert list(rough.columns) == [*COLUMNS, "error"]
    off = (rough["miss_ratio"] - exact["miss_ratio"]).abs()
    assert (off < 0.02).all()
    assert (off < 5 * rough["error"] + 0.005).all()
    assert (rough["error"] > 0).all()
    assert not np.array_equal(rough["misses"], exact["misses"])


def test_a_sample_that_says_nothing_is_refused_in_words() -> None:
    trace = synth("uniform", 1000, 10_000, seed=1)
    with pytest.raises(UsageError, match=r"100 frames sampled at 0\.1 come to 2 .*sample at 0\.8"):
        miss_ratio_curve(trace, ["fifo"], [100], sampled=0.1)
    with pytest.raises(UsageError, match="above 0"):
        miss_ratio_curve(trace, ["fifo"], [100], sampled=0)
    with pytest.raises(UsageError, match="bounds are exact"):
        miss_ratio_curve(trace, ["fifo"], [100], sampled=0.5, bounds=True)


class Fifo(EvictionPolicy):
    """First in, first out."""

    def __init__(self) -> None:
        self.pages: dict[int, None] = {}

    def insert(self, page: int) -> None:
        self.pages[page] = None

    def choose(self) -> int | None:
        page = next(iter(self.pages), None)
        if page is not None:
            del self.pages[page]
        return page

    def remove(self, page: int) -> None:
        del self.pages[page]


def test_a_policy_in_python_has_a_state_of_its_own_at_every_size() -> None:
    trace = synth("zipf:1.0", 300, 5_000, seed=2)
    for observe in ("exact", "idle"):
        curve = miss_ratio_curve(trace, [Fifo, "fifo"], [20, 100], observe=observe)
        assert list(curve["misses"][:2]) == list(curve["misses"][2:])
        assert curve["evict"][0] == "Fifo"


def test_less_observation_costs_misses() -> None:
    trace = synth("zipf:1.0", 300, 20_000, seed=2)
    exact, idle = (
        miss_ratio_curve(trace, ["lru"], [60], observe=observe)["misses"][0]
        for observe in ("exact", "idle")
    )
    assert exact < idle
    with pytest.raises(UsageError, match="needs observation exact"):
        miss_ratio_curve(trace, ["lirs"], [60], observe="idle")


def test_the_picture_is_one(tmp_path: Path) -> None:
    out = tmp_path / "curve.png"
    small = ["zipf:1.0", "--pages", "200", "--refs", "4000", "--size", "50,100"]
    assert mrc(*small, "--evict", "lru,fifo", "--plot", str(out)).returncode == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    refused = mrc(*small, "--plot", str(tmp_path / "curve.doc"))
    assert refused.returncode == 2 and "write .png" in refused.stderr
