"""compare --matrix: evictors x workloads x local memory x threads x stores, in both worlds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edm_lab import calibration as calibrations
from edm_lab.compare import Comparison, compare
from edm_policy.errors import UsageError
from edm_workload import Experiment, Result
from edm_workload.calibration import Calibration
from edm_workload.trace import bundled_trace

EVICTORS = ("lpet", "fifo", "s3fifo")
WORKLOADS = ("zipf:1.0", "loop", "phases", "sqlite")
LOCAL = ("25%", "50%")
THREADS = (1, 2)
FRONTS: tuple[dict[str, Any], ...] = (
    {"store": "file:"},
    {"network": "rdma"},
    {"network": "redis-loopback"},
    {"network": "nvme"},
)
PATIENCE_S = 60.0
"""How long the whole matrix waits for the cores, see edm_real/steady.py."""

SIZE = {"pages": 16384, "refs": 150_000}
COUNTS = ("faults", "evictions", "writebacks")
TIMES = ("elapsed_s", "latency_us_mean")

GOAL = {"counts": 0.01, "elapsed_s": 0.05, "worst": 0.15, "latency_us_mean": 0.08}
"""What is asked of the model: of counts, of elapsed time on the mean and at worst, and of the
mean fault latency; where it is larger, half as much again as the repeat error."""


def _of(base: Experiment, name: str) -> Experiment:
    if name == "sqlite":
        return base.with_(trace=str(bundled_trace()), refs=SIZE["refs"])
    return base.with_(trace=name, **SIZE)


def points(
    base: Experiment, quick: bool = False, stores: Sequence[str] = ()
) -> Iterator[Experiment]:
    """The experiments; stores: further ones (a redis that runs)."""
    evictors = EVICTORS[:2] if quick else EVICTORS
    for name in WORKLOADS[:2] if quick else WORKLOADS:
        for evict in evictors:
            for local in LOCAL[:1] if quick else LOCAL:
                for threads in THREADS:
                    yield _of(base, name).with_(evict=evict, local=local, threads=threads)
    fronts = [*FRONTS[:2], *({"store": url} for url in stores)]
    if not quick:
        fronts = [*FRONTS, *({"store": url} for url in stores)]
    fronts.append({"faults": "monitor"})
    for front in fronts:
        for name in WORKLOADS[:1] if quick else ("zipf:1.0", "phases"):
            for threads in THREADS[:1] if quick else THREADS:
                yield _of(base, name).with_(threads=threads, **front)


def part_of(experiments: Sequence[Experiment], part: str) -> list[Experiment]:
    """K/N: every N-th from the K-th on, so that each part has some of everything. Raises
    UsageError."""
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    k, n = map(int, found.groups()) if found else (0, 0)
    if not 1 <= k <= n:
        raise UsageError(f'--part: "{part}" is no part; write K/N, such as 1/8')
    if n > len(experiments):
        raise UsageError(f"--part: {n} parts of {len(experiments)} points; give fewer")
    return list(experiments[k - 1 :: n])


@dataclass
class Matrix:
    """Comparisons of many experiments under one calibration."""

    calibration: Calibration
    comparisons: list[Comparison] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row an experiment: what it was, and the errors."""
        return [_row(c) for c in self.comparisons]

    def summary(self) -> dict[str, float]:
        """Over all points: mean absolute error of the elapsed time and of the mean latency, the
        worst, the share within 10 %, the largest error of counts, in how many points one is beyond
        the goal, and the median repeat error."""
        if not self.comparisons:
            return {}
        errors = [c.errors for c in self.comparisons]
        repeat = np.array([c.repeat_errors["elapsed_s"] for c in self.comparisons])
        elapsed = np.array([abs(e["elapsed_s"]) for e in errors])
        latency = np.array([abs(e["latency_us_mean"]) for e in errors])
        return {
            "points": float(len(errors)),
            "elapsed_mean": float(elapsed.mean()),
            "elapsed_worst": float(elapsed.max()),
            "within_10": float((elapsed <= 0.10).mean()),
            "beyond_goal": float((elapsed > np.maximum(GOAL["worst"], 1.5 * repeat)).sum()),
            "latency_mean": float(latency.mean()),
            "latency_worst": float(latency.max()),
            "counts_worst": max(abs(e[name]) for e in errors for name in COUNTS),
            "counts_beyond_goal": float(sum(_counts_beyond(c) for c in self.comparisons)),
            "repeat_error": float(np.median(repeat)),
        }

    def results(self) -> list[Result]:
        """All runs; extra["point"] tells which belong together: a Result has no network."""
        found = []
        for c in self.comparisons:
            named = ", ".join(str(v) for v in _named(c).values())
            for r in (*c.simulated, *c.real):
                r.extra["point"] = named
                found.append(r)
        return found

    def plot(self) -> Any:
        """Simulated against real elapsed time and latency, and how errors are distributed."""
        from edm_lab.plots_fidelity import plot_matrix

        return plot_matrix(self)


def _named(c: Comparison) -> dict[str, Any]:
    e = c.experiment
    trace = e.workload.trace
    return {
        "workload": Path(trace).stem if "/" in trace else trace,
        "evict": e.policy.evict,
        "local": str(e.memory.local),
        "threads": e.workload.threads,
        "store": e.store.url if e.store.network == "none" else f"{e.store.network}",
        "mode": e.run.faults,
    }


def _counts_beyond(c: Comparison) -> bool:
    """Off by more than is asked, and than the real runs among themselves."""
    errors, repeat = c.errors, c.repeat_errors
    return any(abs(errors[name]) > max(GOAL["counts"], 1.5 * repeat[name]) for name in COUNTS)


def _row(c: Comparison) -> dict[str, Any]:
    errors = c.errors
    rescues = c.real[0].rescues
    return {
        **_named(c),
        "real s": float(np.median([r.elapsed_s for r in c.real])),
        "elapsed": percent(errors["elapsed_s"]),
        "repeat": f"{c.repeat_errors['elapsed_s']:.1%}",
        "latency": percent(errors["latency_us_mean"]),
        "p50": percent(errors["latency_us_p50"]),
        "p99": percent(errors["latency_us_p99"]),
        **{name: percent(errors[name], 2) for name in COUNTS},
        "repeat of counts": f"{max(c.repeat_errors[name] for name in COUNTS):.1%}",
        "rescues": percent(errors["rescues"]) if rescues > 500 else "-",
        "verified": c.verified,
    }


def percent(value: float, digits: int = 1) -> str:
    """A signed error."""
    return f"{value:+.{digits}%}"


def matrix(
    experiments: Sequence[Experiment],
    calibration: Calibration,
    repeats: int = 3,
    progress: Callable[[str], None] | None = None,
    into: Matrix | None = None,
) -> Matrix:
    """Compares each; `into` has what was done so far when it is interrupted."""
    made = into or Matrix(calibration)
    made.calibration = calibrations.with_stores(calibration, experiments, progress)
    steady = calibrations.steady_of(made.calibration, patience_s=PATIENCE_S)
    for i, experiment in enumerate(experiments, 1):
        name = f"{Path(experiment.workload.trace).stem}, {experiment.policy.evict}"

        def say(text: str, at: int = i, what: str = name) -> None:
            if progress:
                progress(f"{at} of {len(experiments)}: {what}; {text}")

        made.comparisons.append(compare(experiment, repeats, say, made.calibration, steady=steady))
    return made
