"""The clock's short cuts change nothing but the number of SimPy's events."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import simpy

import edm_sim.model
from edm_sim import Costs, observe
from edm_sim.clock import Clock
from edm_workload import Experiment

ROOT = Path(__file__).resolve().parents[1]


class Plain(simpy.Environment):
    """SimPy as it comes."""

    def skip(self, ns: int) -> bool:
        return False


def experiments() -> dict[str, Experiment]:
    base = Experiment.from_options(pages=1024, refs=10_000)
    found = {
        "one thread": base,
        "threads": base.with_(threads=4, cores=2, network="rdma"),
        "monitor": base.with_(faults="monitor", threads=3),
        "prefetch": base.with_(prefetch="leap", network="tcp-az"),
    }
    for path in (ROOT / "experiments").glob("*.toml"):
        found[path.stem] = Experiment.load(path).with_(refs=2_000)
    return found


@pytest.mark.parametrize("name", experiments())
def test_every_event_is_as_with_simpys_own_clock(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiments()[name]
    fast = observe(experiment, interval_us=500)
    monkeypatch.setattr(edm_sim.model, "Clock", Plain)
    plain = observe(experiment, interval_us=500)
    assert fast.result == plain.result
    pd.testing.assert_frame_equal(fast.events, plain.events, check_exact=True)
    assert fast.series is not None and plain.series is not None
    pd.testing.assert_frame_equal(fast.series, plain.series, check_exact=True)


Log = list[tuple[str, int]]


def sleeper(clock: Clock, log: Log, name: str, ns: int) -> Generator[Any, Any, None]:
    if clock.skip(ns):
        log.append((f"{name} skipped", clock.now))
    else:
        yield clock.timeout(ns)
        log.append((f"{name} slept", clock.now))


def test_the_clock_is_not_moved_past_or_onto_what_others_do() -> None:
    clock, log = Clock(0), list[tuple[str, int]]()
    clock.process(sleeper(clock, log, "a", 10))
    clock.process(sleeper(clock, log, "b", 10))
    clock.run()
    assert log == [("a slept", 10), ("b slept", 10)]
    clock.process(sleeper(clock, log, "c", 5))
    clock.run()
    assert log[2:] == [("c skipped", 15)]


def test_the_clock_stays_while_another_process_waits_for_the_same_event() -> None:
    clock, log = Clock(0), list[tuple[str, int]]()
    gate = clock.timeout(7)

    def after(name: str, ns: int) -> Generator[Any, Any, None]:
        yield gate
        yield from sleeper(clock, log, name, ns)

    clock.process(after("a", 100))
    clock.process(after("b", 1))
    clock.run()
    assert log == [("b slept", 8), ("a slept", 107)]


def test_nothing_is_skipped_when_a_run_has_an_end() -> None:
    clock, log = Clock(0), list[tuple[str, int]]()
    clock.process(sleeper(clock, log, "a", 10))
    clock.run(until=4)
    assert (clock.now, log) == (4, [])


def test_a_process_that_fails_ends_the_run_with_its_error() -> None:
    clock = Clock(0)

    def fails() -> Generator[Any, Any, None]:
        yield clock.timeout(3)
        raise AssertionError("broken")

    clock.process(fails())
    with pytest.raises(AssertionError, match="broken"):
        clock.run()
    with pytest.raises(ValueError, match="Negative"):
        clock.timeout(-1)


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 0.3), ({"threads": 8, "dms": True, "network": "rdma"}, 3.8)],
)
def test_simpy_events_a_fault(options: dict[str, Any], most: float) -> None:
    experiment = Experiment.from_options(pages=4096, refs=50_000, **options)
    model = edm_sim.model.Model(experiment, Costs())
    model.run()
    faults = model.instances[0].pager.stats()["faults"]
    scheduled = next(model.env._eid)  # SimPy numbers its events
    assert scheduled / faults < most
