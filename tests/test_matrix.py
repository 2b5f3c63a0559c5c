"""The matrix of experiments: what is in it, and its parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edm_lab.calibration import drift
from edm_lab.compare import Comparison
from edm_lab.matrix import Matrix, part_of, points
from edm_policy import UsageError
from edm_sim.costs import DEFAULT_CALIBRATION
from edm_workload import Experiment, Result
from edm_workload.calibration import Speed, load


def test_the_matrix_has_evictors_workloads_memory_threads_stores_and_modes() -> None:
    found = list(points(Experiment(), stores=["redis://127.0.0.1"]))
    assert {e.policy.evict for e in found} >= {"lpet", "fifo", "s3fifo"}
    assert len({e.workload.trace for e in found}) == 4
    assert {e.memory.local for e in found} == {"25%", "50%"}
    assert {e.workload.threads for e in found} == {1, 2}
    assert {e.store.url for e in found} == {"mem:", "file:", "redis://127.0.0.1"}
    assert {e.store.network for e in found} >= {"none", "rdma", "redis-loopback", "nvme"}
    assert {e.run.faults for e in found} == {"upcall", "monitor"}
    assert len(list(points(Experiment(), quick=True))) < 12


def test_parts_are_the_matrix_and_no_point_twice() -> None:
    everything = list(points(Experiment()))
    parts = [part_of(everything, f"{k}/7") for k in range(1, 8)]
    assert sorted(repr(e) for part in parts for e in part) == sorted(map(repr, everything))
    assert all(len({e.policy.evict for e in part}) > 1 for part in parts)
    for bad in ("0/3", "4/3", "x", "1/1000"):
        with pytest.raises(UsageError, match="--part"):
            part_of(everything, bad)


def test_threads_have_an_anchor_of_their_own() -> None:
    calibration = replace(load(DEFAULT_CALIBRATION), anchor_ns=1000, anchor_of_threads_ns=2000)
    slow = [1500.0, 9000.0, 1000.0]
    assert drift(calibration, {1: slow}) == Speed(1.5, 1.0)
    assert drift(calibration, {1: slow, 2: slow}) == Speed(1.5, 0.75)


def test_counts_are_held_against_the_real_runs_own_repeat_error() -> None:
    def runs(driver: str, *faults: int) -> list[Result]:
        common = {"workload": "loop", "evict": "fifo", "refs": 9, "elapsed_s": 1.0}
        return [
            Result(driver=driver, faults=n, evictions=n, writebacks=n, **common) for n in faults
        ]

    def beyond(sim: int, *real: int) -> float:
        one = Comparison(Experiment(), runs("sim", sim), runs("real", *real))
        found = Matrix(load(DEFAULT_CALIBRATION), [one])
        assert found.rows[0]["repeat of counts"] == f"{(max(real) - min(real)) / 2 / real[1]:.1%}"
        return found.summary()["counts_beyond_goal"]

    assert beyond(1009, 1000, 1000, 1000) == 0
    assert beyond(1011, 1000, 1000, 1000) == 1
    assert beyond(1300, 700, 1000, 1200) == 0
    assert beyond(1400, 700, 1000, 1200) == 1
