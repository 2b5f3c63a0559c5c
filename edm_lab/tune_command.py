"""python -m edm_lab tune: the policy that serves an experiment best, predicted and measured."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edm_lab.compare import has_times
from edm_lab.compare_command import (
    TIMES_LEFT_OUT,
    calibration_of,
    progress_line,
    say_calibration,
)
from edm_lab.tune import GOALS, Bound, Candidate, Tuned, tune
from edm_lab.tune_space import KNOBS
from edm_sim import Costs
from edm_workload import Experiment
from edm_workload.cli import add_common_options, count, experiment_from_args, note_caveats
from edm_workload.files import check_writable, whole
from edm_workload.metadata import collect
from edm_workload.result import rows_table, save, table_console
from edm_workload.synth import is_synth

UNITS = {"p99": "p99, us", "elapsed": "elapsed, s", "local": "local, pages"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "tune",
        help="search the policy in the simulator, measure the best on real memory",
        description="Searches evictor, observation, prefetcher, their parameters, watermarks and "
        "batch in the simulator; runs the best few and the experiment as given on real memory in "
        "turn; writes the winner. Ctrl-C ends the search and keeps the best so far.",
    )
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT.toml")
    parser.add_argument("--goal", choices=GOALS, default="elapsed", help="(elapsed)")
    parser.add_argument(
        "--bound",
        metavar="slowdown=X|faults=Y%",
        help="with --goal local: elapsed over elapsed with all memory local, or faults over "
        "references (without it: no slower than the experiment as given)",
    )
    parser.add_argument("--trials", type=count, default=200, metavar="N", help="points (200)")
    parser.add_argument(
        "--keep", default="", metavar="A,B", help=f"do not change these: {', '.join(KNOBS)}"
    )
    parser.add_argument("--best", type=int, default=3, metavar="N", help="policies to measure (3)")
    parser.add_argument("--repeats", type=count, default=5, metavar="N", help="runs of each (5)")
    parser.add_argument("--jobs", type=count, metavar="N", help="processes (a core each)")
    parser.add_argument("--simulate-only", action="store_true", help="measure nothing")
    parser.add_argument(
        "--toml", metavar="FILE", help="the winner as an experiment (NAME-tuned.toml)"
    )
    add_common_options(parser)
    parser.set_defaults(run=_tune)


def _tune(args: argparse.Namespace) -> int:
    if not args.simulate_only:
        from edm_real import doctor

        doctor.require()
    metadata = collect()
    experiment = experiment_from_args(args)
    target = Path(args.toml or f"{experiment.name or 'experiment'}-tuned.toml")
    check_writable(target)
    bound = Bound.parse(args.bound) if args.bound else None
    with progress_line(args.quiet, "tune") as shown:
        calibration = None if args.simulate_only else calibration_of(experiment, True, shown)
        tuned = tune(
            experiment,
            args.goal,
            bound=bound,
            trials=args.trials,
            seed=experiment.workload.seed,
            keep=[k for k in args.keep.split(",") if k],
            few=args.best,
            repeats=args.repeats,
            jobs=args.jobs,
            costs=Costs.of(calibration) if calibration else None,
            real=not args.simulate_only,
            progress=shown,
        )
    note_caveats([tuned.default.experiment, *(c.experiment for c in tuned.best)])
    told = summary(tuned)
    table_console().print(rows_table(rows(tuned)))
    print(f"\n{told}")
    if not args.simulate_only:
        say_calibration(calibration, experiment.sim.calibration)
    print(f"machine {metadata['machine_load']} before; seed {tuned.seed}")
    if has_times(experiment):
        print(TIMES_LEFT_OUT)
    write_toml(target, tuned, metadata, told)
    print(f"{target}: the winner")
    if args.output:
        everybody = [tuned.default, *tuned.best]
        results = [r for c in everybody for r in (c.simulated, *c.real) if r is not None]
        save(args.output, results, metadata | {"tune": document(tuned)})
    if tuned.stopped == "measurement":
        return 130
    return 0 if tuned.verified else 1


def rows(tuned: Tuned) -> list[dict[str, Any]]:
    """A row a policy: what it is, what was predicted and measured, and what it gains."""
    unit = UNITS[tuned.goal]
    return [
        {
            "": "default" if c is tuned.default else "winner" if c is tuned.winner else "",
            **_settings(c),
            f"predicted {unit}": c.predicted,
            "gain": _share(1 - c.predicted / tuned.default.predicted),
            f"measured {unit}": c.median if c.measured else None,
            "gain ": _share(1 - c.median / tuned.default.median),
            "repeat error": _share(c.repeat_error, sign=False) if len(c.measured) > 1 else None,
        }
        for c in [tuned.default, *tuned.best]
    ]


def _settings(c: Candidate) -> dict[str, Any]:
    policy, sizes = c.experiment.policy, c.experiment.resolve()
    return {
        "evict": policy.evict,
        "observe": c.experiment.policy_config().resolved().observe,
        "prefetch": policy.prefetch,
        "batch": policy.batch,
        "low": sizes.low,
        "high": sizes.high,
        "limit": sizes.limit,
    }


def _share(value: float, sign: bool = True) -> str | None:
    if value != value:
        return None
    return f"{value:+.1%}" if sign else f"{value:.1%}"


def summary(tuned: Tuned) -> str:
    """The gains in words: both, and how much of the prediction came true."""
    winner, goal = tuned.winner, tuned.goal
    if tuned.bound:
        b = tuned.bound
        as_given = "no slower than the experiment as given"
        goal += f" ({as_given if b.kind == 'elapsed' else f'{b.kind} at most {b.value:g}'})"
    searched = f"{len(tuned.trials)} points simulated"
    if tuned.failed:
        searched += f", {len(tuned.failed)} could not be (the first: {tuned.failed[0]})"
    if tuned.stopped == "search":
        searched += ", then stopped by Ctrl-C"
    if winner is tuned.default:
        return f"goal {goal}: nothing better than the experiment as given was found; {searched}"
    text = f"goal {goal}: predicted gain {tuned.predicted_gain:.1%}"
    if tuned.measured_gain == tuned.measured_gain:
        part = tuned.measured_gain / tuned.predicted_gain if tuned.predicted_gain else 0.0
        text += f", measured gain {tuned.measured_gain:.1%} ({part:.2f} of it)"
    else:
        text += ", not measured"
    return f"{text}; {searched}"


def write_toml(path: Path, tuned: Tuned, metadata: dict[str, Any], told: str) -> None:
    """The winning experiment; how it was found stands in comments at its head."""
    experiment = _trace_from(tuned.winner.experiment, path.resolve().parent)
    head = [f"tuned {datetime.now(UTC).date()}: {metadata['command']}", told, f"seed {tuned.seed}"]
    text = "".join(f"# {line}\n" for line in head) + "\n" + experiment.to_toml()
    with whole(path) as part:
        part.write_text(text)


def _trace_from(experiment: Experiment, folder: Path) -> Experiment:
    """Its trace file named as seen from the folder that the TOML is in."""
    trace, calibration = experiment.workload.trace, experiment.sim.calibration
    if not is_synth(trace):
        experiment = experiment.with_(trace=os.path.relpath(trace, folder))
    if calibration not in (None, "none", "default"):
        experiment = experiment.with_(calibration=os.path.abspath(calibration))
    return experiment


def document(tuned: Tuned) -> dict[str, Any]:
    """What is kept in a result file, as metadata["tune"]."""
    return {
        "goal": tuned.goal,
        "bound": None if tuned.bound is None else vars(tuned.bound),
        "seed": tuned.seed,
        "stopped": tuned.stopped,
        "summary": summary(tuned),
        "predicted_gain": tuned.predicted_gain,
        "measured_gain": _number(tuned.measured_gain),
        "candidates": [
            {
                "settings": _settings(c),
                "default": c is tuned.default,
                "winner": c is tuned.winner,
                "predicted": c.predicted,
                "measured": c.measured,
                "experiment": c.experiment.to_tables(),
            }
            for c in [tuned.default, *tuned.best]
        ],
        "trials": tuned.trials,
        "failed": tuned.failed,
    }


def _number(value: float) -> float | None:
    return None if value != value else value
