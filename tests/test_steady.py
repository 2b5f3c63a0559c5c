"""The distance of two cores, and runs that wait until it is as it was."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

from edm_lab.calibration import steady_of, warnings
from edm_lab.compare import compare
from edm_real import steady
from edm_real.calibrate import calibrate
from edm_real.calibrate_bench import Bench, CoresMoved
from edm_real.steady import Steady, core_distance_ns
from edm_sim.costs import DEFAULT_CALIBRATION
from edm_workload import Experiment
from edm_workload.calibration import load
from tests.child import passes


def test_the_distance_of_two_cores_is_that_of_a_cache_line_and_leaves_the_thread_where_it_was():
    may = os.sched_getaffinity(0)
    found = [core_distance_ns() for _ in range(3)]
    assert os.sched_getaffinity(0) == may
    if len(may) < 2:
        assert found == [0, 0, 0]
    else:
        assert all(10 < ns < 20_000 for ns in found if ns) and any(found), found


def test_on_one_core_there_is_no_distance():
    passes(
        """
        from edm_real.steady import Steady, core_distance_ns
        core = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
        assert core_distance_ns() == 0 and os.sched_getaffinity(0) == {core}
        state = Steady()
        state.settle()
        assert state.holds() and state.distance_ns == 0
        """
    )


def distances(monkeypatch: pytest.MonkeyPatch, *ns: float) -> list[float]:
    """These are measured next, the last one for ever; what was slept meanwhile."""
    left, slept = list(ns), []
    monkeypatch.setattr(
        steady, "core_distance_ns", lambda: left.pop(0) if len(left) > 1 else left[0]
    )
    monkeypatch.setattr(steady.time, "sleep", slept.append)
    return slept


def test_it_waits_until_the_cores_are_where_they_were(monkeypatch):
    slept = distances(monkeypatch, 330, 320, 62)
    state = Steady(60)
    state.settle()
    assert state.distance_ns == 60 and state.holds() and len(slept) == 2


def test_its_patience_ends_and_the_machine_is_then_another_one(monkeypatch):
    slept = distances(monkeypatch, 330)
    state = Steady(60, patience_s=3)
    state.settle()
    assert state.distance_ns == 330 and 2 <= sum(slept) <= 3
    distances(monkeypatch, 60)
    before = len(slept)
    state.settle()
    assert state.holds() and state.distance_ns == 330 and len(slept) == before


def test_there_is_nothing_to_wait_for_when_they_are_moved_all_the_time(monkeypatch):
    slept = distances(monkeypatch, *[330, 60] * 9)
    state = Steady(60, patience_s=90)
    for _ in range(9):
        state.settle()
    assert state.restless and state.gave_up and len(slept) < 6
    known = Steady(60, restless=True)
    known.settle()
    assert known.holds() and known.gave_up


def test_what_is_held_against_a_restless_calibration_does_not_wait(monkeypatch):
    slept = distances(monkeypatch, 330, 60)
    calibration = load(DEFAULT_CALIBRATION)
    restless = {"cores_restless": True, "core_distance_ns": 60, "noisy": True}
    found = replace(calibration, metadata=calibration.metadata | restless)
    state = steady_of(found)
    state.settle()
    assert state.restless and state.holds() and not slept
    assert any("cores all the time" in line for line in warnings(found))


def test_moves_that_are_far_apart_are_waited_for(monkeypatch):
    slept = distances(monkeypatch, *[330, 60] * 9)
    state = Steady(60, patience_s=90)
    for k in range(9):
        monkeypatch.setattr(steady.time, "monotonic", lambda now=state._began + 20 * k: now)
        state.settle()
    assert not state.restless and not state.gave_up and len(slept) == 9


def test_noise_and_what_cannot_be_told_are_no_move(monkeypatch):
    for ns in (45, 110, 0):
        slept = distances(monkeypatch, ns)
        state = Steady(60)
        state.settle()
        assert state.holds() and not slept


class Moved(Steady):
    """The host moved a core during the first run; `back`: it was as before when it was looked at
    next, else it stays so."""

    def __init__(self, back: bool):
        self.distance_ns, self.back, self.looks = 60.0, back, 0

    def settle(self) -> None:
        if self.looks and not self.back:
            self.distance_ns = 330.0

    def holds(self) -> bool:
        self.looks += 1
        return self.looks > 1


@pytest.mark.uffd
def test_a_run_in_which_a_core_was_moved_is_made_again():
    with Bench(steady=Moved(back=True)) as bench:
        bench.run(refs=2000, warm=False)
        assert bench.moved == 1 and bench.steady.looks == 2


@pytest.mark.uffd
def test_a_strict_bench_does_not_take_them_as_they_are(monkeypatch):
    distances(monkeypatch, 330)
    with Bench(steady=Steady(60, patience_s=3), strict=True) as bench, pytest.raises(CoresMoved):
        bench.run(refs=2000, warm=False)


@pytest.mark.uffd
@pytest.mark.parametrize("restless", [False, True])
def test_a_calibration_begins_again_when_the_cores_have_moved(restless, monkeypatch):
    """At half of the first attempt; and they stay so for the second, or go on."""
    looks = 0

    def distance() -> float:
        nonlocal looks
        looks += 1
        return 60.0 if looks < 20 or (restless and looks % 2) else 330.0

    def measure(stores, quick, progress, bench, metadata, began):
        for _ in range(20):
            bench.run(refs=2000)
        return bench

    said: list[str] = []
    monkeypatch.setattr(steady, "core_distance_ns", distance)
    monkeypatch.setattr(steady.time, "sleep", lambda s: None)
    monkeypatch.setattr("edm_real.calibrate._calibrate", measure)
    state = calibrate(progress=said.append).steady
    assert ["again from the beginning" in line for line in said] == [True]
    assert ("all the time" in said[0]) == state.restless == state.gave_up == restless
    assert restless or state.distance_ns == 330


@pytest.mark.uffd
@pytest.mark.parametrize("back", [True, False])
def test_real_runs_that_are_compared_found_the_cores_equally_far_apart(back, monkeypatch):
    monkeypatch.setattr(sys.modules["edm_lab.compare"], "OTHERS", 99)
    experiment = Experiment().with_(trace="zipf:1.0", pages=512, refs=5000)
    moved = Moved(back)
    found = compare(experiment, 2, steady=moved)
    assert found.disturbed == 1 and len(found.real) == 2 and moved.looks == 3
    assert found.core_distance_ns == (60 if back else 330)
