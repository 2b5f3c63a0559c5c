"""Sweeps: every point of a grid, on all cores or many machines, resumable.

A point is an experiment; its key is a hash of the experiment, of the files it names, and of
the code that runs it. A finished point is written at once under its key, and a point whose
key is there already is not run again. Who runs a point has no part in what comes out: the
same grid gives the same table, bit for bit, with any number of workers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from edm_policy import EdmError, UsageError
from edm_sim.pool import WorkerPool, cores
from edm_sim.run import run
from edm_workload import Experiment, Result
from edm_workload.files import whole
from edm_workload.result import SCHEMA, frame
from edm_workload.synth import is_synth

Tables = dict[str, dict[str, Any]]

PACKAGES = ("edm_policy", "edm_workload", "edm_sim")
LIBRARIES = ("numpy", "simpy")


@dataclass(frozen=True)
class Swept:
    """What a sweep gave.

    frame: a row a finished point in the order of the grid, the keys that vary first, then the
    Result's. failures: (what varies, why) of points that could not run. reused: how many
    points were there before.
    """

    frame: pd.DataFrame
    failures: list[tuple[dict[str, Any], str]]
    reused: int


def sweep(
    experiments: str | Path | Iterable[Experiment],
    folder: str | Path | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Swept:
    """Runs every point and returns them as one table.

    experiments: a TOML file in which values may be lists, or the points. folder: where finished
    points are kept (None: nowhere). jobs: worker processes (None: a core each). executor: any
    other one, such as that of dask.distributed, `client.get_executor()`; it is not shut down.
    progress(done, total) is called after each point, and at the start.

    Workers are spawned: a script that calls this keeps its own code under
    `if __name__ == "__main__":`. On KeyboardInterrupt the workers end, and the finished points
    stay. Raises UsageError for a bad file, EdmError when a worker died.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs: {jobs} workers cannot run anything; give 1 or more")
    if isinstance(experiments, str | Path):
        experiments = Experiment.grid(experiments)
    points = list(experiments)
    keys = [point_key(point) for point in points]
    store = Points(folder)
    results = {key: found for key in dict.fromkeys(keys) if (found := store.get(key)) is not None}
    todo = {k: p for k, p in zip(keys, points, strict=True) if k not in results}
    reused = len(results)
    failed: dict[str, str] = {}

    def finished(key: str, outcome: Result | str) -> None:
        if isinstance(outcome, str):
            failed[key] = outcome
        else:
            store.put(key, outcome)
            results[key] = outcome
        if progress:
            progress(len(results) + len(failed), reused + len(todo))

    if progress:
        progress(reused, reused + len(todo))
    if todo:
        _run_all(todo, executor, jobs, finished)
    grid = varying(points)
    failures = [(grid[i], failed[k]) for i, k in enumerate(keys) if k in failed]
    done = [(grid[i], results[k]) for i, k in enumerate(keys) if k in results]
    return Swept(_table(done), failures, reused)


def _run_all(
    todo: Mapping[str, Experiment],
    executor: Executor | None,
    jobs: int | None,
    finished: Callable[[str, Result | str], None],
) -> None:
    if executor is not None:
        _collect(executor, todo, finished)
        return
    with WorkerPool(min(jobs or cores(), len(todo))) as pool:
        try:
            _collect(pool.executor, todo, finished)
        except BrokenProcessPool as error:
            raise EdmError(
                "sweep: a worker was killed, out of memory perhaps (finished points are kept); "
                "run it again with fewer --jobs"
            ) from error


def _collect(
    executor: Executor,
    todo: Mapping[str, Experiment],
    finished: Callable[[str, Result | str], None],
) -> None:
    futures: dict[Future[dict[str, Any] | str], str] = {}
    try:
        for key, point in todo.items():
            futures[executor.submit(run_point, point.to_tables(), point.name)] = key
        for future in as_completed(futures):
            outcome = future.result()
            done = outcome if isinstance(outcome, str) else Result.from_dict(outcome)
            finished(futures[future], done)
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def run_point(tables: Tables, name: str) -> dict[str, Any] | str:
    """One point in a worker: its Result as plain values, or in one line why it cannot run."""
    try:
        return run(Experiment.from_tables(tables, name)).to_dict()
    except EdmError as error:
        return str(error)


