"""compare: one experiment in the simulator and on real memory, and how far they are apart.

Real runs are repeated, and between them the calibration's anchor (a short run of its own, which
knows nothing of the experiment): a machine whose speed drifts drifts for both worlds, as the
simulator's costs are scaled by it. Beside every error stands the real runs' own repeat error: no
model can be told apart from the machine below it. A real run during which other programs took a
core away, or the host moved one, is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import edm_real
import edm_sim
from edm_lab.calibration import drift, inner_store, steady_of
from edm_policy.errors import UsageError
from edm_real.calibrate import LOCAL_STORES
from edm_real.calibrate_bench import Bench, Watch
from edm_real.steady import Steady
from edm_sim import Costs
from edm_workload import Experiment, Result
from edm_workload.calibration import SAME, Calibration, Speed
from edm_workload.result import LATENCY_KEYS

COUNTS = ("faults", "zero_fills", "fetches", "rescues", "evictions", "writebacks", "clean_drops")
LATENCIES = tuple(f"latency_us_{k}" for k in LATENCY_KEYS if k not in ("p999", "max"))
COMPONENTS = (
    *("turn", "arrive", "decide", "ring", "get", "install", "return", "flush", "wait"),
    *("reclaim", "core", "program", "lpet"),
)
"""Where the time goes: of a fault, from touch to return (turn: waiting for a handler thread); TLB
flushes that interrupted it (on real memory in whatever they interrupted); waiting for a page in
somebody's hands, reclaiming in the fault, waiting for a core in it; the program itself; and LPET,
beside."""

OTHERS, AGAIN = 0.15, 2
"""Cores that other programs may use during a real run; how often one is made again, at most."""

ANCHORS = 2
"""Of each kind, before every real run and after the last."""

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
    over their median. calibration: what the simulator drew from (None: its cost table's numbers),
    at `speed` times its own. components: seconds by component (columns sim and real), of one
    more real run that counted them. disturbed: real runs that were made again. core_distance_ns:
    how far apart the cores were, see edm_real/steady.py.
    """

    experiment: Experiment
    simulated: list[Result]
    real: list[Result]
    calibration: Calibration | None = None
    speed: Speed = SAME
    components: pd.DataFrame | None = None
    disturbed: int = 0
    core_distance_ns: float = 0.0

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
    def repeat_errors(self) -> dict[str, float]:
        """Of the real runs among themselves, by metric: half their spread over the median."""
        return {str(k): float(v) for k, v in self.frame["repeat_error"].items()}

    @property
    def verified(self) -> bool:
        """Every real run found its pages' contents as written."""
        return all(r.verified for r in self.real)

    def plot(self) -> Any:
        """Both worlds side by side: counts, latencies, elapsed. Returns the matplotlib Figure."""
        from edm_lab.plots import plot_comparison

        return plot_comparison(self)


def has_times(experiment: Experiment) -> bool:
    """Whether its trace tells what the program computed between two references."""
    trace = experiment.trace
    return trace.t_ns is not None or trace.hits is not None


def simulated(experiment: Experiment, costs: Costs | None) -> Result:
    """In the simulator, to be held against real memory: the replay there touches page after page
    and computes nothing in between, so the times of a trace are left out here."""
    return edm_sim.run(experiment.with_(times="none"), costs=costs)


def _relative(difference: float, base: float) -> float:
    if base:
        return difference / base
    return 0.0 if difference == 0 else float("inf")


def compare(
    experiment: Experiment,
    repeats: int = 3,
    progress: Callable[[str], None] | None = None,
    calibration: Calibration | None = None,
    components: bool = False,
    steady: Steady | None = None,
) -> Comparison:
    """Runs the experiment in both worlds, on real memory `repeats` times.

    calibration: measured on this machine, in this state; None: the simulator's cost table.
    components: one more real run tells where its time went. steady: shared by comparisons that
    follow one another, and its patience with it. The same experiment and costs give the same
    simulated run, so there is one.
    """
    if repeats < 1:
        raise UsageError(f"repeats: {repeats} must be a whole number from 1 up")
    say = progress or (lambda text: None)
    real: list[Result] = []
    disturbed = 0
    # A store's server is somebody else's processor time, too, and belongs to the run.
    alone = inner_store(experiment.store.url).startswith(LOCAL_STORES)
    anchors = range(1, min(experiment.workload.threads, 2) + 1) if calibration else ()
    with Bench(steady=steady or steady_of(calibration)) as bench:
        distance_ns = bench.steady.distance_ns
        while len(real) < repeats:
            say(f"run {len(real) + 1} of {repeats}: real memory")
            bench.steady.settle()
            watch = Watch()
            for threads in anchors:
                bench.anchors_ns(threads, ANCHORS)
            if bench.steady.distance_ns != distance_ns:  # they did not come back: begin again
                distance_ns, bench.anchors = (
                    bench.steady.distance_ns,
                    {n: [] for n in bench.anchors},
                )
                real.clear()
                continue
            result = edm_real.run(experiment)
            others = watch.others() if alone else 0.0
            if (others > OTHERS or not bench.steady.holds()) and disturbed < AGAIN * repeats:
                disturbed += 1
                continue
            real.append(result)
        for threads in anchors:
            bench.anchors_ns(threads, ANCHORS)
    speed = drift(calibration, bench.anchors) if calibration else SAME
    say("simulator")
    costs = Costs.of(calibration, speed) if calibration else None
    found = simulated(experiment, costs)
    parts = None
    if components:
        say("one more real run, counting where its time goes")
        parts = _components(found, edm_real.run(experiment, components=True))
    return Comparison(experiment, [found], real, calibration, speed, parts, disturbed, distance_ns)


def _components(sim: Result, real: Result) -> pd.DataFrame:
    """Seconds by component; `program` is what is left of all threads' time: hits. On real memory
    what counting itself takes is in neither."""
    columns = {}
    for world, result in (("sim", sim), ("real", real)):
        spent = dict(result.extra.get("components_s", {}))
        in_faults = sum(s for name, s in spent.items() if name != "lpet")
        if timed := result.extra.get("timed_faults"):
            in_faults = max(in_faults, result.latency_us["mean"] * timed / 1e6)
        spent["program"] = max(0.0, result.elapsed_s * result.threads - in_faults)
        columns[world] = spent
    frame = pd.DataFrame(columns, index=list(COMPONENTS)).fillna(0.0)
    frame["difference"] = frame["sim"] - frame["real"]
    return frame
