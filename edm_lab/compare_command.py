"""python -m edm_lab compare: an experiment, or the matrix, in both worlds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from edm_lab import calibration as calibrations
from edm_lab.compare import Comparison, compare, has_times
from edm_lab.lockstep import Lockstep, lockstep
from edm_lab.matrix import GOAL, Matrix, matrix, part_of, points
from edm_policy import evictors
from edm_policy.config import OBSERVE
from edm_policy.errors import EdmError
from edm_sim.costs import DEFAULT_CALIBRATION
from edm_workload import Experiment
from edm_workload.calibration import Calibration
from edm_workload.calibration import load as load_calibration
from edm_workload.cli import add_common_options, count, experiment_from_args, note_caveats
from edm_workload.files import picture_format, save_figure
from edm_workload.metadata import collect
from edm_workload.result import rows_table, save, table_console
from edm_workload.trace import bundled_trace

LOCKSTEP_WORKLOADS = ("zipf:1.0", "loop", "phases")
LOCKSTEP_SIZE = {"pages": 4096, "refs": 40_000}

LINE_S = 10.0
"""Seconds between lines of progress in a log."""

Progress = Callable[[str], None]


def observations(name: str) -> list[str]:
    """What real memory can show an evictor: marks in the fault path, or every access of an
    instrumented replay where the policy is defined for that."""
    info = evictors()[name]
    if info.needs_future:
        return []
    found = []
    if info.needs != "exact":
        found.append(min(info.best, "idle", key=OBSERVE.index))
    if info.best == "exact":
        found.append("exact")
    return found


def standard_matrix(base: Experiment) -> Iterator[Experiment]:
    """zipf, loop, phases and the real trace, for every evictor real memory can serve."""
    workloads = [base.with_(trace=w, **LOCKSTEP_SIZE) for w in LOCKSTEP_WORKLOADS]
    workloads.append(base.with_(trace=str(bundled_trace()), refs=LOCKSTEP_SIZE["refs"]))
    for experiment in workloads:
        for name in evictors():
            for observe in observations(name):
                yield experiment.with_(evict=name, observe=observe)


@contextmanager
def progress_line(quiet: bool, what: str) -> Iterator[Progress]:
    """One changing line on stderr; where that is no terminal, a line now and then."""
    console = Console(stderr=True)
    if quiet:
        yield lambda text: None
        return
    if not console.is_terminal:
        yield _now_and_then(what)
        return
    with console.status(what) as shown:
        yield lambda text: shown.update(text)


def _now_and_then(what: str) -> Progress:
    said = time.monotonic()

    def line(text: str) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_S:
            said = time.monotonic()
            print(f"{what}: {text}", file=sys.stderr, flush=True)

    return line


def lockstep_command(args: argparse.Namespace) -> int:
    experiment = experiment_from_args(args)
    chosen = args.experiment or args.trace or args.evict
    todo = [experiment] if chosen else list(standard_matrix(experiment))
    rows: list[Lockstep] = []
    with progress_line(args.quiet, "lockstep") as shown:
        for i, one in enumerate(todo):
            shown(f"{i + 1}/{len(todo)} {one.workload.trace} {one.policy.evict}")
            rows.append(lockstep(one, Path(args.logs)))
    table_console().print(rows_table([r.row() for r in rows]))
    different = [r for r in rows if not r.identical]
    for r in different:
        print(f"\n{r.workload} {r.evict}: the logs part at record {r.differs_at}\n{r.context}")
    print(
        f"\n{len(rows) - len(different)} of {len(rows)} pairs of decision logs identical"
        f" (in {args.logs})"
    )
    return 1 if different or any(r.verified is False for r in rows) else 0


def calibration_of(experiment: Experiment, quick: bool, shown: Progress) -> Calibration | None:
    """The file that was named, or one made now; None for "none"."""
    named = experiment.sim.calibration
    if named == "none":
        return None
    if named is None:
        return calibrations.make(quick, shown)
    return load_calibration(DEFAULT_CALIBRATION if named == "default" else named)


def say_calibration(calibration: Calibration | None, named: str | None) -> None:
    """Which costs the simulator drew from, and what is doubtful about them."""
    if calibration is None:
        print("simulator: the cost table, not calibrated")
        return
    print(f"simulator: calibration {named or 'made before this run'} ({calibration.name()})")
    for line in calibrations.warnings(calibration):
        print(f"warning: {line}; fix: python -m edm_real calibrate", file=sys.stderr)


TIMES_LEFT_OUT = (
    "the trace's times are left out in both worlds: the replay computes nothing between references"
)


def show(comparison: Comparison) -> None:
    """The error table on stdout, and where the time went."""
    rows = comparison.frame.reset_index().to_dict("records")
    for row in rows:
        for key in ("error", "repeat_error"):
            row[key] = f"{row[key]:+.1%}" if key == "error" else f"{row[key]:.1%}"
    table_console().print(rows_table([{str(k): v for k, v in r.items()} for r in rows]))
    if comparison.components is not None:
        parts = comparison.components.reset_index(names="component").to_dict("records")
        print()
        table_console().print(
            rows_table(
                [{str(k): v for k, v in part.items()} for part in parts],
                title="where the time went, seconds of all threads",
            )
        )


def compare_command(args: argparse.Namespace) -> int:
    if args.plot:
        picture_format(args.plot)
    if args.lockstep:
        return lockstep_command(args)
    if args.matrix:
        return matrix_command(args)
    experiment = experiment_from_args(args)
    metadata = collect()
    with progress_line(args.quiet, "compare") as shown:
        found = calibration_of(experiment, True, shown)
        if found:
            found = calibrations.with_stores(found, [experiment], shown)
        comparison = compare(experiment, args.repeats, shown, found, components=True)
    note_caveats([experiment])
    show(comparison)
    say_calibration(found, experiment.sim.calibration)
    again = f", {comparison.disturbed} disturbed ones made again" if comparison.disturbed else ""
    print(f"machine {metadata['machine_load']} before; {args.repeats} real runs{again}")
    if has_times(experiment):
        print(TIMES_LEFT_OUT)
        metadata["note"] = TIMES_LEFT_OUT
    if found:
        speed = comparison.speed
        beside = f", of several threads {1 / speed.crowded:.2f}" * (experiment.workload.threads > 1)
        print(f"the machine's speed against the calibration's: {1 / speed.alone:.2f}{beside}")
        apart = [f"{ns:.0f}" for ns in (comparison.core_distance_ns, found.core_distance_ns) if ns]
        if len(apart) == 2:
            print(f"from core to core and back: {apart[0]} ns; when calibrated {apart[1]}")
    _save_plot(args.plot, comparison.plot)
    if args.output:
        metadata["calibration"] = found.metadata if found else None
        save(args.output, [*comparison.simulated, *comparison.real], metadata)
    return 0 if comparison.verified else 1


def _save_plot(path: str | None, plot: Callable[[], Any]) -> None:
    if not path:
        return
    save_figure(plot(), path)


def matrix_command(args: argparse.Namespace) -> int:
    """The table of all points, also of those before Ctrl-C."""
    base = experiment_from_args(args)
    todo = part_of(list(points(base, args.quick, args.with_store)), args.part)
    metadata = collect()
    found: Matrix | None = None
    interrupted = False
    with progress_line(args.quiet, "compare") as shown:
        calibration = calibration_of(base, args.quick, shown)
        if calibration is None:
            raise EdmError("--matrix compares a calibrated simulator; leave out calibration none")
        found = Matrix(calibration)
        try:
            matrix(todo, calibration, args.repeats, shown, into=found)
        except KeyboardInterrupt:
            interrupted = True
    if not found.comparisons:
        raise KeyboardInterrupt
    table_console().print(rows_table(found.rows))
    print(f"\n{summary_line(found)}")
    say_calibration(found.calibration, base.sim.calibration)
    print(f"machine {metadata['machine_load']} before; {args.repeats} real runs a point")
    if any(has_times(c.experiment) for c in found.comparisons):
        print(TIMES_LEFT_OUT)
        metadata["note"] = TIMES_LEFT_OUT
    _save_plot(args.plot, found.plot)
    if args.output:
        metadata |= {"calibration": found.calibration.metadata, "matrix": found.rows}
        metadata["summary"] = found.summary()
        save(args.output, found.results(), metadata)
    if interrupted:
        print(f"interrupted after {len(found.comparisons)} points", file=sys.stderr)
        return 130
    return 0 if all(c.verified for c in found.comparisons) else 1


def summary_line(found: Matrix) -> str:
    """One line: how far the simulator is from real memory over all points."""
    s = found.summary()
    return (
        f"{s['points']:.0f} points: elapsed time mean absolute error {s['elapsed_mean']:.1%}, "
        f"worst {s['elapsed_worst']:.1%}, within 10 % {s['within_10']:.0%}; mean latency "
        f"{s['latency_mean']:.1%}; counts within {s['counts_worst']:.2%}, beyond "
        f"{GOAL['counts']:.0%} and 1.5 x their repeat error: {s['counts_beyond_goal']:.0f}; real "
        f"runs' repeat error "
        f"{s['repeat_error']:.1%}; beyond {GOAL['worst']:.0%} and 1.5 x its own repeat error: "
        f"{s['beyond_goal']:.0f}"
    )


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    c = commands.add_parser(
        "compare",
        help="an experiment in the simulator and on real memory",
        description="One experiment in both worlds: what each counted and timed, and the error. "
        "Without any it is the default one, zipf:1.0. Takes a minute or two: unless --calibration "
        "names a file, the machine is calibrated first; real runs that others disturbed are made "
        "again.",
    )
    c.add_argument("experiment", nargs="?", metavar="EXPERIMENT.toml")
    c.add_argument("--repeats", type=count, default=3, metavar="N", help="real runs (3)")
    c.add_argument("--plot", metavar="OUT.png", help="draw the comparison")
    c.add_argument("--matrix", action="store_true", help="many experiments, one error table")
    c.add_argument("--quick", action="store_true", help="with --matrix: a minute")
    c.add_argument(
        "--part",
        default="1/1",
        metavar="K/N",
        help="with --matrix: the K-th of N parts; edm_lab report puts them together",
    )
    c.add_argument(
        "--with-store",
        action="append",
        default=[],
        metavar="URL",
        help="with --matrix: a further store, such as redis://127.0.0.1",
    )
    c.add_argument(
        "--logs",
        default="out/lockstep",
        metavar="DIR",
        help="with --lockstep: where both worlds' decision logs go (out/lockstep)",
    )
    add_common_options(c)
    c.set_defaults(run=compare_command)
