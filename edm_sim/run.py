"""run: an experiment in the simulator, and the Result it gives back."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edm_policy import EdmError, LogBuffer, save_log
from edm_sim.costs import Costs, costs_of
from edm_sim.model import Model
from edm_sim.rack import RackDms
from edm_sim.recorder import Recorder
from edm_workload import Experiment, Result

_SHARED = (
    *("faults", "zero_fills", "fetches", "rescues", "evictions", "writebacks"),
    *("clean_drops", "prefetches", "prefetch_hits", "stalls", "store_errors"),
)
_MORE = ("waits", "retries", "write_faults", "wakes", "marks", "poisoned")
_PREFETCH = ("prefetch_late", "prefetch_unused")


def run(
    experiment: Experiment,
    *,
    costs: Costs | None = None,
    log: str | Path | LogBuffer | None = None,
) -> Result:
    """Simulates the experiment. The same experiment gives the same Result, bit for bit.

    costs: what faults cost on the machine (None: what [sim] calibration says). log: a file for the
    decision log, or a LogBuffer that collects it. Raises UsageError for what cannot be.
    """
    buffer = LogBuffer() if isinstance(log, str | Path) else log
    model = Model(experiment, costs or costs_of(experiment), buffer)
    model.run()
    if isinstance(log, str | Path) and buffer is not None:
        _save(log, model, buffer)
    return _result(model)


@dataclass(frozen=True)
class Observed:
    """A run with all that was seen of it.

    events: t_ns, instance, thread (-1: LPET or the DMS), page, event, duration_ns.
    series: a row an interval (see series.Series), or None.
    answers: instance, unit, requests that the unit answered and their mean_us from the DMS and
    back; None without a DMS of its own.
    """

    result: Result
    events: pd.DataFrame
    series: pd.DataFrame | None
    answers: pd.DataFrame | None


def observe(
    experiment: Experiment, *, costs: Costs | None = None, interval_us: float | None = None
) -> Observed:
    """Like run, with the table of events and, at an interval, the time series."""
    recorder = Recorder()
    interval = 0 if interval_us is None else max(1, round(interval_us * 1000))
    model = Model(experiment, costs or costs_of(experiment), None, recorder, interval)
    model.run()
    series = model.series.frame() if model.series else None
    answers = _answers(model.dms) if isinstance(model.dms, RackDms) else None
    return Observed(_result(model), recorder.frame(), series, answers)


def _answers(dms: RackDms) -> pd.DataFrame:
    rows = [
        {
            "instance": instance,
            "unit": dms.units[unit].name,
            "requests": number,
            "mean_us": ns / number / 1000,
        }
        for (instance, unit), (number, ns) in sorted(dms.answers.items())
    ]
    return pd.DataFrame(rows, columns=["instance", "unit", "requests", "mean_us"])


def _save(path: str | Path, model: Model, log: LogBuffer) -> None:
    workload = model.experiment.workload.trace
    try:
        save_log(path, model.config, log.records(), driver="sim", workload=workload)
    except OSError as error:
        raise EdmError(f"{path}: cannot write the log ({error.strerror or error})") from error


def latency_us(ns: array[int]) -> dict[str, float]:
    """mean, p50 .. max in microseconds of latencies in ns; empty if there are none."""
    if not len(ns):
        return {}
    values = np.asarray(ns, dtype=np.int64)
    p50, p90, p99, p999 = np.percentile(values, [50, 90, 99, 99.9])
    figures = {"mean": values.mean(), "p50": p50, "p90": p90, "p99": p99, "p999": p999}
    return {k: float(v) / 1000 for k, v in (figures | {"max": values.max()}).items()}


def _rack_counts(model: Model, dms: RackDms) -> dict[str, Any]:
    links = dms.every_link()
    return {
        "instances": len(model.instances),
        "emus": len(dms.units) - 1,
        "unit_reads": dms.unit_reads,
        "hedges": dms.hedges,
        "messages": sum(link.sent for link in links),
        "messages_lost": sum(link.lost for link in links),
        "retries_sent": dms.retries,
        "hand_overs": dms.hand_overs,
        "lost_pages": model.spt.losses,
    }


def _result(model: Model) -> Result:
    experiment, config = model.experiment, model.config
    everybody = model.all_instances
    total: dict[str, int] = {}
    latencies = array("q")
    for instance in everybody:
        latencies.extend(instance.latencies)
        for name, count in instance.pager.stats().items():
            total[name] = total.get(name, 0) + count
    extra: dict[str, Any] = {name: total[name] for name in _MORE}
    if total["prefetches"]:
        extra |= {name: total[name] for name in _PREFETCH}
    if isinstance(model.dms, RackDms):
        extra |= _rack_counts(model, model.dms)
    spent = sum((i.spent for i in everybody), start=Counter[str]())
    if spent:
        extra["components_s"] = {name: ns / 1e9 for name, ns in sorted(spent.items())}
    counts: dict[str, Any] = {name: total[name] for name in _SHARED}
    return Result(
        driver="sim",
        workload=experiment.workload.trace,
        evict=config.evict,
        prefetch=config.prefetch,
        observe=config.observe,
        store=experiment.store.url,
        faults_mode=experiment.run.faults,
        threads=experiment.workload.threads,
        pages=config.pages,
        low=config.low or 0,
        high=config.high or 0,
        limit=config.limit,
        refs=len(experiment.trace) * experiment.sim.instances,
        **counts,
        elapsed_s=model.finished_ns / 1e9,
        latency_us=latency_us(latencies),
        seed=experiment.workload.seed,
        extra=extra,
    )
