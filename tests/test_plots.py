"""Plots: labels with units, and the data drawn is the data given."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import edm_lab
import edm_sim
from edm_lab import __main__ as command_line
from edm_policy import UsageError
from edm_sim import Costs
from edm_workload import Experiment, Trace, synth
from edm_workload.result import save

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def lines(ax: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for line in ax.get_lines()
    }


def legend(ax: Axes) -> list[str]:
    shown = ax.get_legend()
    assert shown is not None
    return [text.get_text() for text in shown.get_texts()]


def results() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "evict": ["lpet", "lpet", "lpet", "belady", "belady"],
            "limit": [25, 50, 100, 25, 50],
            "pages": 100,
            "elapsed_s": [4.0, 3.0, 2.0, 3.0, 2.5],
            "faults_per_s": [1000.0, 3000.0, 2000.0, 500.0, 700.0],
            "latency_us_p50": [1.0, 2.0, 3.0, 4.0, 5.0],
            "latency_us_p99": [10.0, 20.0, 30.0, 40.0, 50.0],
        }
    )


def test_slowdown_is_against_all_local_with_the_ideal_line() -> None:
    ax = edm_lab.plot_slowdown(results())
    drawn = lines(ax)
    assert drawn["lpet"] == ([25, 50, 100], [2.0, 1.5, 1.0])
    assert drawn["MIN (belady)"] == ([25, 50], [1.5, 1.25])
    assert drawn["ideal: all local"][1] == [1, 1]
    assert "%" in ax.get_xlabel() and "slowdown" in ax.get_ylabel()


def test_slowdown_without_an_all_local_run_is_refused() -> None:
    with pytest.raises(UsageError, match="100%"):
        edm_lab.plot_slowdown(results().query("limit < pages"))


def test_miss_ratio_draws_every_size_and_belady_as_min() -> None:
    curves = pd.DataFrame(
        {
            "evict": ["lru", "lru", "belady", "belady"],
            "size": [20, 10, 10, 20],
            "miss_ratio": [0.2, 0.4, 0.3, 0.1],
        }
    )
    ax = edm_lab.plot_miss_ratio(curves)
    drawn = lines(ax)
    assert drawn == {"lru": ([10, 20], [0.4, 0.2]), "MIN (belady)": ([10, 20], [0.3, 0.1])}
    assert legend(ax) == list(drawn)
    assert "pages" in ax.get_xlabel()


def test_heat_map_counts_every_reference_once() -> None:
    trace = Trace(page=[0, 0, 5, 9, 9, 9], hits=[0, 4, 0, 0, 0, 1])
    counts, a_row, a_column = edm_lab.page_heat(trace, columns=3, rows=5)
    assert (a_row, a_column) == (2, 2)
    assert counts.tolist() == [[6, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 3]]
    ax = edm_lab.plot_page_heat(trace)
    assert ax.get_images()[0].get_array().sum() == trace.references
    assert "page" in ax.get_ylabel() and "record" in ax.get_xlabel()


def test_latency_cdf_is_the_distribution() -> None:
    latencies = [2.0, 1.0, 1.0, 5.0]
    ax = edm_lab.plot_latency_cdf({"a": latencies})
    assert lines(ax)["a"] == ([1.0, 2.0, 5.0], [0.5, 0.75, 1.0])
    tail = edm_lab.plot_latency_cdf({"a": latencies}, tail=True)
    assert lines(tail)["a"] == ([1.0, 2.0], [0.5, 0.25])
    assert "µs" in ax.get_xlabel() and tail.get_yscale() == "log"


def test_latency_cdf_of_many_values_keeps_its_shape() -> None:
    values = np.random.default_rng(1).exponential(10, 100_000)
    x, y = lines(edm_lab.plot_latency_cdf({"a": values}))["a"]
    assert len(x) <= 5_000 and x[-1] == values.max() and y[-1] == 1
    assert np.abs(np.searchsorted(np.sort(values), x, "right") / len(values) - y).max() < 1e-12


def test_stages_add_up_to_the_mean_fault() -> None:
    experiment = Experiment.from_options(pages=512, refs=5000, network="rdma")
    events = edm_sim.observe(experiment).events
    stages = edm_lab.fault_stages(events)
    means = events.groupby("event")["duration_ns"].mean() / 1000
    assert np.allclose(stages.sum(axis=1), means[stages.index])
    c = Costs()
    assert stages.loc["fetch", "install"] == c.install_ns / 1000
    assert stages.loc["fetch", "waiting"] > 3 > 0.5 > stages.loc["allow_write", "waiting"]
    ax = edm_lab.plot_breakdown(stages)
    assert legend(ax) == list(stages)
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[-1]]
    assert np.allclose(ends, stages.sum(axis=1))
    assert "µs" in ax.get_xlabel()


def test_tail_against_load_sorts_by_load() -> None:
    ax = edm_lab.plot_tail_against_load(results(), by="evict", percentiles=("p50", "p99"))
    drawn = lines(ax)
    assert drawn["lpet p99"] == ([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    assert set(drawn) == {"lpet p50", "lpet p99", "belady p50", "belady p99"}
    assert "thousand faults/s" in ax.get_xlabel() and "µs" in ax.get_ylabel()


def test_replicas_show_requests_against_the_tail() -> None:
    rows = pd.DataFrame(
        {
            "replicas": 2,
            "read": ["one", "hedged", "hedged"],
            "hedge_us": [50, 10, 40],
            "fetches": 100,
            "unit_reads": [100, 180, 120],
            "latency_us_p99": [80.0, 40.0, 60.0],
        }
    )
    ax = edm_lab.plot_replicas(rows)
    assert lines(ax) == {
        "2 replicas, read one": ([1.0], [80.0]),
        "2 replicas, read hedged": ([1.2, 1.8], [60.0, 40.0]),
    }
    assert [t.get_text().strip() for t in ax.texts] == ["after 40 µs", "after 10 µs"]
    assert "requests" in ax.get_xlabel() and "µs" in ax.get_ylabel()


def test_timeline_draws_rates_and_shades_failures() -> None:
    series = pd.DataFrame({"t_ns": [2_000_000, 4_000_000, 5_000_000], "refs": [20, 0, 5]})
    failures = [{"kind": "crash", "unit": 3, "at_ms": 2, "for_ms": 1.5}]
    ax = edm_lab.plot_timeline(series, failures, columns=("refs",))
    assert lines(ax)["references"] == ([2.0, 4.0, 5.0], [10.0, 0.0, 5.0])
    assert [t.get_text().strip() for t in ax.texts] == ["crash EMU 3"]
    box = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert np.allclose([box.x0, box.x1], [2, 3.5])
    assert "ms" in ax.get_xlabel() and "per ms" in ax.get_ylabel()


def test_the_racks_timeline_shows_the_dip_and_the_recovery() -> None:
    experiment = Experiment.load(ROOT / "experiments" / "rack-with-failures.toml")
    assert (experiment.sim.instances, experiment.sim.emus) == (32, 8)
    series = edm_sim.observe(experiment, interval_us=1000).series
    assert series is not None
    ax = edm_lab.plot_timeline(series, experiment.sim.failures)
    t, rate = (np.array(values) for values in lines(ax)["references"])
    stall = next(f for f in experiment.sim.failures if f["kind"] == "stall")
    begin, end = stall["at_ms"], stall["at_ms"] + stall["for_ms"]
    before = rate[(t > 10) & (t < 30)].mean()
    during = rate[(t > begin + 15) & (t < end)].mean()
    after = rate[(t > end + 5) & (t < end + 40)].mean()
    assert during < 0.1 * before and after > 0.4 * before


def test_interference_is_instance_by_unit() -> None:
    answers = pd.DataFrame(
        {"instance": [0, 0, 1], "unit": ["EMU_1", "EMU_2", "EMU_1"], "mean_us": [1.0, 2.0, 3.0]}
    )
    ax = edm_lab.plot_interference(answers)
    cells = ax.get_images()[0].get_array()
    assert cells.filled(-1).tolist() == [[1.0, 2.0], [3.0, -1.0]]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["EMU 1", "EMU 2"]
    assert sorted(t.get_text() for t in ax.texts) == ["1", "2", "3"]
    assert "µs" in ax.get_figure().axes[1].get_ylabel()


def test_answers_count_every_read_of_a_memory_unit() -> None:
    experiment = Experiment.from_options(pages=512, refs=3000, emus=3, instances=2)
    seen = edm_sim.observe(experiment)
    assert seen.answers is not None
    assert seen.answers["requests"].sum() == seen.result.extra["unit_reads"]
    assert set(seen.answers["instance"]) == {0, 1}
    slow = edm_sim.observe(experiment.with_(emu_service=20.0)).answers
    assert slow is not None and seen.answers["mean_us"].min() >= 1 and slow["mean_us"].min() >= 20


def plot(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["edm_lab", "plot", *map(str, words)])
    return command_line.main()


EXPERIMENT = """
[memory]
region = "1MiB"
local = "25%"
[workload]
refs = 2_000
[sim]
instances = 2
emus = 2
failures = [{ kind = "crash", unit = 1, at_ms = 1, for_ms = 1 }]
"""


@pytest.mark.parametrize("kind", ["cdf", "breakdown", "timeline", "interference"])
def test_the_command_draws_what_an_experiment_does(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    assert plot(monkeypatch, kind, tmp_path / "e.toml", "-o", tmp_path / "o.png") == 0
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_draws_results_sweeps_curves_and_traces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Experiment.from_options(pages=256, refs=1000, emus=1)
    runs = [edm_sim.run(base.with_(local=local)) for local in ("50%", "100%")]
    save(tmp_path / "r.json", runs)
    with ThreadPoolExecutor(1) as thread:
        edm_sim.sweep([base], executor=thread).frame.to_parquet(tmp_path / "s.parquet")
    base.trace.save(tmp_path / "t.parquet")
    edm_sim.miss_ratio_curve(base.trace).to_csv(tmp_path / "m.csv", index=False)
    for kind, *files in (
        ("slowdown", "r.json", "s.parquet"),
        ("latency", "r.json"),
        ("tail", "r.json", "s.parquet"),
        ("replicas", "s.parquet"),
        ("mrc", "m.csv"),
        ("pages", "t.parquet"),
    ):
        out = tmp_path / f"{kind}.svg"
        assert plot(monkeypatch, kind, *(tmp_path / f for f in files), "-o", out) == 0
        assert "<svg" in out.read_text()


def test_the_command_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    for words in (
        ("mrc", tmp_path / "m.csv", "-o", tmp_path / "o.png"),
        ("mrc", tmp_path / "m.csv", "-o", tmp_path / "o.doc"),
        ("timeline", tmp_path / "m.csv", tmp_path / "m.csv", "-o", tmp_path / "o.png"),
    ):
        assert plot(monkeypatch, *words) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert plot(monkeypatch, "mrc", tmp_path / "none.csv", "-o", tmp_path / "o.png") == 1


def test_least_local_is_the_smallest_share_within_the_bound() -> None:
    data = pd.concat([results(), results().assign(evict="slow", elapsed_s=[9.0, 9, 9, 9, 9])])
    data.loc[data["limit"] == 100, "elapsed_s"] = 2.0
    assert edm_lab.least_local(data, 1.5).to_dict() == pytest.approx(
        {"lpet": 0.5, "belady": 0.25, "slow": 1.0}
    )


def test_observation_costs_are_misses_over_those_with_every_access() -> None:
    trace = synth("zipf:1.0", pages=500, refs=20_000, seed=1)
    costs = edm_lab.observation_cost(trace, ["lru", "sieve", "fifo"], "20%")
    seen = set(zip(costs["evict"], costs["observe"], strict=True))
    assert seen == {
        *(("lru", o) for o in ("exact", "idle")),
        *(("sieve", o) for o in ("exact", "idle", "faults")),
        ("fifo", "exact"),
        ("belady", "exact"),
    }
    by = costs.set_index(["evict", "observe"])
    assert by.loc[("sieve", "faults"), "misses"] == by.loc[("fifo", "exact"), "misses"]
    cost = by.loc[("sieve", "idle"), "misses"] / by.loc[("sieve", "exact"), "misses"]
    assert by.loc[("sieve", "idle"), "cost"] == cost > 1
    ax = edm_lab.plot_observation(costs)
    widths = [bar.get_width() for group in ax.containers for bar in group]
    assert sorted(widths) == sorted(costs[costs["evict"] != "belady"]["miss_ratio"])
    assert legend(ax) == ["MIN (belady)", "every access", "idle marks", "faults only"]


def test_arrays_are_drawn_with_their_slowdown() -> None:
    runs = pd.DataFrame(
        {"plain_s": [0.1, 1.0], "paged_s": [1.0, 3.0], "slowdown": [10.0, 3.0]}, index=["a", "b"]
    )
    ax = edm_lab.plot_arrays(runs)
    widths = [[bar.get_width() for bar in group] for group in ax.containers]
    assert widths == [[0.1, 1.0], [1.0, 3.0]]
    assert [t.get_text().strip() for t in ax.texts] == ["10 x", "3 x"]
    assert ax.get_xlabel() == "time, s" and legend(ax) == ["all in memory", "paged"]
