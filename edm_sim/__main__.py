"""python -m edm_sim run EXPERIMENT.toml | mrc TRACE | sweep EXPERIMENT.toml"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from edm_sim import sweep_command
from edm_sim.mrc import DEFAULT_SIZES, miss_ratio_curve
from edm_sim.run import run
from edm_workload import trace_from
from edm_workload.cli import (
    Parser,
    add_common_options,
    count,
    experiment_from_args,
    files_to_write,
    note_caveats,
    run_cli,
)
from edm_workload.files import picture_format, save_figure, whole
from edm_workload.metadata import collect
from edm_workload.result import print_table, rows_table, save, table_console
from edm_workload.units import parse_pages

COLUMNS = (
    *("workload", "evict", "observe", "store", "faults_mode", "threads", "limit", "refs"),
    *("faults", "fetches", "evictions", "writebacks", "elapsed_s", "latency_us_mean"),
    *("latency_us_p50", "latency_us_p99", "latency_us_max"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: parses, runs, returns the exit code."""
    parser = Parser(
        prog="python -m edm_sim", description="Simulate paging: the same policy as real memory."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_mrc(commands)
    sweep_command.add(commands)
    args = parser.parse_args(argv)
    return run_cli(lambda: args.command(args), files_to_write(args))


def _add_run(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("run", help="one experiment, in simulated time")
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT.toml")
    add_common_options(parser)
    parser.add_argument("--log", metavar="FILE", help="save the decision log")
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> None:
    metadata = collect()
    experiment = experiment_from_args(args)
    result = run(experiment, log=args.log)
    note_caveats([experiment])
    costs = experiment.sim.calibration or "the cost table"
    if args.output:
        save(args.output, [result], metadata)
    print_table([result], COLUMNS, title=f"simulated, costs: {costs}")


def _add_mrc(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("mrc", help="miss ratio over cache size, as a classical cache")
    parser.add_argument("trace", metavar="TRACE", help="a trace file, or zipf:1.0 ...")
    parser.add_argument("--evict", default="lru", metavar="A,B", help="evictors, or all (lru)")
    sizes = ",".join(DEFAULT_SIZES).replace("%", "%%")
    parser.add_argument("--size", metavar="1%,64MiB,500", help=f"cache sizes ({sizes})")
    parser.add_argument("--pages", default="64MiB", metavar="SIZE", help="region of a SYNTH")
    parser.add_argument("--refs", type=int, metavar="N", help="references (1,000,000 of a SYNTH)")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=count, default=2, metavar="N", help="threads (2)")
    parser.add_argument(
        "--observe", default="exact", metavar="WHAT", help="exact, idle, faults or auto (exact)"
    )
    extra = parser.add_mutually_exclusive_group()
    extra.add_argument(
        "--bounds",
        action="store_true",
        help="add the optimum, how much of the gap from lru to it is closed, and write-backs",
    )
    extra.add_argument(
        "--sampled",
        type=float,
        metavar="RATE",
        help="estimate from this part of the pages (0.1), and add the standard error",
    )
    parser.add_argument("-o", "--output", metavar="OUT.csv")
    parser.add_argument("--plot", metavar="OUT.png", help="draw the curves")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(command=_mrc)


def _mrc(args: argparse.Namespace) -> None:
    if args.plot:
        picture_format(args.plot)
    trace = trace_from(args.trace, parse_pages(args.pages, what="pages"), args.refs, args.seed)
    live = not args.quiet and sys.stderr.isatty()
    names = args.evict.split(",")
    sizes = args.size.split(",") if args.size else DEFAULT_SIZES
    done = 0

    def progress(point: str) -> None:
        nonlocal done
        done += 1
        print(f"\r{done} points, {point}\033[K", end="", file=sys.stderr)

    curve = miss_ratio_curve(
        trace,
        names,
        sizes,
        args.jobs,
        args.seed,
        progress if live else None,
        observe=args.observe,
        bounds=args.bounds,
        sampled=args.sampled,
    )
    if live:
        print("\r\033[K", end="", file=sys.stderr)
    if args.output:
        _write(args.output, curve)
    if args.plot:
        _plot(args.plot, curve, trace.name)
    rows = curve.to_dict("records")
    table_console().print(rows_table([{str(k): v for k, v in row.items()} for row in rows]))


def _write(path: str, curve: pd.DataFrame) -> None:
    with whole(path) as part:
        curve.to_csv(part, index=False)


def _plot(path: str, curve: pd.DataFrame, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    curves = list(curve.sort_values("size", kind="stable").groupby("evict", sort=False))
    for k, (name, part) in enumerate(curves):
        axes.errorbar(
            part["size"],
            part["miss_ratio"],
            yerr=part.get("error"),
            label=str(name),
            color=plt.get_cmap("tab20" if len(curves) > 10 else "tab10")(k % 20),
            linestyle=("-", "--", ":")[k // 7 % 3],
            marker="o",
            markersize=3,
            linewidth=1,
            capsize=2,
        )
    axes.set(xlabel="pages", ylabel="miss ratio", xscale="log", ylim=(0, None), title=title)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    save_figure(figure, path)
    plt.close("all")


if __name__ == "__main__":
    sys.exit(main())
