"""compare: one experiment in the simulator and on real memory, and how far they are apart.

The two worlds run interleaved, several times, so that a machine whose speed drifts
drifts for both. Beside every error stands the real runs' own repeat error: no model can
be told apart from the machine below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import edm_real
import edm_sim
from edm_workload import Experiment, Result
from edm_workload.result import LATENCY_KEYS

COUNTS = ("faults", "zero_fills", "fetches", "rescues", "evictions", "writebacks", "clean_drops")
LATENCIES = tuple(f"latency_us_{k}" for k in LATENCY_KEYS if k not in ("p999", "max"))
METRICS = (*COUNTS, "elapsed_s", *LATENCIES)


def metric(result: Result, name: str) -> float:
    """One figure of a result by its name; latency_us_KEY reaches into latency_us."""
    if name.startswith("latency_us_"):
        return float(result.latency_us.get(name.removeprefix("latency_us_"), float("nan")))
    return float(getattr(result, name))


@dataclass(frozen=True)
class Comparison:
    """What both worlds gave for one experiment.

    simulated, real: the runs, in order. frame: one row a metric with the medians of both
    worlds, `error` = sim / real - 1, and `repeat_error` = half the spread of the real runs
    over their median.
    """

    experiment: Experiment
    simulated: list[Result]
    real: list[Result]

    @property
    def frame(self) -> pd.DataFrame:
        rows = []
        for name in METRICS:
            sim = float(np.median([metric(r, name) for r in self.simulated]))
            values = np.array([metric(r, name) for r in self.real])
            real = float(np.median(values))
            rows.append(
                {
                    "metric": name,
                    "sim": sim,
                    "real": real,
                    "error": _relative(sim - real, real),
                    "repeat_error": _relative(float(np.ptp(values)) / 2, real),
                }
            )
        return pd.DataFrame(rows).set_index("metric")

    @property
    def errors(self) -> dict[str, float]:
        """Signed relative error of the simulator by metric."""
        return {str(k): float(v) for k, v in self.frame["error"].items()}

    @property
    def verified(self) -> bool:
        """Every real run found its pages' contents as written."""
        return all(r.verified for r in self.real)

    def plot(self) -> Any:
        """Both worlds side by side: counts, latencies, elapsed. Returns the matplotlib Figure."""
        from edm_lab.plots import plot_comparison

        return plot_comparison(self)


def _relative(difference: float, base: float) -> float:
    if base:
        return difference / base
    return 0.0 if difference == 0 else float("inf")


def compare(
    experiment: Experiment, repeats: int = 3, progress: Callable[[str], None] | None = None
) -> Comparison:
    """Runs the experiment `repeats` times in each world, in turn."""
    simulated: list[Result] = []
    real: list[Result] = []
    for i in range(repeats):
        for world, run, results in (
            ("simulator", edm_sim.run, simulated),
            ("real memory", edm_real.run, real),
        ):
            if progress:
                progress(f"run {i + 1} of {repeats}: {world}")
            results.append(run(experiment))
    return Comparison(experiment, simulated, real)
