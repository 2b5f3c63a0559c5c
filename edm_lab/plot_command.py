"""python -m edm_lab plot KIND FILE... -o OUT.png: the plots, from files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes

import edm_sim
from edm_lab import plots_faults, plots_memory, plots_rack
from edm_policy.errors import EdmError, UsageError
from edm_workload import Experiment, Trace
from edm_workload.files import picture_format, save_figure
from edm_workload.result import frame, load

INTERVALS = 300  # of a timeline


@dataclass(frozen=True)
class Kind:
    """draw(files, by) gives the Axes; takes tells what the files are."""

    takes: str
    shows: str
    draw: Callable[[list[str], str | None], Axes]


def _results(files: list[str]) -> pd.DataFrame:
    return pd.concat([_rows(file) for file in files], ignore_index=True)


def _rows(file: str) -> pd.DataFrame:
    if Path(file).suffix not in (".parquet", ".csv"):
        return frame(load(file))
    try:
        return pd.read_csv(file) if file.endswith(".csv") else pd.read_parquet(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise EdmError(f"{file}: cannot be read ({reason})") from error


def _latency(files: list[str], by: str | None) -> Axes:
    found = {}
    for file in files:
        results = load(file)
        for number, result in enumerate(results, 1):
            place = f" {number}" if len(results) > 1 else ""
            found[f"{Path(file).stem}{place}: {result.driver} {result.evict}"] = result.latency_us
    return plots_faults.plot_latency(found)


def _cdf(files: list[str], by: str | None) -> Axes:
    runs = {}
    for file in files:
        for number, point in enumerate(points := list(Experiment.grid(file)), 1):
            name = f"{point.name} {number}" if len(points) > 1 else point.name
            runs[name] = plots_faults.fault_latencies_us(edm_sim.observe(point).events)
    return plots_faults.plot_latency_cdf(runs, tail=by == "tail")


def _one(files: list[str]) -> str:
    if len(files) != 1:
        raise UsageError(f"plot: this kind takes one file, not {len(files)}")
    return files[0]


def _breakdown(files: list[str], by: str | None) -> Axes:
    experiment = Experiment.load(_one(files))
    events = edm_sim.observe(experiment).events
    return plots_faults.plot_breakdown(
        plots_faults.fault_stages(events, faults=experiment.run.faults)
    )


def _timeline(files: list[str], by: str | None) -> Axes:
    experiment = Experiment.load(_one(files))
    interval_us = max(1.0, edm_sim.run(experiment).elapsed_s * 1e6 / INTERVALS)
    series = edm_sim.observe(experiment, interval_us=interval_us).series
    assert series is not None
    return plots_rack.plot_timeline(series, experiment.sim.failures, smooth=5)


def _interference(files: list[str], by: str | None) -> Axes:
    answers = edm_sim.observe(Experiment.load(_one(files))).answers
    if answers is None or answers.empty:
        raise UsageError(f"{files[0]}: no memory unit answered anything; set emus in [sim]")
    return plots_rack.plot_interference(answers)


def _pages(files: list[str], by: str | None) -> Axes:
    return plots_memory.plot_page_heat(Trace.load(_one(files)).dense("address"))


KINDS = {
    "slowdown": Kind(
        "results or sweeps",
        "slowdown against local memory",
        lambda files, by: plots_memory.plot_slowdown(_results(files), by or "evict"),
    ),
    "mrc": Kind(
        "CSV of edm_sim mrc",
        "miss-ratio curves, with belady as MIN",
        lambda files, by: plots_memory.plot_miss_ratio(_results(files)),
    ),
    "pages": Kind("a trace", "which pages are touched when", _pages),
    "latency": Kind("results", "percentiles of the fault latency", _latency),
    "cdf": Kind("experiments", "the fault latency's distribution (--by tail: rare ones)", _cdf),
    "breakdown": Kind("an experiment", "what a fault is made of", _breakdown),
    "tail": Kind(
        "results or sweeps",
        "tail latency against load",
        lambda files, by: plots_rack.plot_tail_against_load(_results(files), by=by),
    ),
    "replicas": Kind(
        "sweeps",
        "tail latency against requests",
        lambda files, by: plots_rack.plot_replicas(_results(files), by or "p99"),
    ),
    "timeline": Kind("an experiment", "the rate while things fail", _timeline),
    "interference": Kind("an experiment", "instance x memory unit", _interference),
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    kinds = "\n".join(f"  {name:13} {k.shows}; from {k.takes}" for name, k in KINDS.items())
    parser = commands.add_parser(
        "plot",
        help="draw results, sweeps, traces, or what an experiment does in the simulator",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"KIND is one of\n{kinds}",
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.png", help="or .svg, .pdf")
    parser.add_argument(
        "--by", metavar="COLUMN", help="a line for each of its values; of replicas: a percentile"
    )
    parser.set_defaults(run=_plot)


def _plot(args: argparse.Namespace) -> int:
    matplotlib.use("Agg")
    picture_format(args.output)
    try:
        ax = KINDS[args.kind].draw(args.files, args.by)
    except KeyError as error:
        raise UsageError(f"plot {args.kind}: no column {error} in {args.files[0]}") from error
    figure = ax.get_figure(root=True)
    assert figure is not None
    save_figure(figure, args.output)
    return 0
