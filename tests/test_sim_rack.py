"""Several EMUs, several instances, replicas, failures: what must hold whatever happens."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edm_sim
from edm_policy import EdmError, UsageError
from edm_sim.costs import Costs
from edm_sim.model import Model
from edm_workload import Experiment, Result

STEADY = {"p50_us": 10.0, "p99_us": 10.0}


def experiment(**options: object) -> Experiment:
    base = {"pages": 512, "refs": 5_000, "local": "25%", "network": "rdma"}
    return Experiment.from_options(**(base | options))


def run(**options: object) -> Result:
    return edm_sim.run(experiment(**options))


def model(**options: object) -> Model:
    made = Model(experiment(**options), Costs())
    made.run()
    return made


def test_a_fetch_costs_every_hop_once() -> None:
    # Half a round trip each way on both links, DML 2 us, EMU 3 us; reads never wait.
    one = edm_sim.observe(
        experiment(
            **{"emus": 1, "network": STEADY, "emu_network": STEADY, "dml_service": 2.0},
            **{"emu_service": 3.0, "trace": "seq", "evict": "fifo", "refs": 2000},
        )
    )
    c = Costs()
    way = c.upcall_ns + c.decide_ns + c.install_ns + c.upcall_return_ns
    fetches = one.events[one.events.event == "fetch"].duration_ns
    assert fetches.min() == way + 10_000 + 10_000 + 2_000 + 3_000
    assert fetches.median() < fetches.min() + 200_000


@pytest.mark.parametrize("placement", ["hash", "least", "local", "ring"])
def test_placement_spreads_pages(placement: str) -> None:
    units = model(emus=4, placement=placement, refs=20_000, pages=4096).dms.units
    held = [len(u.pages) for u in units[1:]]
    assert len(units[0].pages) == 0
    assert min(held) > 0.4 * sum(held) / 4


def test_local_placement_sends_a_batch_to_fewer_units() -> None:
    asked = [
        run(emus=8, placement=p, trace="seq", pages=4096, refs=20_000, evict="fifo").extra
        for p in ("hash", "local")
    ]
    assert asked[1]["messages"] < asked[0]["messages"]


def test_what_fits_on_no_emu_goes_to_the_disc() -> None:
    made = model(emus=2, emu_pages=50, refs=20_000)
    held = [len(u.pages) for u in made.dms.units]
    assert held[1:] == [50, 50]
    assert held[0] > 100


def test_the_first_answer_wins_and_hedging_asks_less() -> None:
    options = {"emus": 2, "replicas": 2, "emu_service": "exp:40", "emu_servers": 64}
    options |= {"hedge_us": 60, "think_ns": 100_000, "refs": 20_000}
    seen = [edm_sim.observe(experiment(read=r, **options)) for r in ("one", "first", "hedged")]
    one, first, hedged = (s.result for s in seen)
    tails = [s.events[s.events.event == "fetch"].duration_ns.quantile(0.99) for s in seen]
    assert tails[1] < tails[0] * 0.7
    assert tails[2] < tails[0] * 0.8
    assert one.extra["unit_reads"] < hedged.extra["unit_reads"] < first.extra["unit_reads"]
    assert first.extra["unit_reads"] == 2 * first.fetches


def test_a_hedge_cuts_the_slow_unit_s_tail_at_its_time() -> None:
    slow = {"1": "lognormal:200-20000", "2": "lognormal:200-400"}
    options = {"emus": 2, "replicas": 2, "placement": "order", "emu_service": slow}
    options |= {"emu_servers": 64, "dml_service": 0, "network": "none", "hedge_us": 3000}
    options |= {"trace": "uniform", "refs": 30_000, "writes": 0.1, "deadline_ms": 5000}
    one, hedged = (edm_sim.observe(experiment(read=r, **options)) for r in ("one", "hedged"))
    p99 = [s.events[s.events.event == "fetch"].duration_ns.quantile(0.99) for s in (one, hedged)]
    assert p99[1] < 0.25 * p99[0]
    assert hedged.result.extra["hedges"] == (
        hedged.result.extra["unit_reads"] - hedged.result.fetches
    )
    # P(lognormal through 200 us and 20 ms > 3 ms) is 8.6 %.
    assert 0.07 < hedged.result.extra["hedges"] / hedged.result.fetches < 0.10


@pytest.mark.parametrize(
    ("service", "says"),
    [({"3": 1}, "no EMU 3"), ({"a": 1}, "number of an EMU"), ({"1": []}, "microseconds")],
)
def test_a_table_of_services_that_will_not_do(service: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run(emus=2, emu_service=service)


def test_two_replicas_answer_like_the_minimum_of_two_exponentials() -> None:
    seen = edm_sim.observe(
        experiment(
            **{"emus": 2, "replicas": 2, "read": "first", "emu_service": "exp:1000"},
            **{"emu_servers": 64, "network": "none", "dml_service": 0, "refs": 20_000},
            **{"trace": "uniform", "think_ns": 2_000_000, "local": 64, "evict": "fifo"},
        )
    )
    c = Costs()
    fixed = c.upcall_ns + c.decide_ns + c.install_ns + c.upcall_return_ns
    answer = (seen.events[seen.events.event == "fetch"].duration_ns - fixed) / 1000
    answer = np.sort(answer[answer < 10_000])
    assert len(answer) > 10_000
    theory = 1 - np.exp(-answer / 500)
    assert np.abs(theory - np.arange(len(answer)) / len(answer)).max() < 0.02


def test_lost_messages_are_sent_again_and_nothing_is_lost_for_good() -> None:
    lossy = run(emus=2, network={"p50_us": 5, "p99_us": 20, "loss": 0.05})
    assert lossy.extra["messages_lost"] > 50
    assert lossy.extra["retries_sent"] >= 50
    assert lossy.extra["poisoned"] == lossy.store_errors == 0


def test_a_partition_past_the_deadline_poisons_and_keeps() -> None:
    failures = [{"kind": "partition", "instance": 0, "at_ms": 10, "for_ms": 200}]
    result = run(emus=1, failures=failures, deadline_ms=20, refs=20_000)
    assert result.extra["poisoned"] > 0
    assert result.store_errors > result.extra["poisoned"]  # write-backs failed too, and stayed
    assert result.extra["lost_pages"] == 0


def test_a_stall_is_waited_out() -> None:
    failures = [{"kind": "stall", "unit": 1, "at_ms": 10, "for_ms": 30}]
    result = run(emus=1, failures=failures, refs=20_000)
    assert 29_000 < result.latency_us["max"] < 32_000
    assert result.store_errors == 0


def test_a_crash_loses_what_only_that_unit_held() -> None:
    crash = {"kind": "crash", "unit": 1, "at_ms": 20, "for_ms": 5}
    forgets = run(emus=2, failures=[crash], refs=20_000)
    keeps = run(emus=2, failures=[{**crash, "keep": True}], refs=20_000)
    copied = run(emus=2, replicas=2, failures=[crash], refs=20_000)
    assert forgets.extra["lost_pages"] > 0
    assert 0 < forgets.extra["poisoned"] <= forgets.extra["lost_pages"]
    assert keeps.extra["lost_pages"] == copied.extra["lost_pages"] == 0
    assert keeps.extra["poisoned"] == copied.extra["poisoned"] == 0


def test_a_spot_instance_with_time_to_flush_loses_nothing() -> None:
    def taken_back(notice_ms: float) -> Result:
        spot = {"kind": "spot", "instance": 0, "at_ms": 20, "notice_ms": notice_ms, "away_ms": 3}
        return run(emus=2, refs=20_000, failures=[spot])

    enough, short = taken_back(120_000), taken_back(0.05)
    assert enough.extra["lost_pages"] == enough.extra["poisoned"] == 0
    assert short.extra["lost_pages"] > 0
    plain = run(emus=2, refs=20_000)
    assert enough.elapsed_s > plain.elapsed_s + 0.003
    assert enough.fetches > plain.fetches  # the new machine starts cold


def test_a_page_is_handed_from_one_instance_to_another() -> None:
    seen = edm_sim.observe(
        experiment(instances=2, shared=True, emus=1, pages=64, local=64, high=64)
    )
    handed = seen.events[seen.events.event == "hand_over"]
    assert (handed.instance.value_counts() > 50).tolist() == [True, True]
    assert seen.result.extra["hand_overs"] >= len(handed)


@settings(max_examples=25, deadline=None)
@given(
    instances=st.integers(1, 3),
    shared=st.booleans(),
    threads=st.integers(1, 3),
    emus=st.integers(0, 3),
    emu_pages=st.sampled_from([0, 40]),
    replicas=st.integers(1, 2),
    read=st.sampled_from(["one", "first", "hedged"]),
    placement=st.sampled_from(["hash", "least", "local"]),
    loss=st.sampled_from([0.0, 0.02]),
    gbit=st.sampled_from([0.0, 10.0]),
    faults=st.sampled_from(["upcall", "monitor"]),
    cores=st.integers(0, 2),
    kinds=st.lists(st.sampled_from(["crash", "slow", "stall", "partition", "spot"]), max_size=3),
    seed=st.integers(0, 1000),
)
def test_every_page_has_one_owner_or_a_copy_whatever_fails(
    loss: float, gbit: float, kinds: list[str], replicas: int, emus: int, **options: object
) -> None:
    # Model.run() checks it, with the pagers' own check, at the end of every run.
    failures: list[dict[str, object]] = []
    for k, kind in enumerate(kinds):
        failure: dict[str, object] = {"kind": kind, "at_ms": 1 + 2 * k}
        if kind == "spot":
            failure |= {"instance": 0, "notice_ms": 1, "away_ms": 1}
        else:
            failure |= {"unit": emus, "for_ms": 3}
        failures.append(failure)
    result = run(
        refs=1500,
        pages=200,
        emus=emus,
        replicas=min(replicas, max(1, emus)),
        failures=failures,
        network={"p50_us": 5, "p99_us": 20, "loss": loss, "gbit": gbit},
        retry_us=200.0,
        **options,
    )
    assert result.elapsed_s > 0
    if not kinds and not loss:
        assert result.store_errors == result.extra.get("messages_lost", 0) == 0


def test_events_and_series_tell_the_same_story_twice() -> None:
    options = {"instances": 2, "emus": 2, "threads": 2}
    one = edm_sim.observe(experiment(**options), interval_us=100)
    two = edm_sim.observe(experiment(**options), interval_us=100)
    pd.testing.assert_frame_equal(one.events, two.events)
    assert one.series is not None and two.series is not None
    pd.testing.assert_frame_equal(one.series, two.series)
    assert one.result.to_dict() == two.result.to_dict() == run(**options).to_dict()
    faults = one.events[one.events.thread >= 0]
    assert (faults.event == "fetch").sum() == one.result.fetches
    assert one.series.faults.sum() == one.result.faults
    assert one.series.resident.max() <= 2 * one.result.limit


def test_cores_are_shared_by_the_threads() -> None:
    options = {"threads": 4, "local": "100%", "high": "100%", "network": "none", "refs": 50_000}
    options["think_ns"] = 1000  # and LPET, which would want a fifth, never works
    one, two, four = (run(cores=n, **options).elapsed_s for n in (1, 2, 4))
    assert one == pytest.approx(2 * two, rel=0.1)
    assert two == pytest.approx(2 * four, rel=0.1)
    assert four == run(**options).elapsed_s


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"emus": 1, "replicas": 2}, "replicas"),
        ({"emus": 1, "failures": [{"kind": "crash", "unit": 2, "at_ms": 1}]}, "no unit 2"),
        ({"emus": 1, "lockstep": True}, "lockstep"),
        ({"dms": True, "dml_service": "exp"}, "dml_service"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run(**options)


@pytest.mark.parametrize(
    "options",
    [{"placement": "hasch"}, {"emus": -1}, {"failures": [{"kind": "crush", "at_ms": 1}]}],
)
def test_a_knob_that_is_wrong_is_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        experiment(**options)


def test_a_broken_invariant_names_the_seed() -> None:
    made = Model(experiment(emus=1, seed=17), Costs())
    made.env.run()
    made.dms.units[1].pages.clear()
    with pytest.raises(EdmError, match=r"not on unit 1 .*--seed 17"):
        made.run()
