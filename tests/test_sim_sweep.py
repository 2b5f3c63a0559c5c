"""The sweep: same rows however it is run, and nothing twice."""

from __future__ import annotations

import importlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from edm_policy import EdmError
from edm_sim import sweep
from edm_workload import Experiment

sweeping = importlib.import_module("edm_sim.sweep")  # the name edm_sim.sweep is the function

GRID = """
[memory]
region = 256
local = ["10%", "25%"]
[policy]
evict = ["lpet", "fifo"]
[workload]
refs = 2000
seed = [1, 2]
"""


@pytest.fixture
def grid(tmp_path: Path) -> list[Experiment]:
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return list(Experiment.grid(path))


def test_any_number_of_workers_gives_the_same_table(grid: list[Experiment]) -> None:
    one, two = sweep(grid, jobs=1), sweep(grid, jobs=2)
    pd.testing.assert_frame_equal(one, two)
    with ThreadPoolExecutor(3) as threads:
        pd.testing.assert_frame_equal(one, sweep(grid, executor=threads))
    assert len(one) == 8
    assert set(one["policy.evict"]) == {"lpet", "fifo"}
    assert set(one["memory.local"]) == {"10%", "25%"}


def test_a_finished_point_is_not_run_again(
    grid: list[Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    whole = sweep(grid, out, jobs=2)
    journal = Path(f"{out}.jsonl")
    lines = journal.read_text().splitlines()
    # As an interruption leaves it: five points done, the sixth cut short.
    journal.write_text("\n".join([*lines[:5], lines[5][:40]]) + "\n")
    ran: list[str] = []
    simulate = sweeping.simulate_point

    def counted(tables: dict, name: str) -> dict[str, object]:
        ran.append(json.dumps(tables))
        return simulate(tables, name)

    monkeypatch.setattr(sweeping, "simulate_point", counted)
    with ThreadPoolExecutor(1) as pool:
        pd.testing.assert_frame_equal(whole, sweep(grid, out, executor=pool))
    assert len(ran) == 3
    pd.testing.assert_frame_equal(whole, pd.read_parquet(out))


def test_a_point_that_fails_is_named(grid: list[Experiment]) -> None:
    bad = grid[0].with_(evict="nosuch")
    with pytest.raises(EdmError, match="nosuch"):
        sweep([*grid[:2], bad], jobs=1)
