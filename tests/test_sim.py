"""The simulator against arithmetic: time, counts, contracts, reproducibility."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edm_sim
from edm_policy import LogBuffer, PolicyConfig, UsageError, load_log, replay
from edm_sim.costs import Costs, store_costs
from edm_sim.model import Model
from edm_workload import Experiment, Trace


def experiment(**options: object) -> Experiment:
    base = {"pages": 1024, "refs": 20_000, "local": "25%"}
    return Experiment.from_options(**(base | options))


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


@pytest.mark.parametrize("mode", ["upcall", "monitor"])
def test_elapsed_is_think_time_and_the_faults_costs_to_the_nanosecond(mode: str) -> None:
    # Everything local: no eviction, so every fault is the first touch of a page, or, as a
    # page read first is write-protected, its first write.
    result = edm_sim.run(experiment(local="100%", high=1024, faults=mode, trace="uniform"))
    c = Costs()
    way = {
        "upcall": c.upcall_ns + c.upcall_return_ns,
        "monitor": c.monitor_ns + c.monitor_return_ns,
    }[mode]
    faults = result.zero_fills + result.extra["write_faults"]
    expected = (
        result.refs * c.think_ns
        + faults * (way + c.decide_ns)
        + result.zero_fills * c.zero_ns
        + result.extra["write_faults"] * c.allow_write_ns
    )
    assert result.faults == faults > 1000
    assert ns(result.elapsed_s) == expected


def test_a_fetch_costs_the_store_and_the_network_on_top() -> None:
    # Two pages in turn, room for one; reads only, so nothing is written back after the
    # adoption below, and LPET works while the thread is in its next fault.
    free = {f: 0 for f in Costs.__dataclass_fields__ if f.endswith("_ns") and f != "think_ns"}
    network = {"p50_us": 10.0, "p99_us": 10.0}
    result = edm_sim.run(
        experiment(
            pages=64,
            local=8,
            low=6,
            high=7,
            trace="seq",
            refs=640,
            writes=1.0,
            network=network,
            evict="fifo",
        ),
        costs=Costs(**free),
    )
    trip = 10_000 + store_costs("mem:").get_ns
    assert result.fetches == 640 - 64
    assert ns(result.latency_us["p50"] * 1e-6) == trip
    assert ns(result.elapsed_s) >= 640 * Costs().think_ns + result.fetches * trip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threads": 4, "network": "rdma"},
        {"faults": "monitor", "threads": 3, "evict": "fifo"},
        {"lockstep": True, "evict": "random"},
    ],
)
def test_the_same_seed_gives_the_same_result(options: dict[str, object]) -> None:
    first = edm_sim.run(experiment(**options))
    assert first.to_dict() == edm_sim.run(experiment(**options)).to_dict()
    other = edm_sim.run(experiment(**options, seed=2)).to_dict()
    assert first.to_dict() != other | {"seed": 1}


@pytest.mark.parametrize("evict", ["lpet", "fifo", "lru", "random"])
@pytest.mark.parametrize("trace", ["zipf:1.0", "loop", "phases"])
def test_a_lockstep_log_replays(tmp_path: Path, evict: str, trace: str) -> None:
    path = tmp_path / "run.log"
    result = edm_sim.run(experiment(evict=evict, trace=trace, lockstep=True), log=path)
    config, records, head = load_log(path)
    assert head["driver"] == "sim"
    assert result.evictions > 100
    assert replay(config, records)[0] == len(records)


@settings(max_examples=30, deadline=None)
@given(
    evict=st.sampled_from(["lpet", "fifo", "lru", "random"]),
    observe=st.sampled_from(["auto", "idle", "exact"]),
    trace=st.sampled_from(["uniform", "zipf:0.8", "seq", "loop", "phases"]),
    threads=st.integers(1, 6),
    faults=st.sampled_from(["upcall", "monitor"]),
    local=st.integers(8, 200),
    batch=st.integers(1, 128),
    network=st.sampled_from(["none", "rdma", "tcp-az"]),
    seed=st.integers(0, 1000),
)
def test_a_free_run_replays_and_never_exceeds_its_limit(**options: object) -> None:
    log = LogBuffer()
    config = experiment(pages=300, refs=3000, **options)
    result = edm_sim.run(config, log=log)
    records = log.records()
    policy = config.policy_config().resolved()
    assert replay(policy, records)[0] == len(records)
    assert resident_peak(records, policy) <= policy.limit
    assert result.evictions == result.writebacks + result.clean_drops
    assert result.faults == (
        result.zero_fills + result.fetches + result.rescues + result.extra["write_faults"]
    )


def resident_peak(records: np.ndarray, config: PolicyConfig) -> int:
    """Most pages in the LSPT at any time, told from the log alone."""
    from edm_policy.pager import EVENTS, OPS

    enters = {"ZERO_FILL", "FETCH", "PREFETCH"}
    resident: set[int] = set()
    leaving: set[int] = set()
    peak = 0
    for page, kind in zip(records["page"].tolist(), records["kind"].tolist(), strict=True):
        name = OPS[kind & 0x7F] if kind & 0x80 else EVENTS[kind]
        if kind & 0x80 and name in enters:
            resident.add(page)
            peak = max(peak, len(resident))
        elif kind & 0x80 and name == "EVICT":
            leaving.add(page)
        elif kind & 0x80 and name == "RESCUE":
            leaving.discard(page)
        elif name == "STORED" and page in leaving:
            leaving.discard(page)
            resident.discard(page)
    return peak


def test_threads_share_the_work_and_the_memory() -> None:
    one = edm_sim.run(experiment(network="tcp-az", refs=100_000))
    four = edm_sim.run(experiment(network="tcp-az", refs=100_000, threads=4))
    assert four.refs == one.refs
    assert four.elapsed_s < one.elapsed_s / 2


def test_a_thread_waits_for_a_page_that_another_one_fetches() -> None:
    page = np.zeros(2, np.uint32)
    both = Experiment.from_options(pages=1, local=1, low=0, high=1, threads=2)
    both.__dict__["trace"] = Trace(page, np.ones(2, bool), tid=np.array([0, 1]))
    result = edm_sim.run(both)
    assert (result.zero_fills, result.extra["waits"]) == (1, 1)


def test_the_trace_times_are_the_think_times() -> None:
    times = np.arange(1000, dtype=np.uint64) * 1_000_000
    with_times = experiment(pages=4, local=4, high=4, low=1)
    with_times.__dict__["trace"] = Trace(np.arange(1000) % 4, t_ns=times)
    assert edm_sim.run(with_times).elapsed_s == pytest.approx(0.999, rel=1e-3)


def test_lockstep_with_threads_is_refused() -> None:
    with pytest.raises(UsageError, match="lockstep runs one thread"):
        edm_sim.run(experiment(threads=2, lockstep=True))


def test_costs_must_be_whole_nanoseconds() -> None:
    with pytest.raises(UsageError, match="install_ns"):
        replace(Costs(), install_ns=-1)


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 2.3), ({"network": "rdma"}, 2.3), ({"threads": 8, "dms": True, "network": "rdma"}, 5.0)],
)
def test_a_fault_takes_few_simpy_events(options: dict[str, object], most: float) -> None:
    model = Model(experiment(refs=100_000, pages=16384, **options), Costs())
    steps = 0
    while model.env.peek() != float("inf"):
        model.env.step()
        steps += 1
    assert steps / sum(i.pager.stats()["faults"] for i in model.instances) < most


def test_a_policy_that_finds_no_victim_is_asked_again() -> None:
    options = {"trace": "zipf:1.0", "pages": 600, "refs": 4000, "local": "25%"}
    result = edm_sim.run(Experiment.from_options(evict="mine:Shy", **options))
    assert result.evictions > 500
