"""Calibrations: the file, what the simulator draws from it, and one that is made here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edm_sim
from edm_policy import EdmError, LogBuffer, UsageError, replay
from edm_real.span_sets import Spans
from edm_real.spans import Span
from edm_sim import Costs
from edm_sim.cores import Cores, Thread
from edm_sim.costs import DEFAULT_CALIBRATION, costs_of
from edm_sim.distributions import Strata
from edm_sim.distributions import stream as random_stream
from edm_sim.references import References, Think
from edm_workload import Experiment, Trace
from edm_workload.calibration import Calibration, Speed, load, mean_ns, mean_of, strata

SMALL = {"pages": 1024, "refs": 20_000, "local": "25%"}


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return load(DEFAULT_CALIBRATION)


@pytest.fixture(scope="module")
def flat(calibration: Calibration) -> Calibration:
    """However much memory there is, and before any eviction too, all takes what was measured."""
    return replace(calibration, scales={}, fresh={})


def test_strata_keep_the_mean_and_the_tail() -> None:
    values = np.sort(random_stream(1, "test").lognormal(7, 0.8, 50_000))
    parts = strata(values, np.ones(len(values)))
    assert mean_of(parts) == pytest.approx(values.mean(), rel=1e-4)
    assert parts[-1][1] == pytest.approx(values[-50:].mean(), rel=1e-6)
    drawn = Strata.of(parts).sample(random_stream(2, "test"), 200_000)
    assert drawn.mean() == pytest.approx(values.mean(), rel=0.02)
    for q in (10, 50, 90, 99):
        assert np.percentile(drawn, q) == pytest.approx(np.percentile(values, q), rel=0.06)


def test_what_a_mark_costs_is_taken_off_each_span_before_it_is_scaled() -> None:
    values, counts = np.array([5.0, 100.0]), np.array([1, 3])
    span = Span("zero", "faulter", 1, "nobody", 4, 4, 305.0, values, counts, write=True)
    spans = Spans()
    spans.add([span], Speed(2.0), mark_ns=20.0)
    (added,) = spans.of("zero")
    assert added.sum_ns == 2 * (305 - 4 * 20) and list(added.values_ns) == [0, 160]
    found = mean_of(spans.fault("zero written", least=1)["nobody"])
    assert found == pytest.approx(120, rel=1e-4)
    assert spans.fault("zero", least=1) == {}


def test_batches_between_and_beyond_the_sizes_that_were_measured() -> None:
    sizes = [[2.0, 100.0], [10.0, 180.0], [20.0, 400.0]]
    assert [mean_ns(sizes, n) for n in (2, 6, 10, 15, 20, 30)] == [100, 140, 180, 290, 400, 620]
    assert mean_ns(sizes, 1) == 90
    assert mean_ns([[4.0, 80.0]], 8) == 160


def test_a_file_is_read_back_as_it_was(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "c.json")
    assert load(tmp_path / "c.json") == calibration
    with pytest.raises(EdmError, match="no folder"):
        calibration.save(tmp_path / "none" / "c.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "x"}, "no calibration"),
        ({"schema": 99}, "schema 99"),
        ({"cores": 0}, "cores is 0"),
        ({"think": []}, "think"),
        ({"late": [[1.0, -5.0]]}, "late"),
        ({"late": [[0.5, 5.0]]}, "shares that are not 1"),
        ({"interrupt": []}, "interrupt"),
        ({"hit": [[3.0, -1.0]]}, "hit"),
        ({"hits": []}, "hits"),
        ({"faults": {}}, "arrive"),
        ({"more": 1}, "more"),
    ],
)
def test_a_file_that_is_none_says_so_in_a_line(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    document = json.loads(DEFAULT_CALIBRATION.read_text()) | change
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    with pytest.raises(EdmError, match=said) as error:
        load(path)
    assert "\n" not in str(error.value) and "edm_real calibrate" in str(error.value)


def test_an_experiment_names_its_calibration(tmp_path: Path, calibration: Calibration) -> None:
    assert costs_of(Experiment()) == Costs() == costs_of(Experiment().with_(calibration="none"))
    assert costs_of(Experiment().with_(calibration="default")).calibration == calibration
    calibration.save(tmp_path / "c.json")
    named = Experiment().with_(calibration=str(tmp_path / "c.json"), **SMALL)
    by_name = edm_sim.run(named)
    assert by_name.elapsed_s == edm_sim.run(named, costs=Costs.of(calibration)).elapsed_s
    assert by_name.elapsed_s != edm_sim.run(named.with_(calibration="none")).elapsed_s
    with pytest.raises(UsageError, match="calibration"):
        Experiment.from_tables({"sim": {"calibration": 3}})


def test_faults_alone_take_what_was_measured(flat: Calibration) -> None:
    # Everything local: first touches and first writes, nobody beside them.
    asked = Experiment.from_options(**SMALL | {"local": "100%", "high": 1024, "trace": "uniform"})
    result = edm_sim.run(asked, costs=Costs.of(flat))
    known = {
        k: mean_of(by.get("nobody") or next(iter(by.values()))) for k, by in flat.faults.items()
    }
    _, first = np.unique(asked.trace.page, return_index=True)
    written = int(asked.trace.write[first].sum())
    read, faults, later = result.zero_fills - written, result.faults, result.extra["write_faults"]
    told = (known["decide"] + known["conclude"] + known["return"]) * faults
    told += (known["arrive"] + known["zero"]) * read
    told += (known["arrive written"] + known["zero written"]) * written
    told += (known["arrive written"] + known["protect"]) * later
    assert result.latency_us["mean"] * 1000 * faults == pytest.approx(told, rel=0.05)
    spent = result.extra["components_s"]
    assert sum(spent.values()) == pytest.approx(result.latency_us["mean"] * 1e-6 * faults, rel=1e-6)


def test_a_slower_machine_takes_longer_in_proportion(calibration: Calibration) -> None:
    asked = Experiment.from_options(**SMALL)
    one, two = (edm_sim.run(asked, costs=Costs.of(calibration, Speed(s, s))) for s in (1.0, 2.0))
    assert two.elapsed_s == pytest.approx(2 * one.elapsed_s, rel=0.15)


@pytest.mark.parametrize("faults", ["upcall", "monitor"])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("network", ["none", "nvme"])
def test_a_calibrated_run_repeats_and_replays(
    calibration: Calibration, threads: int, faults: str, network: str
) -> None:
    asked = Experiment.from_options(
        **SMALL | {"refs": 8000}, threads=threads, faults=faults, network=network
    )
    log = LogBuffer()
    costs = Costs.of(calibration)
    result = edm_sim.run(asked, costs=costs, log=log)
    assert edm_sim.run(asked, costs=costs).to_dict() == result.to_dict()
    records = log.records()
    assert replay(asked.policy_config().resolved(), records)[0] == len(records)


def test_threads_beyond_the_cores_share_them(calibration: Calibration) -> None:
    def elapsed(threads: int, cores: int) -> float:
        # All local: else LPET, of which there is one, sets the pace. And all reads: a first write
        # interrupts the other cores.
        local = {"local": "100%", "high": "100%", "writes": 0.0}
        asked = Experiment.from_options(**{**SMALL, **local}, threads=threads, cores=cores)
        return edm_sim.run(asked, costs=Costs.of(calibration)).elapsed_s

    assert elapsed(4, 1) > 2.5 * elapsed(4, 4)
    assert elapsed(4, 2) == pytest.approx(elapsed(2, 2), rel=0.2)


def test_a_thread_keeps_its_core_until_a_tick() -> None:
    from edm_sim.clock import Clock

    env = Clock(0)
    cores = Cores(env, 1, slice_ns=100)
    ran: list[tuple[int, str]] = []

    def worker(name: str):
        thread = Thread()
        yield from cores.enter(thread)
        for _ in range(4):
            ran.append((env.now, name))
            yield env.timeout(60)
            if cores.over(thread):
                yield from cores.turn(thread)
        cores.leave(thread)

    for name in "ab":
        env.process(worker(name))
    env.run()
    # Ticks at 100, 200 ...: each is noticed at the end of 60.
    assert "".join(name for _, name in ran) == "aabbabba"
    assert env.now == 480 and cores.free == 1


@pytest.mark.parametrize("written", [False, True])
def test_a_fault_that_writes_takes_what_was_measured_of_writes(
    flat: Calibration, written: bool
) -> None:
    slow = {k: {"nobody": [[1.0, 1e6]]} for k in ("arrive written", "zero written")}
    costs = Costs.of(replace(flat, faults=flat.faults | slow, near={}))
    asked = Experiment.from_options(**SMALL | {"local": "100%", "high": 1024, "trace": "uniform"})
    result = edm_sim.run(asked.with_(writes=float(written)), costs=costs)
    spent = result.extra["components_s"]
    for part in ("arrive", "install"):
        assert (spent[part] > 0.9e-3 * result.faults) == written


@pytest.mark.parametrize(("local", "fresh"), [("25%", 200), ("100%", 1024)])
def test_faults_take_what_was_measured_of_fresh_ones_until_pages_are_evicted(
    flat: Calibration, local: str, fresh: int
) -> None:
    slow = {kind: {"nobody": [[1.0, 1e6]]} for kind in ("zero", "zero written")}
    costs = Costs.of(replace(flat, fresh=slow, near={}))
    asked = Experiment.from_options(**SMALL | {"local": local, "high": fresh, "low": fresh // 2})
    result = edm_sim.run(asked.with_(trace="uniform", writes=1.0), costs=costs)
    assert result.zero_fills == 1024
    # LPET is rung for at the high watermark; until it has come, some more are touched.
    assert 0.99 * fresh < 1000 * result.extra["components_s"]["install"] < fresh + 60


@pytest.mark.parametrize("threads", [1, 2])
def test_a_handler_thread_is_near_one_thread_and_further_from_the_other(
    flat: Calibration, threads: int
) -> None:
    alone, near, far = [[1.0, 5e5]], [[1.0, 1e6]], [[1.0, 3e6]]
    ways = {"here": near, "here_next": near, "away": far, "away_next": far, "alone": alone}
    costs = Costs.of(replace(flat, monitor={"arrive": ways, "return": ways}))
    asked = Experiment.from_options(**SMALL, trace="uniform", faults="monitor", threads=threads)
    result = edm_sim.run(asked, costs=costs)
    spent = result.extra["components_s"]
    for part in ("arrive", "return"):
        each = 1000 * spent[part] / result.faults
        assert (each == pytest.approx(0.5, rel=0.05)) == (threads == 1)
        assert threads == 1 or 1.2 < each < 2.8
    assert (spent.get("turn", 0) > 0.1 * spent["arrive"]) == (threads > 1)
    # All faults of one handler: one after the other.
    assert result.elapsed_s > spent["arrive"]


def test_what_less_in_the_caches_costs_is_scaled_by_how_much_memory_there_is(
    flat: Calibration,
) -> None:
    def spent(part: str, pages: int, scales: dict[str, list[list[float]]]) -> float:
        """Per fault of a loop, in which a page is met again after as many faults as there are."""
        asked = Experiment.from_options(
            pages=pages, refs=20_000, local="25%", trace="loop:1", evict="fifo", writes=1.0
        )
        costs = Costs.of(replace(flat, scales=scales))
        return edm_sim.run(asked, costs=costs).extra["components_s"][part]

    for part, kind in (("arrive", "arrive written"), ("get", "get")):
        scales = {kind: [[64.0, 0.1], [256.0, 0.5], [1024.0, 2.0]]}
        for pages, ratio in ((256, 0.1), (1024, 0.5), (4096, 2.0)):
            # The number of faults since then is known to its bits only.
            found = spent(part, pages, scales) / spent(part, pages, {})
            assert found == pytest.approx(ratio, rel=0.02 if part == "arrive" else 0.4)


def test_a_marked_page_is_fetched_again_where_the_store_is_quick(flat: Calibration) -> None:
    # Reads only: every mark is of a clean page, whose bytes the store has once it left.
    asked = Experiment.from_options(**SMALL, trace="zipf:1.0", evict="lpet")
    slow = {kind: {"nobody": [[1.0, 1e6]]} for kind in ("get", "near")}

    def gets(store: str) -> float:
        name = store.rstrip(":")
        stores = {name: flat.stores[name] | slow}
        changed = replace(flat, stores=flat.stores | stores)
        result = edm_sim.run(asked.with_(store=store), costs=Costs.of(changed))
        assert result.rescues > 1000
        return result.extra["components_s"]["get"] * 1000 - result.fetches

    assert gets("mem:") > 100
    assert gets("file:") == pytest.approx(0, abs=1e-6)


def test_a_page_is_used_until_it_is_unmapped(calibration: Calibration) -> None:
    # LPET takes 100 us to choose a batch, and nothing for the rest: while it chooses, its pages are
    # hit, and nobody waits for them.
    def always(ns: float) -> dict[str, object]:
        steps = {"sizes": [[1.0, ns], [1000.0, ns + 1]], "spread": [[[1.0, 1.0]]] * 2}
        return {"nobody": steps}

    steps = {
        way: {kind: always(1e5 if kind == "choose" else 1.0) for kind in by}
        for way, by in calibration.steps.items()
    }
    asked = Experiment.from_options(
        **SMALL | {"local": "75%"}, trace="zipf:1.0", writes=0.0, high=400, low=300, evict="fifo"
    )
    result = edm_sim.run(asked, costs=Costs.of(replace(calibration, steps=steps)))
    assert result.extra["wakes"] > 10 and result.stalls == 0
    assert result.extra["components_s"].get("wait", 0.0) < 10e-6 * result.extra["wakes"]


def reclaim_us(calibration: Calibration, way: str, kind: str, **options: str) -> float:
    """What an eviction takes longer, by LPET or in a fault, if that step takes 1 ms a page."""

    def took_s(ns: float) -> float:
        made = {"nobody": {"sizes": [[1.0, ns]], "spread": [[[1.0, 1.0]]]}}
        steps = calibration.steps | {way: calibration.steps[way] | {kind: made}}
        asked = Experiment.from_options(**SMALL | {"refs": 5000}, evict="fifo", **options)
        result = edm_sim.run(asked, costs=Costs.of(replace(calibration, steps=steps)))
        spent = result.extra["components_s"]
        return (spent["lpet"] + spent.get("reclaim", 0.0)) / result.evictions

    return 1e6 * (took_s(1e6) - took_s(0.0))


def test_pages_in_a_row_take_what_was_measured_of_rows(calibration: Calibration) -> None:
    rows, apart = (
        [reclaim_us(calibration, way, "read", trace=trace) for way in ("placed rows", "placed")]
        for trace in ("loop", "uniform")
    )
    assert rows[0] > 4 * rows[1]
    assert apart[1] > 4 * apart[0]


@pytest.mark.parametrize("where", [{"store": "file:"}, {"network": "rdma"}])
def test_pages_that_are_put_take_what_was_measured_of_buffers(
    calibration: Calibration, where: dict[str, str]
) -> None:
    put, placed = (
        [reclaim_us(calibration, way, "choose", trace="uniform", **at) for way in ("put", "placed")]
        for at in (where, {})
    )
    assert put[0] > 500 and put[1] == 0
    assert placed[1] > 500 and placed[0] == 0


def test_a_flush_interrupts_once_however_large_the_batch(calibration: Calibration) -> None:
    def lost(batch: int) -> tuple[float, int]:
        asked = Experiment.from_options(
            **SMALL, trace="uniform", evict="fifo", batch=batch, writes=0.0, high=200, low=40
        )
        undisturbed = replace(calibration, interrupt=[[1.0, 0.0]])
        disturbed = replace(calibration, interrupt=[[1.0, 50_000.0]])
        runs = [edm_sim.run(asked, costs=Costs.of(c)) for c in (undisturbed, disturbed)]
        return runs[1].elapsed_s - runs[0].elapsed_s, runs[1].evictions

    small, large = lost(4), lost(32)
    assert small[0] / small[1] > 4 * large[0] / large[1]
    assert small[0] / small[1] == pytest.approx(50e-6 / 4, rel=0.5)


def test_hits_cost_by_what_came_between_them(calibration: Calibration) -> None:
    near, far = [[1.0, 1.0], [1e6, 1.0]], [[1.0, 1.0], [64.0, 10_000.0]]
    asked = Experiment.from_options(**SMALL, trace="zipf:1.0")
    quick, slow = (
        edm_sim.run(asked, costs=Costs.of(replace(calibration, hit=hit, hits=hit)))
        for hit in (near, far)
    )
    hits = slow.refs - slow.faults
    assert 0.2 < (slow.elapsed_s - quick.elapsed_s) / (hits * 10e-6) < 1.0


def test_a_hit_costs_more_the_more_faults_came_since() -> None:
    # 512 pages in turn. After 512 faults a page is in no cache; after 512 hits it is in some.
    trace = Trace(page=np.tile(np.arange(512, dtype=np.uint32), 4))
    by_faults, by_pages = [[1.0, 1.0], [512.0, 1000.0]], [[1.0, 1.0], [1024.0, 10.0]]
    refs = References(trace, Think(1, measured=True, by_faults=by_faults, by_pages=by_pages))

    def took_ns(gap: int) -> int:
        for _ in range(1000):
            refs.faulted(gap)
        return refs.think_ns(512, 1024)

    assert took_ns(1) == pytest.approx(512 * 1000, rel=0.01)
    assert took_ns(512) == pytest.approx(512 * 9.1, rel=0.01)
    assert took_ns(1) > took_ns(4) > took_ns(64) > took_ns(512)


def test_hits_that_follow_one_another_wait_together() -> None:
    trace = Trace(page=np.tile(np.arange(512, dtype=np.uint32), 4))
    first, following, by_pages = [[1.0, 1000.0]], [[1.0, 100.0]], [[1.0, 1.0]]

    def took_ns(gap: int, *more: list[list[float]]) -> float:
        refs = References(trace, Think(1, True, True, first, by_pages, *more))
        for _ in range(1000):
            refs.faulted(gap)
        return refs.think_ns(512, 1024) / 512

    assert took_ns(64) == took_ns(1) == took_ns(1, following) == 1000
    assert took_ns(4, following) == pytest.approx(1000 / 4 + 100 * 3 / 4)
    assert took_ns(256, following) == pytest.approx(100, rel=0.05)


def test_a_place_in_a_store_takes_longer_when_it_is_used_first(calibration: Calibration) -> None:
    asked = Experiment.from_options(**SMALL, trace="uniform", evict="fifo")

    def reclaimed_s(ns: float, **at: str) -> float:
        made = replace(calibration, first_use_ns=ns)
        spent = edm_sim.run(asked.with_(**at), costs=Costs.of(made)).extra["components_s"]
        return float(spent["lpet"] + spent.get("reclaim", 0.0))

    stored = asked.trace.page[asked.trace.write]  # a page that is only read reads as zeros again
    assert reclaimed_s(1e6) - reclaimed_s(0.0) == pytest.approx(len(set(stored)) * 1e-3, rel=0.1)
    assert reclaimed_s(1e6, store="file:") == reclaimed_s(0.0, store="file:")


def test_a_traces_times_can_be_left_out(calibration: Calibration) -> None:
    from edm_workload.trace import bundled_trace

    asked = Experiment.from_options(trace=str(bundled_trace()), refs=20_000)
    timed, left_out = (
        edm_sim.run(asked.with_(times=times), costs=Costs.of(calibration))
        for times in ("trace", "none")
    )
    assert timed.elapsed_s > 1.2 * left_out.elapsed_s
    with pytest.raises(UsageError, match="times"):
        asked.with_(times="some")


def test_stores_draw_what_was_measured_of_them(flat: Calibration) -> None:
    def mean(store: str) -> float:
        asked = Experiment.from_options(**SMALL, store=store, trace="uniform", evict="fifo")
        return edm_sim.run(asked, costs=Costs.of(flat)).latency_us["mean"]

    assert mean("file:") > mean("mem:")
    put = flat.stores["mem"]["put"]
    get = {"nobody": [[1.0, 1e6]]}
    slow = {"get": get, "near": get, "put": put, "new": put}
    changed = replace(flat, stores=flat.stores | {"mem": slow})
    asked = Experiment.from_options(**SMALL, trace="uniform", evict="fifo")
    result = edm_sim.run(asked, costs=Costs.of(changed))
    assert result.elapsed_s == pytest.approx(result.fetches * 1e-3, rel=0.1)


def test_a_store_answers_as_it_did_beside_another_thread(flat: Calibration) -> None:
    mem = flat.stores["mem"]
    beside = {"nobody": [[1.0, 1e6]], "lpet": [[1.0, 1e6]], "faulter": [[1.0, 3e6]]}
    slow = mem | {"get": beside, "near": beside}
    changed = replace(flat, stores=flat.stores | {"mem": slow})

    def get_ms(threads: int) -> float:
        asked = Experiment.from_options(**SMALL, trace="uniform", evict="fifo", threads=threads)
        result = edm_sim.run(asked, costs=Costs.of(changed))
        return result.extra["components_s"]["get"] * 1000 / result.fetches

    assert get_ms(1) == pytest.approx(1, rel=0.01)
    assert 2 < get_ms(2) < 3  # at times the other one sleeps


def test_a_write_protection_that_is_lifted_interrupts_who_else_runs(
    calibration: Calibration,
) -> None:
    # Everything local: a write to a page that was read first lifts a protection.
    local = {"local": "100%", "high": 1024, "writes": 0.5}
    asked = Experiment.from_options(**SMALL | local, trace="uniform", threads=2)

    def flush_us(ns: float) -> float:
        """Of each that is lifted."""
        costs = Costs.of(replace(calibration, write_interrupt_ns=ns, interrupt=[[1.0, 0.0]]))
        result = edm_sim.run(asked, costs=costs)
        spent = result.extra["components_s"].get("flush", 0.0)
        return 1e6 * spent / result.extra["write_faults"]

    assert flush_us(0.0) == 0
    assert 0.5 < flush_us(2000.0) <= 2