# -- keys


def point_key(experiment: Experiment) -> str:
    """A hash of all that decides the point's Result."""
    digest = hashlib.sha256(code_version().encode())
    digest.update(json.dumps(experiment.to_tables(), sort_keys=True).encode())
    if not is_synth(experiment.workload.trace):
        digest.update(_file_hash(experiment.workload.trace).encode())
    for name in (experiment.policy.evict, experiment.policy.prefetch):
        module = name.partition(":")[0]
        if ":" in name and (spec := importlib.util.find_spec(module)) and spec.origin:
            digest.update(_file_hash(spec.origin).encode())
    return digest.hexdigest()[:32]


@cache
def code_version() -> str:
    """A hash of the code that a point runs: our Python, what was compiled, and the libraries."""
    digest = hashlib.sha256(" ".join(version(name) for name in LIBRARIES).encode())
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent
        ran = ("*.py", "_core*.so", "_core*.pyd")
        for path in sorted(path for pattern in ran for path in folder.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _file_hash(path: str) -> str:
    try:
        stat = os.stat(path)
        return _hash_of(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise EdmError(f"{path}: cannot be read ({error.strerror or error})") from error


@cache
def _hash_of(path: str, _mtime_ns: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- finished points


class Points:
    """Results under their keys, one JSON file each; in a folder, or nowhere."""

    def __init__(self, folder: str | Path | None):
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EdmError(f"{folder}: cannot be made ({error.strerror or error})") from error

    def get(self, key: str) -> Result | None:
        """The result under a key; None if there is none, or it was cut off while written."""
        if self._folder is None:
            return None
        try:
            return Result.from_dict(json.loads((self._folder / f"{key}.json").read_text()))
        except (OSError, ValueError, EdmError):
            return None

    def put(self, key: str, result: Result) -> None:
        """Keeps a result. Another sweep in the same folder sees all of it, or nothing."""
        if self._folder is None:
            return
        path = self._folder / f"{key}.json"
        beside = path.with_suffix(f".{os.getpid()}")
        try:
            beside.write_text(json.dumps(result.to_dict()))
            beside.replace(path)
        except OSError as error:
            raise EdmError(f"{path}: cannot be written ({error.strerror or error})") from error


# -- the table


def save_table(path: str | Path, swept: Swept, metadata: Mapping[str, Any]) -> None:
    """The frame as Parquet, the metadata in its schema under edm_sweep. Raises EdmError."""
    table = pa.Table.from_pandas(swept.frame, preserve_index=False)
    about = {b"edm_sweep": json.dumps({"schema": SCHEMA, "metadata": metadata}).encode()}
    with whole(path) as part:
        pq.write_table(table.replace_schema_metadata((table.schema.metadata or {}) | about), part)


def varying(points: Sequence[Experiment]) -> list[dict[str, Any]]:
    """For each point, the keys of the experiment that are not the same in all of them."""
    flat = [{k: v for t in p.to_tables().values() for k, v in t.items()} for p in points]
    names = dict.fromkeys(name for values in flat for name in values)
    grid = [n for n in names if any(v.get(n) != flat[0].get(n) for v in flat)]
    return [{name: values.get(name) for name in grid} for values in flat]


def _table(done: Sequence[tuple[dict[str, Any], Result]]) -> pd.DataFrame:
    """Keys of the grid, then the Result. A key that the Result has too (limit: resolved to pages)
    is the Result's."""
    results = frame([result for _, result in done])
    grid = pd.DataFrame([keys for keys, _ in done], index=results.index)
    for name in grid:
        kinds = {type(value) for value in grid[name]} - {type(None)}
        # Parquet: one plain type a column.
        if kinds & {dict, list} or (len(kinds) > 1 and not kinds <= {int, float}):
            grid[name] = [_text(value) for value in grid[name]]
    both = [name for name in grid if name in results]
    first = pd.concat([grid.drop(columns=both), results[both]], axis=1)[list(grid)]
    return pd.concat([first, results.drop(columns=both)], axis=1)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
