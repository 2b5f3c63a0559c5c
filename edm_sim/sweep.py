"""sweep: every experiment of a grid, on all cores or elsewhere, resumable.

A point is an experiment's tables; its key is their hash. Finished points are appended to a
journal beside the output (one line of JSON each), so a sweep that was interrupted goes on
where it stopped, and the Parquet file is written from the journal at the end. Any executor
of concurrent.futures serves, and so does Dask's (distributed.Client().get_executor()).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from edm_policy import EdmError
from edm_sim.run import run
from edm_workload import Experiment, Result
from edm_workload.result import frame

Tables = dict[str, dict[str, Any]]


def key_of(experiment: Experiment) -> str:
    """A hash of everything that is in the experiment."""
    return hashlib.sha256(json.dumps(experiment.to_tables(), sort_keys=True).encode()).hexdigest()


def simulate_point(tables: Tables, name: str) -> dict[str, Any]:
    """One point, in a worker: plain values in, plain values out."""
    return run(Experiment.from_tables(tables, name)).to_dict()


def _worker() -> None:
    # Ctrl-C is the parent's business; a worker that dies of it breaks the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def sweep(
    experiments: Iterable[Experiment],
    output: str | Path | None = None,
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """All experiments: one row each in their order, the grid's values as columns.

    output: a Parquet file; points found in its journal (output + ".jsonl") are not run again.
    jobs: processes (all cores), unless an executor is given. Raises EdmError when a point
    fails or a file cannot be written; what was finished by then is kept.
    """
    points = list(experiments)
    keys = [key_of(e) for e in points]
    journal = None if output is None else Path(f"{output}.jsonl")
    done = _finished(journal)
    missing = {k: e for k, e in zip(keys, points, strict=True) if k not in done}
    if progress:
        progress(len(points) - len(missing), len(points))
    if missing:
        own = executor is None
        pool = executor or ProcessPoolExecutor(jobs or os.cpu_count() or 1, initializer=_worker)
        try:
            _run_all(pool, missing, done, journal, len(points), progress)
        finally:
            if own:
                pool.shutdown(wait=True, cancel_futures=True)
    table = _table(points, [Result.from_dict(done[k]) for k in keys])
    if output is not None:
        try:
            table.to_parquet(output, index=False)
        except OSError as error:
            raise EdmError(f"{output}: cannot write ({error.strerror or error})") from error
    return table


def _run_all(
    pool: Executor,
    missing: dict[str, Experiment],
    done: dict[str, dict[str, Any]],
    journal: Path | None,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    # A Dask future is no concurrent.futures one: as_completed() refuses it, result() does not.
    waiting: dict[str, Future[dict[str, Any]]] = {
        key: pool.submit(simulate_point, e.to_tables(), e.name) for key, e in missing.items()
    }
    for key, future in waiting.items():
        try:
            done[key] = future.result()
        except EdmError as error:
            for other in waiting.values():
                other.cancel()
            raise EdmError(f"point {missing[key].to_tables()}: {error}") from error
        if journal is not None:
            _append(journal, key, done[key])
        if progress:
            progress(total - len(missing) + sum(k in done for k in missing), total)


def _append(journal: Path, key: str, result: dict[str, Any]) -> None:
    try:
        with journal.open("a") as f:
            f.write(json.dumps({"key": key, "result": result}) + "\n")
    except OSError as error:
        raise EdmError(f"{journal}: cannot write ({error.strerror or error})") from error


def _finished(journal: Path | None) -> dict[str, dict[str, Any]]:
    if journal is None or not journal.exists():
        return {}
    done = {}
    for line in journal.read_text().splitlines():
        try:
            record = json.loads(line)
            done[record["key"]] = record["result"]
        except (json.JSONDecodeError, KeyError):
            continue  # the line an interruption cut short: its point runs again
    return done


def _table(points: list[Experiment], results: list[Result]) -> pd.DataFrame:
    """frame(results), and a column for each value in which the experiments differ."""
    table = frame(results)
    flat = [
        {
            f"{section}.{key}": value
            for section, keys in tables.items()
            for key, value in keys.items()
        }
        for tables in (e.to_tables() for e in points)
    ]
    for name in dict.fromkeys(name for values in flat for name in values):
        column = [values.get(name) for values in flat]
        if any(value != column[0] for value in column):
            plain = all(isinstance(v, int | float | str | None) for v in column)
            mixed = len({type(v) for v in column if v is not None}) > 1
            table[name] = column if plain and not mixed else [str(v) for v in column]
    return table
