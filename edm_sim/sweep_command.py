"""python -m edm_sim sweep: a grid of experiments from one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edm_policy.errors import UsageError
from edm_sim.sweep import Swept, save_table, sweep, varying
from edm_workload import Experiment
from edm_workload.cli import count
from edm_workload.files import check_writable
from edm_workload.metadata import collect
from edm_workload.result import rows_table, table_console

COLUMNS = ("miss_ratio", "faults", "elapsed_s", "latency_us_mean", "latency_us_p99")
SHOWN = 40


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "sweep",
        help="every point of a grid: lists as values in the file",
        description="Runs every combination of the lists in the file. A finished point is kept in "
        "OUT.points/ at once: what was interrupted goes on where it stopped.",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT.toml")
    parser.add_argument("-o", "--output", metavar="OUT.parquet", help="(EXPERIMENT.parquet, here)")
    parser.add_argument("--jobs", type=count, metavar="N", help="worker processes (a core each)")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(command=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    metadata = collect()
    points = list(Experiment.grid(args.experiment))
    output = Path(args.output or f"{Path(args.experiment).stem}.parquet")
    if output.suffix != ".parquet":
        raise UsageError(f"{output}: a sweep is written as Parquet; name it {output.stem}.parquet")
    check_writable(output)
    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    quiet = args.quiet or not console.is_terminal
    bar = Progress(*columns, console=console, transient=True, disable=quiet)
    with bar:
        task = bar.add_task("")
        swept = sweep(
            points,
            folder=output.with_suffix(".points"),
            jobs=args.jobs,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    save_table(output, swept, metadata)
    _show(swept, list(varying(points)[0]))
    for keys, reason in swept.failures:
        where = ", ".join(f"{name}={value}" for name, value in keys.items())
        print(f"error: {where or 'the only point'}: {reason}", file=sys.stderr)
    kept = f", {swept.reused} of them finished before" if swept.reused else ""
    print(f"{len(swept.frame)} of {len(points)} points{kept}: {output}")
    return 1 if swept.failures else 0


def _show(swept: Swept, grid: list[str]) -> None:
    """The first rows on stdout: what varies, and what most people look for."""
    data = swept.frame.head(SHOWN).astype(object)
    rows = data.where(data.notna(), None).to_dict("records")
    columns = [name for name in dict.fromkeys([*grid, *COLUMNS]) if name in data]
    table = rows_table([{str(k): v for k, v in row.items()} for row in rows], columns)
    table_console().print(table)
    if len(swept.frame) > SHOWN:
        print(f"... and {len(swept.frame) - SHOWN} more rows")
