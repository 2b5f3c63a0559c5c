"""run: an experiment in the simulator, and the Result it gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import simpy

from edm_policy import EdmError, LogBuffer, PolicyConfig, UsageError, save_log
from edm_sim.costs import Costs, store_costs
from edm_sim.dms import DirectDms, Spt
from edm_sim.instance import Instance
from edm_sim.lockstep import LockstepInstance
from edm_sim.references import References, split
from edm_workload import Experiment, Result
from edm_workload.networks import network

_MORE = ("waits", "retries", "write_faults", "wakes", "marks", "poisoned", "discards")
_MORE_PREFETCH = ("prefetch_late", "prefetch_unused")


def run(
    experiment: Experiment,
    *,
    costs: Costs | None = None,
    log: str | Path | LogBuffer | None = None,
) -> Result:
    """Simulates the experiment. The same experiment gives the same Result, bit for bit.

    costs: what faults cost on the machine (Costs() unless calibrated). log: a file for the
    decision log, or a LogBuffer that collects it. Raises UsageError for what cannot be.
    """
    costs = costs or Costs()
    config = experiment.policy_config().resolved()
    buffer = LogBuffer() if isinstance(log, str | Path) else log
    instance = _simulate(experiment, config, costs, buffer)
    if isinstance(log, str | Path) and buffer is not None:
        _save(log, config, buffer, experiment)
    return _result(experiment, config, instance)


def _simulate(
    experiment: Experiment, config: PolicyConfig, costs: Costs, log: LogBuffer | None
) -> Instance | LockstepInstance:
    env = simpy.Environment(0)
    dms = DirectDms(
        env,
        network(experiment.store.network),
        store_costs(experiment.store.url),
        experiment.workload.seed,
    )
    spt = Spt(config.pages)
    monitor = experiment.run.faults == "monitor"
    threads = experiment.workload.threads
    instance: Instance | LockstepInstance
    if experiment.run.lockstep:
        if threads != 1:
            raise UsageError(f"lockstep runs one thread, not {threads}; leave --threads out")
        refs = References(experiment.trace, costs.think_ns)
        instance = LockstepInstance(env, config, refs, costs, dms, spt, monitor, log)
    else:
        parts = [References(t, costs.think_ns) for t in split(experiment.trace, threads)]
        instance = Instance(env, 0, config, parts, costs, dms, spt, monitor, log=log)
    env.run()
    if any(thread.is_alive for thread in instance.threads):
        raise EdmError(
            f"simulation: a thread waits for ever (seed {experiment.workload.seed}); "
            "this is a bug, please report the experiment"
        )
    if not instance.pager.check():
        raise EdmError(f"simulation: the pager is inconsistent (seed {experiment.workload.seed})")
    return instance


def _save(path: str | Path, config: PolicyConfig, log: LogBuffer, experiment: Experiment) -> None:
    try:
        save_log(path, config, log.records(), driver="sim", workload=experiment.workload.trace)
    except OSError as error:
        raise EdmError(f"{path}: cannot write the log ({error.strerror or error})") from error


def latency_us(ns: Any) -> dict[str, float]:
    """mean, p50 .. max in microseconds of latencies in ns; empty if there are none."""
    if not len(ns):
        return {}
    values = np.asarray(ns, dtype=np.int64)
    p50, p90, p99, p999 = np.percentile(values, [50, 90, 99, 99.9])
    figures = {"mean": values.mean(), "p50": p50, "p90": p90, "p99": p99, "p999": p999}
    return {k: float(v) / 1000 for k, v in (figures | {"max": values.max()}).items()}


def _result(
    experiment: Experiment, config: PolicyConfig, instance: Instance | LockstepInstance
) -> Result:
    stats = instance.pager.stats()
    shared = (
        *("faults", "zero_fills", "fetches", "rescues", "evictions", "writebacks"),
        *("clean_drops", "prefetches", "prefetch_hits", "stalls", "store_errors"),
    )
    counts: dict[str, Any] = {name: stats[name] for name in shared}
    more = _MORE + (_MORE_PREFETCH if stats["prefetches"] else ())
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
        refs=len(experiment.trace),
        **counts,
        elapsed_s=instance.finished_ns / 1e9,
        latency_us=latency_us(instance.latencies),
        seed=experiment.workload.seed,
        extra={name: stats[name] for name in more},
    )
