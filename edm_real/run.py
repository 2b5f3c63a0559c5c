"""run: an experiment on real memory, and the Result it gives back."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edm_policy import save_log
from edm_policy.errors import EdmError
from edm_policy.log import RECORD
from edm_real.region import ReplayRegion
from edm_real.spans import components_s
from edm_real.store_url import shaped
from edm_workload import Experiment, Result
from edm_workload.experiment import Workload

_MORE = ("waits", "retries", "write_faults", "wakes", "marks", "poisoned", "discards")
_KEYS = {f.name for f in fields(Result)}


def run(
    experiment: Experiment,
    *,
    log: str | Path | None = None,
    resident: bool = False,
    components: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Replays the experiment's trace over a region of real memory.

    Every access is checked against what was written, and at the end every page (verified).
    log: a file for the decision log. resident: all pages are brought in first, outside of
    what is timed and counted (the all-local reference). components: where the time goes is
    counted too (some percent slower), as extra["components_s"]. on_progress(done, total) is called
    some times a second. Raises EdmError for what cannot be.
    """
    sizes, policy, workload = experiment.resolve(), experiment.policy, experiment.workload
    config = experiment.policy_config().resolved()
    with ReplayRegion(
        sizes.pages,
        local=sizes.limit,
        store=shaped(experiment.store.url, experiment.store.network, workload.seed),
        evict=policy.evict,
        prefetch=policy.prefetch,
        faults=experiment.run.faults,
        dirty=policy.dirty,
        lockstep=experiment.run.lockstep,
        high=sizes.high,
        low=sizes.low,
        observe=config.observe,
        batch=policy.batch,
        seed=workload.seed,
        working_set=config.working_set,
        auto_min=config.auto_min,
        auto_target=config.auto_target,
        auto_interval=config.auto_interval,
        plan=config.plan,
    ) as region:
        if resident:
            region.prefault(write=True)
        if components:
            region.measure()

        def replay() -> dict[str, Any]:
            return region.replay(
                experiment.trace, threads=workload.threads, on_progress=on_progress
            )

        if log is None:
            values = replay()
        else:
            with tempfile.TemporaryFile() as records:
                region.log_to(records)
                values = replay()
                region.log_to(None)
                _save(log, region, records, workload)
        stats = region.stats()
        spent = components_s(region.spans()) if components else None
    if lost := values["extra"]["lost"]:
        why = f"evictor {policy.evict} chose none; give another one"
        if stats["writeback_error"] == -errno.ENOSPC:
            raise EdmError(
                f"store {region.store_url} is full, and so is local memory; "
                "make room there, or keep more here (--local)"
            )
        if stats["failed_writebacks"]:
            cause = os.strerror(-stats["writeback_error"])
            why = f"store {region.store_url} refused pages: {cause}"
        raise EdmError(f"{lost} references found no room in local memory until the deadline: {why}")
    extra = values.pop("extra") | {k: values[k] for k in _MORE if k in values}
    extra["store_stats"] = stats["store_stats"]
    if spent:
        extra["components_s"] = spent
    values |= {"workload": workload.trace, "evict": policy.evict, "prefetch": policy.prefetch}
    return Result(**{k: v for k, v in values.items() if k in _KEYS}, extra=extra)


def _save(path: str | Path, region: ReplayRegion, records: Any, workload: Workload) -> None:
    records.seek(0)
    try:
        save_log(
            path,
            region.config,
            np.frombuffer(records.read(), RECORD),
            driver="real",
            workload=workload.trace,
            threads=workload.threads,
        )
    except OSError as error:
        raise EdmError(f"{path}: cannot write the log ({error.strerror or error})") from error
