"""The seed's two scenarios, in the simulator, through the pager."""

from __future__ import annotations

import numpy as np
import pytest

import edm_sim
from edm_policy import LogBuffer
from edm_policy.pager import OPS
from edm_workload import Experiment, Result, Trace


def simulate(
    touches: list[tuple[range, bool]], high: int, low: int, lockstep: bool
) -> tuple[Result, list[int]]:
    """Result, and the pages evicted in order, of stretches (pages, write)."""
    page = np.concatenate([np.array(pages, np.uint32) for pages, _ in touches])
    write = np.concatenate([np.full(len(pages), w) for pages, w in touches])
    experiment = Experiment.from_options(
        pages=30, limit=high, high=high, low=low, evict="lpet", observe="idle", lockstep=lockstep
    )
    # A second between references: in the free run LPET, too, ends before the next touch.
    times = np.arange(len(page), dtype=np.uint64) * 1_000_000_000
    experiment.__dict__["trace"] = Trace(page, write, t_ns=times)
    log = LogBuffer()
    result = edm_sim.run(experiment, log=log)
    evicted = [
        int(r["page"])
        for r in log.records()
        if OPS.get(int(r["kind"]) & 0x7F) == "EVICT" and r["kind"] & 0x80
    ]
    return result, evicted


def area(k: int, size: int = 5) -> range:
    return range((k - 1) * size, k * size)


either = pytest.mark.parametrize("lockstep", [True, False])


@either
def test_the_first_page_of_area_5_evicts_area_1(lockstep: bool) -> None:
    writes = [(area(k), True) for k in range(1, 5)]
    _, evicted = simulate(writes, 20, 15, lockstep)
    assert evicted == []
    result, evicted = simulate([*writes, (area(5), True)], 20, 15, lockstep)
    assert evicted == list(area(1))
    assert result.zero_fills == 25


@either
def test_areas_2_and_3_are_touched_so_area_4_leaves(lockstep: bool) -> None:
    touches = [(area(k), True) for k in range(1, 6)]
    touches += [(area(2), False), (area(3), False), (range(0, 1), False)]
    result, evicted = simulate(touches, 20, 15, lockstep)
    assert evicted == [*area(1), *area(4)]
    assert result.fetches == 1
    assert result.writebacks == 10


@either
def test_high_20_low_10_the_first_page_of_area_3_evicts_all_of_area_1(lockstep: bool) -> None:
    touches = [(range(0, 10), True), (range(10, 20), True), (range(20, 21), True)]
    result, evicted = simulate(touches, 20, 10, lockstep)
    assert evicted == list(range(10))
    result, _ = simulate([*touches, (range(0, 10), False)], 20, 10, lockstep)
    assert result.fetches == 10
