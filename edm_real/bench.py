"""bench: what paging costs on this machine, row by row, verified.

Without an experiment: seq, uniform, zipf and the real trace, in both fault modes, on
`mem:` and `file:`, with a quarter of the memory local. Beside them each workload with all
memory local (what `slowdown` is measured against) and the bare floor: a C program that
resolves faults in the signal handler and does nothing else.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edm_policy.errors import EdmError
from edm_real.run import run
from edm_workload import Experiment, Result
from edm_workload.metadata import redact
from edm_workload.result import rows_table, table_console
from edm_workload.synth import is_synth
from edm_workload.trace import bundled_trace

WORKLOADS = ("seq", "uniform", "zipf:1.0")
MODES = ("upcall", "monitor")
STORES = ("mem:", "file:")
PAGES, REFS = 8192, 30_000  # a fault by monitor may cost 100 us: 16 runs of this fit a minute

FLOOR = Path(__file__).resolve().parent.parent / "benchmarks" / "floor"

COLUMNS = (
    *("workload", "mode", "store", "local", "refs", "faults", "faults/s", "p50 us", "p90 us"),
    *("p99 us", "evictions", "write-backs", "slowdown", "verified"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table; `alone` is the same workload with all memory local."""

    result: Result
    alone: Result | None = None

    @property
    def slowdown(self) -> float | None:
        """Elapsed over elapsed with all memory local."""
        if self.alone is None or not self.alone.elapsed_s:
            return None
        return self.result.elapsed_s / self.alone.elapsed_s

    def cells(self) -> dict[str, Any]:
        r = self.result
        all_local = r.limit >= r.pages
        latency = r.latency_us if r.faults else {}
        return {
            "workload": Path(r.workload).stem if r.workload.endswith(".parquet") else r.workload,
            "mode": "-" if all_local else r.faults_mode,
            "store": "-" if all_local else r.store,
            "local": f"{r.limit / r.pages:.0%}" if r.pages else "-",
            "refs": r.refs,
            "faults": r.faults,
            "faults/s": r.faults_per_s or None,
            "p50 us": latency.get("p50"),
            "p90 us": latency.get("p90"),
            "p99 us": latency.get("p99"),
            "evictions": r.evictions,
            "write-backs": r.writebacks,
            "slowdown": self.slowdown,
            "verified": r.verified,
        }


def standard(base: Experiment, given: dict[str, Any]) -> list[Experiment]:
    """The experiments of the main job; what was given on the command line holds for all."""
    synthetic = {"pages": PAGES, "refs": REFS, "local": "25%"} | given
    if "trace" in given:
        workloads = [base.with_(**synthetic if is_synth(given["trace"]) else given)]
    else:
        workloads = [base.with_(**synthetic, trace=w) for w in WORKLOADS]
        of_file = {k: v for k, v in given.items() if k not in ("pages", "refs")}
        workloads.append(base.with_(**{"local": "25%"} | of_file, trace=str(bundled_trace())))
    modes = (given["faults"],) if "faults" in given else MODES
    stores = (given["store"],) if "store" in given else STORES
    return [w.with_(faults=m, store=s) for w in workloads for m in modes for s in stores]


def all_local(experiment: Experiment) -> Experiment:
    """The same workload with nothing paged out."""
    return experiment.with_(local="100%", high="100%", low=None, lockstep=False, auto_min=0)


def rows(
    experiments: list[Experiment],
    progress: Callable[[str], None] = lambda text: None,
    log: Path | None = None,
) -> Iterator[Row]:
    """Runs each experiment, and once a workload the all-local reference before it."""
    alone: dict[tuple[Any, ...], Result] = {}
    for i, experiment in enumerate(experiments, 1):
        w = experiment.workload
        key = (w.trace, w.refs, w.threads, w.seed, w.writes, experiment.memory.region)
        if key not in alone:
            progress(f"{w.trace}, all memory local")
            alone[key] = run(all_local(experiment), resident=True)
            yield Row(alone[key])
        progress(
            f"{i}/{len(experiments)}  {w.trace}, {experiment.run.faults}, "
            f"{redact(experiment.store.url)}"
        )
        yield Row(run(experiment, log=log), alone[key])


def floor_row(pages: int, seed: int = 1) -> dict[str, Any] | None:
    """The bare floor's own measurement of a fault, in this run; None where it cannot be had."""
    program = FLOOR / "floor"
    try:
        if not program.exists():
            subprocess.run(["make", "-sC", str(FLOOR)], check=True, capture_output=True, timeout=60)
        done = subprocess.run(
            [
                *(str(program), "--mode", "fault", "--pattern", "uniform", "--json"),
                *("--pages", str(pages), "--faults", "30000", "--seed", str(seed)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return dict(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def floor_cells(floor: dict[str, Any]) -> dict[str, Any]:
    """The floor as a line of the table."""
    fault = floor["fault_ns"]
    return {
        "workload": "bare floor, uniform",
        "mode": "upcall",
        "store": "none",
        "faults": floor["faults"],
        "faults/s": 1e9 / fault["mean"],
        "p50 us": fault["p50"] / 1000,
        "p90 us": fault["p90"] / 1000,
        "p99 us": fault["p99"] / 1000,
        "verified": floor.get("verified"),
    }


def print_rows(cells: list[dict[str, Any]], title: str = "") -> None:
    table_console().print(rows_table(cells, COLUMNS, title))


def check(done: list[Row]) -> None:
    """Raises EdmError if any run read back something else than was written."""
    bad = [r.result for r in done if r.result.verified is False]
    if bad:
        names = ", ".join(f"{r.workload} {r.faults_mode} {r.store}" for r in bad)
        raise EdmError(f"page contents were NOT as written: {names}; please report this")
