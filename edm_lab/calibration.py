"""What the simulator's costs come from: a calibration file, or one made on the spot.

costs = edm_lab.calibration.load("calibration.json")
edm_sim.run(experiment, costs=costs)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from edm_policy.errors import EdmError, UsageError
from edm_real import calibrate
from edm_real.calibrate_bench import Bench
from edm_real.steady import PATIENCE_S, Steady
from edm_sim import Costs
from edm_workload import Experiment
from edm_workload.calibration import SAME, Calibration, Speed
from edm_workload.calibration import load as load_file
from edm_workload.metadata import collect

Progress = Callable[[str], None]


def load(path: str | Path, speed: Speed = SAME) -> Costs:
    """A calibration file as what edm_sim.run(costs=...) takes. speed: times its own (see drift()).
    Raises EdmError for a file that is no calibration."""
    return Costs.of(load_file(path), speed)


def inner_store(url: str) -> str:
    """The store behind what shapes it: `shaped:p50=4us,mem:` is `mem:`."""
    while url.startswith("shaped:"):
        url = url.removeprefix("shaped:").rpartition(",")[2]
    return url


def of_store(url: str) -> str:
    """The name under which a calibration keeps a store."""
    scheme = url.partition(":")[0]
    return "redis" if scheme.startswith(("redis", "valkey")) else scheme


def with_stores(
    calibration: Calibration, experiments: Iterable[Experiment], progress: Progress | None = None
) -> Calibration:
    """The calibration, with stores of the experiments that it does not know measured now."""
    stores = dict(calibration.stores)
    began_ns = {1: calibration.anchor_ns, 2: calibration.anchor_of_threads_ns}
    with Bench(began_ns=began_ns, steady=steady_of(calibration)) as bench:
        for experiment in experiments:
            url = inner_store(experiment.store.url)
            if of_store(url) in stores:
                continue
            if progress:
                progress(f"calibrating store {url}")
            try:
                stores[of_store(url)] = calibrate.measure_store(url, bench)
            except UsageError as e:
                raise EdmError(f"calibration: store {url}: {e}") from e
    return replace(calibration, stores=stores)


def make(quick: bool = True, progress: Progress | None = None) -> Calibration:
    """Calibrates this machine: quick, half a minute."""
    return calibrate.calibrate(("mem:",), quick, progress or (lambda text: None))


def steady_of(calibration: Calibration | None, patience_s: float = PATIENCE_S) -> Steady:
    """For runs that are held against a calibration: the cores as far apart as they were then, if
    they stayed so."""
    if calibration is None:
        return Steady(patience_s=patience_s)
    return Steady(calibration.core_distance_ns, patience_s, calibration.restless)


def drift(calibration: Calibration, anchors_ns: Mapping[int, Sequence[float]]) -> Speed:
    """How much slower the machine is now than it was when calibrated, told by the anchors: short
    runs of calibrate's own, by their number of threads, of several each."""
    then = {1: calibration.anchor_ns, 2: calibration.anchor_of_threads_ns}
    found = {n: median(taken) / then[n] for n, taken in anchors_ns.items() if taken}
    return Speed(found.get(1, 1.0), found.get(2, 1.0))


def warnings(calibration: Calibration) -> list[str]:
    """Lines on what makes the calibration doubtful here and now; none if nothing does."""
    found, now, then = [], collect(), calibration.metadata
    for what in ("cpu", "kernel", "cores"):
        if then.get(what) != now[what]:
            found.append(f"calibrated on another {what} ({then.get(what)}, here {now[what]})")
    if calibration.machine_load != now["machine_load"]:
        found.append(
            f"calibrated while the machine was {calibration.machine_load}, it is "
            f"{now['machine_load']} now"
        )
    if then.get("noisy"):
        found.append(f"calibrated on a noisy machine: {calibration.noise}")
    return found
