"""python -m edm_lab: compare, tune, plot, report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from edm_lab import plot_command, report_command, tune_command
from edm_lab.compare import Comparison, compare
from edm_lab.lockstep import Lockstep, lockstep
from edm_policy import evictors
from edm_policy.config import OBSERVE
from edm_policy.errors import EdmError
from edm_workload import Experiment
from edm_workload.cli import add_common_options, experiment_from_args, note_caveats, run_cli
from edm_workload.metadata import collect
from edm_workload.result import rows_table, save, table_console
from edm_workload.trace import bundled_trace

LOCKSTEP_WORKLOADS = ("zipf:1.0", "loop", "phases")
LOCKSTEP_SIZE = {"pages": 4096, "refs": 40_000}


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


def lockstep_command(args: argparse.Namespace) -> int:
    experiment = experiment_from_args(args)
    chosen = args.experiment or args.trace or args.evict
    todo = [experiment] if chosen else list(standard_matrix(experiment))
    status = Console(stderr=True)
    rows: list[Lockstep] = []
    with status.status("lockstep") as shown:
        for i, one in enumerate(todo):
            if not args.quiet:
                shown.update(f"{i + 1}/{len(todo)} {one.workload.trace} {one.policy.evict}")
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


def show(comparison: Comparison) -> None:
    """The error table on stdout."""
    rows = comparison.frame.reset_index().to_dict("records")
    for row in rows:
        for key in ("error", "repeat_error"):
            row[key] = f"{row[key]:+.1%}" if key == "error" else f"{row[key]:.1%}"
    table_console().print(rows_table([{str(k): v for k, v in r.items()} for r in rows]))


def compare_command(args: argparse.Namespace) -> int:
    if args.lockstep:
        return lockstep_command(args)
    experiment = experiment_from_args(args)
    metadata = collect()
    note_caveats([experiment])
    with Console(stderr=True).status("compare") as shown:
        comparison = compare(
            experiment, args.repeats, None if args.quiet else lambda text: shown.update(text)
        )
    show(comparison)
    print(f"machine {metadata['machine_load']} before; {args.repeats} runs a world, in turn")
    if args.plot:
        try:
            comparison.plot().savefig(args.plot, dpi=150)
        except (OSError, ValueError) as e:
            raise EdmError(f"{args.plot}: cannot write the plot ({e})") from e
    if args.output:
        save(args.output, [*comparison.simulated, *comparison.real], metadata)
    return 0 if comparison.verified else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edm_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    c = commands.add_parser("compare", help="an experiment in the simulator and on real memory")
    c.add_argument("experiment", nargs="?", metavar="EXPERIMENT.toml")
    c.add_argument("--repeats", type=int, default=3, metavar="N", help="runs in each world (3)")
    c.add_argument("--plot", metavar="OUT.png", help="draw the comparison")
    c.add_argument(
        "--logs",
        default="out/lockstep",
        metavar="DIR",
        help="with --lockstep: where both worlds' decision logs go (out/lockstep)",
    )
    add_common_options(c)
    c.set_defaults(run=compare_command)
    plot_command.add(commands)
    tune_command.add(commands)
    report_command.add(commands)
    args = parser.parse_args()
    return run_cli(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
