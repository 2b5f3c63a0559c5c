"""python -m edm_real: doctor, bench, replay, run, calibrate, top."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from edm_policy.errors import UsageError
from edm_workload.cli import (
    Parser,
    add_common_options,
    add_output_options,
    count,
    experiment_from_args,
    files_to_write,
    given_options,
    note_caveats,
    run_cli,
)
from edm_workload.experiment import Experiment
from edm_workload.metadata import collect
from edm_workload.result import Result, save


class Progress:
    """One changing line on stderr, only on a terminal and unless --quiet."""

    def __init__(self, quiet: bool):
        from rich.console import Console

        console = Console(stderr=True)
        self._status = console.status("") if console.is_terminal and not quiet else None

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __call__(self, text: str) -> None:
        if self._status:
            self._status.update(text)

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()


def doctor_command(args: argparse.Namespace) -> int:
    from edm_real import doctor

    report = doctor.examine()
    if report.usable:
        report.findings.append(doctor.cores())
    print(report.as_json() if args.json else report.as_text())
    return 0 if report.usable else 77


def bench_command(args: argparse.Namespace) -> int:
    from edm_real import bench, doctor

    doctor.require()
    metadata = collect()
    if args.versus:
        return _versus(args, metadata)
    if args.experiment:
        experiments = [experiment_from_args(args)]
    else:
        experiments = bench.standard(Experiment(), given_options(args))
    _run_rows(experiments, args, metadata, with_floor=True)
    return 0


def _versus(args: argparse.Namespace, metadata: dict[str, Any]) -> int:
    """bench --versus; -o gets our Results, and the rows as metadata["versus"]."""
    from edm_real import versus

    experiment = (
        experiment_from_args(args) if args.experiment else versus.standard(given_options(args))
    )
    experiment.policy_config().resolved()
    results: list[Result] = []
    with Progress(args.quiet) as progress:
        rows = versus.table(
            experiment,
            args.repeats or versus.REPEATS,
            results.append,
            kinds=args.kinds.split(",") if args.kinds else versus.KINDS,
            busy=args.busy,
            folder=args.folder,
            progress=progress,
        )
    versus.print_table(experiment, rows)
    if args.output:
        save(args.output, results, {**metadata, "versus": rows})
    return 0


def replay_command(args: argparse.Namespace) -> int:
    from edm_real import doctor

    doctor.require()
    metadata = collect()
    experiment = experiment_from_args(args)
    _run_rows([experiment], args, metadata, log=Path(args.log) if args.log else None)
    return 0


def run_command(args: argparse.Namespace) -> int:
    from edm_real import doctor, program

    command = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not command:
        raise UsageError("run: no program given: python -m edm_real run --local 64MiB -- PROG ARGS")
    doctor.require("monitor")
    doctor.require_kernel_faults()
    metadata = collect() if args.output else {}
    given = {f.name: getattr(args, f.name) for f in fields(program.Settings)}
    settings = program.Settings(**{k: v for k, v in given.items() if v is not None})
    finished = program.run_program(command, settings)
    if not args.quiet:
        print(program.summary(finished, settings), file=sys.stderr)
    if args.output:
        save(args.output, [r.result for r in finished.reports if r.most], metadata)
    return finished.code


def calibrate_command(args: argparse.Namespace) -> int:
    from edm_real import calibrate, doctor
    from edm_workload.result import rows_table, table_console

    doctor.require()
    stores = [*calibrate.STORES, *args.store]
    with Progress(args.quiet) as progress:
        found = calibrate.calibrate(stores, args.quick, progress)
    found.save(args.output)
    table_console().print(rows_table(calibrate.summary(found)))
    m = found.metadata
    print(f"\n{args.output}: {found.name()}, {m['seconds']:.0f} s")
    if m["noisy"]:
        print(
            f"warning: a noisy machine: {found.noise}; errors below the first mean nothing.\n"
            "  fix:  end what else runs, and calibrate again",
            file=sys.stderr,
        )
    return 0


def top_command(args: argparse.Namespace) -> int:
    from edm_real import top

    top.follow(args.pid, args.interval, args.plain, args.once)
    return 0


def _run_rows(
    experiments: list[Experiment],
    args: argparse.Namespace,
    metadata: dict[str, Any],
    log: Path | None = None,
    with_floor: bool = False,
) -> None:
    """Runs, prints the table, writes -o, and fails if a page was not as written."""
    from edm_real import bench

    for experiment in experiments:
        experiment.policy_config().resolved()  # a wrong option ends it before the first run
    done: list[bench.Row] = []
    cells: list[dict[str, Any]] = []
    with Progress(args.quiet) as progress:
        if with_floor:
            progress("the bare floor")
            floor = bench.floor_row(experiments[0].resolve().pages)
            if floor:
                cells.append(bench.floor_cells(floor))
                metadata = {**metadata, "floor": floor}
        for row in bench.rows(experiments, progress, log):
            done.append(row)
            cells.append(row.cells())
    note_caveats(experiments)
    bench.print_rows(cells)
    print(f"machine {metadata['machine_load']} before the run; 4 KiB pages")
    if args.output:
        save(args.output, [r.result for r in done], metadata)
    bench.check(done)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m edm_real", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what works here, and the fix for what does not")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(run=doctor_command)

    bench = commands.add_parser("bench", help="what paging costs on this machine")
    bench.add_argument("experiment", nargs="?", metavar="EXPERIMENT.toml")
    against = bench.add_argument_group("against the kernel's own paging (root)")
    against.add_argument("--versus", action="store_true", help="in turn with kernel swap and mmap")
    against.add_argument("--repeats", type=count, metavar="N", help="runs of each (5)")
    against.add_argument("--kinds", metavar="A,B", help="zram,swapfile,mmap")
    against.add_argument("--busy", action="store_true", help="a process computes on another core")
    against.add_argument("--folder", default="/var/tmp", help="for swap files, on a disk")
    add_common_options(bench)
    bench.set_defaults(run=bench_command)

    replay = commands.add_parser("replay", help="a trace against real memory")
    replay.add_argument("trace_argument", metavar="TRACE", help="a trace file, or zipf:1.0 ...")
    replay.add_argument("--log", metavar="FILE", help="write the decision log")
    add_common_options(replay)
    replay.set_defaults(run=replay_command)

    run = commands.add_parser("run", help="an unmodified program in less memory")
    for name, metavar, about in (
        ("local", "SIZE", "memory that is paged and resident, of each process (64MiB)"),
        ("region", "SIZE", "memory that can be paged, of each process (16GiB)"),
        ("least", "SIZE", "smaller pieces of memory are not paged (64KiB)"),
        ("store", "URL", "where evicted pages go (file:, a temporary file)"),
        ("network", "PRESET", "network in front of the store"),
        ("evict", "NAME", "evictor"),
        ("prefetch", "NAME", "prefetcher"),
        ("dirty", "exact|always", "how written pages are told"),
        ("low", "SIZE", "eviction stops here"),
        ("high", "SIZE", "eviction starts here"),
    ):
        run.add_argument(f"--{name}", metavar=metavar, help=about)
    run.add_argument("--batch", type=count, metavar="N", help="pages evicted at a time")
    run.add_argument("--handlers", type=count, metavar="N", help="threads that serve faults (1)")
    run.add_argument("--seed", type=int, metavar="N")
    run.add_argument("--deadline", dest="deadline_s", type=float, metavar="S", help="of stores (5)")
    add_output_options(run)
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROG ARGS")
    run.set_defaults(run=run_command)

    calibrate = commands.add_parser(
        "calibrate", help="what this machine's primitives cost, for the simulator"
    )
    calibrate.add_argument("-o", "--output", default="calibration.json", metavar="FILE")
    calibrate.add_argument("--quick", action="store_true", help="half a minute")
    calibrate.add_argument(
        "--store", action="append", default=[], metavar="URL", help="a further store to measure"
    )
    calibrate.add_argument("--quiet", action="store_true", help="no progress on stderr")
    calibrate.set_defaults(run=calibrate_command)

    top = commands.add_parser("top", help="live figures of a process's regions")
    top.add_argument("pid", type=int, metavar="PID")
    top.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds (1)")
    top.add_argument("--plain", action="store_true", help="a line a region, for logs")
    top.add_argument("--once", action="store_true", help="show it once")
    top.set_defaults(run=top_command)
    return parser


def main() -> int:
    args = _parser().parse_args()
    if getattr(args, "trace_argument", None):
        args.trace = args.trace_argument
    return run_cli(lambda: args.run(args), files_to_write(args))


if __name__ == "__main__":
    sys.exit(main())
