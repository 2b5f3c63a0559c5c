"""numpy and pandas programs over paged memory, and over plain memory paged by the kernel.

    sudo .venv/bin/python benchmarks/programs.py [--mib 256] [--local 25%] [-o OUT.json]

    sort      numpy's sort of 64-bit integers, in place
    matmul    C = A x B of doubles in blocks, C += A[i,k] x B[k,j]
    groupby   pandas: sum by key, 131,072 rows at a time

The same Python function runs over arrays in an edm_real.Region, and in plain anonymous memory under
a memory cgroup with the kernel's swap, each run in a process of its own, all in turn, round by
round. The kinds are compared like against like: `mem:` with swap on zram, `file:` with swap on a
file on the same disk (file: as the store has it: without O_DIRECT the page cache helps it, and
nothing limits that); `plain` has all of its memory and is what slowdown is over. Every run must
give the same digest. What a program needs beside its arrays is made outside of the cgroup, or
added to its limit (Program.scratch): local memory is of the arrays alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd

from edm_policy.errors import CannotError, EdmError, UsageError
from edm_real import Region, versus
from edm_real.versus_machine import PAGE, Cgroup, Machine
from edm_workload.cli import run_cli
from edm_workload.result import rows_table, table_console
from edm_workload.units import parse_pages

AGAINST = {"mem:": "zram", "file:": "swapfile"}
KINDS = ("plain", "mem:", "zram", "file:", "swapfile")
CHUNK, FILL, BLOCK = 1 << 17, 1 << 16, 512
RUN_S_MAX = 900
ROOM = (1.0, 1.0, 1.0, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0)
"""Local memory the kernel gets over ours, try after try, where it kills the program."""
Array = Callable[[Any, Any], np.ndarray]


def fill(a: np.ndarray, make: Callable[[int], np.ndarray]) -> None:
    flat = a.reshape(-1)
    for i in range(0, flat.size, FILL):
        part = flat[i : i + FILL]
        part[:] = make(part.size)


def digest(a: np.ndarray) -> str:
    """Of an array's bytes, without a copy of it."""
    return hashlib.blake2b(np.ascontiguousarray(a).view(np.uint8).data, digest_size=8).hexdigest()


def sort(array: Array, nbytes: int) -> Generator[Any]:
    a = array(np.int64, nbytes // 8)
    draw = np.random.default_rng(1)
    fill(a, lambda n: draw.integers(0, 2**40, n))
    yield
    a.sort()
    yield digest(a)


def matmul(array: Array, nbytes: int) -> Generator[Any]:
    n = max(BLOCK, int((nbytes / 24) ** 0.5) // BLOCK * BLOCK)
    a, b, c = (array(np.float64, (n, n)) for _ in range(3))
    draw = np.random.default_rng(1)
    for operand in (a, b):
        fill(operand, lambda m: draw.integers(0, 100, m))  # exact in doubles, in any order
    part = np.zeros((BLOCK, BLOCK))
    yield
    blocks = [slice(i, i + BLOCK) for i in range(0, n, BLOCK)]
    for i in blocks:
        for j in blocks:
            for k in blocks:
                np.matmul(a[i, k], b[k, j], out=part)
                c[i, j] += part
    yield digest(c)


def groupby(array: Array, nbytes: int) -> Generator[Any]:
    rows = nbytes // 16
    key, value = array(np.int64, rows), array(np.int64, rows)
    draw = np.random.default_rng(1)
    fill(key, lambda n: draw.integers(0, 1000, n))
    fill(value, lambda n: draw.integers(0, 2**20, n))
    yield
    sums = pd.Series(0, index=range(1000), dtype=np.int64)
    for i in range(0, rows, CHUNK):
        part = slice(i, i + CHUNK)
        frame = pd.DataFrame({"key": key[part], "value": value[part]}, copy=False)
        sums = sums.add(frame.groupby("key")["value"].sum(), fill_value=0)
    yield digest(sums.to_numpy().astype(np.int64))


@dataclass(frozen=True)
class Program:
    """steps: sets up, yields, does what is timed, yields a digest. scratch: bytes that the run
    needs beside the arrays and that the cgroup is given in addition (pandas: a chunk's codes,
    copies and sorted positions)."""

    steps: Callable[[Array, int], Generator[Any]]
    scratch: int


PROGRAMS = {
    "sort": Program(sort, 4 << 20),
    "matmul": Program(matmul, 8 << 20),
    "groupby": Program(groupby, 8 << 20),
}


# ---- the child: one run ----


@contextmanager
def arrays(kind: str, nbytes: int, local: int, prefetch: str) -> Iterator[Array]:
    """Where the program's arrays come from: a Region, or plain anonymous memory."""
    if kind in AGAINST:
        with Region(nbytes // PAGE + 8, local=local, store=kind, prefetch=prefetch) as region:
            yield region.array
        return

    def plain(dtype: Any, shape: Any) -> np.ndarray:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        return np.frombuffer(memory, dtype).reshape(shape)

    yield plain


def child(name: str, kind: str, nbytes: int, local: int, group: str, prefetch: str) -> None:
    """Runs once and prints what it took; in the cgroup from before its arrays are made."""
    for _ in PROGRAMS[name].steps(lambda d, s: np.zeros(s, d), 32 * CHUNK):
        pass  # everything is imported, and its code is charged to nobody's limit
    if group:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    with arrays(kind, nbytes, local, prefetch) as array:
        steps = PROGRAMS[name].steps(array, nbytes)
        next(steps)
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        result = next(steps)
        elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        steps.close()
        del steps
    faults = after.ru_majflt - before.ru_majflt
    print(json.dumps({"elapsed_s": elapsed, "digest": result, "major_faults": faults}))


# ---- the parent ----


def run_child(
    name: str, kind: str, nbytes: int, local: int, prefetch: str, group: Cgroup | None
) -> dict[str, Any]:
    where = str(group.path) if group else ""
    command = [sys.executable, __file__, "--child", name, kind, str(nbytes), str(local), where]
    command.append(prefetch)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RUN_S_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EdmError(f"{name} on {kind} did not end in {RUN_S_MAX} s; use fewer MiB") from error
    if done.returncode < 0 and group:
        raise versus.OutOfMemory(f"{name} on {kind}: the cgroup ran out of memory")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        why = said[-1] if said else f"killed by signal {-done.returncode}"
        raise EdmError(f"{name} on {kind} failed: {why}")
    return dict(json.loads(done.stdout))


def _prefer_swap(group: Cgroup) -> None:
    """Cgroup v1: there are no file pages to reclaim, and costly swap must not stop the search for
    others: with the default the OOM killer comes although swap is free."""
    with suppress(FileNotFoundError):
        (group.path / "memory.swappiness").write_text("200")


def run_once(
    machine: Machine, name: str, kind: str, nbytes: int, local: int, prefetch: str
) -> dict[str, Any]:
    """local: pages. Raises CannotError where the kind cannot be had here.

    Where reclaim falls behind the cgroup's limit the kernel kills the program: it is run again with
    more local memory than ours, if need be. `room`: what it had in the end, over ours.
    """
    if kind not in AGAINST.values():
        return run_child(name, kind, nbytes, local, prefetch, None) | {"room": 1.0}
    swap = nbytes + nbytes // 4 + (64 << 20)
    own = PROGRAMS[name].scratch + nbytes // PAGE * 8 + versus.OWN_BYTES
    for room in ROOM:
        with ExitStack() as stack:
            group = stack.enter_context(machine.cgroup(int(local * room) * PAGE + own))
            _prefer_swap(group)
            stack.enter_context(machine.zram(swap) if kind == "zram" else machine.swap_file(swap))
            with suppress(versus.OutOfMemory):
                return run_child(name, kind, nbytes, local, prefetch, group) | {"room": room}
    raise EdmError(f"{name} on {kind}: the cgroup ran out of memory; more MiB may do")


def measure(
    machine: Machine, name: str, nbytes: int, local: int, prefetch: str, repeats: int, busy: bool
) -> list[dict[str, Any]]:
    """A row a kind: median seconds, slowdown over plain, and ours over the kernel's."""
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    refused: dict[str, str] = {}
    load: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for round_ in range(repeats):
        for kind in KINDS:
            if kind in refused:
                continue
            print(f"{name}, {kind}, round {round_ + 1} of {repeats}", file=sys.stderr)
            load[kind].append(versus.busy_cores())
            try:
                with versus.other_core_busy() if busy else ExitStack():
                    runs[kind].append(run_once(machine, name, kind, nbytes, local, prefetch))
            except CannotError as error:
                refused[kind] = str(error)
    if len({run["digest"] for kind in KINDS for run in runs[kind]}) > 1:
        raise EdmError(f"{name}: the results are NOT all the same; please report this")

    def ratio(kind: str, other: str) -> float | None:
        pairs = list(zip(runs[kind], runs[other], strict=False))
        return (
            statistics.median(a["elapsed_s"] / b["elapsed_s"] for a, b in pairs) if pairs else None
        )

    rows = []
    for kind in KINDS:
        row: dict[str, Any] = {"program": name, "kind": kind, "MiB": nbytes >> 20}
        if kind in refused:
            rows.append(row | {"refused": refused[kind]})
            continue
        elapsed = [run["elapsed_s"] for run in runs[kind]]
        row |= {"seconds": statistics.median(elapsed), "least": min(elapsed), "most": max(elapsed)}
        row["slowdown"] = ratio(kind, "plain")
        row["of_kernel"] = ratio(kind, AGAINST[kind]) if kind in AGAINST else None
        row["room"] = max(run["room"] for run in runs[kind])
        row["major_faults"] = round(statistics.median(r["major_faults"] for r in runs[kind]))
        idle = statistics.median(load[kind]) < versus.LOADED * (os.cpu_count() or 1)
        row["load"] = ("other core busy" if busy else "idle") if idle else "loaded"
        rows.append(row | {"runs": repeats})
    return rows


COLUMNS = (
    *("program", "kind", "MiB", "seconds", "least", "most", "slowdown", "of_kernel"),
    *("room", "major_faults", "runs", "load"),
)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, kind, size, limit, group, prefetch = sys.argv[2:]
        return child(name, kind, int(size), int(limit), group, prefetch)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default=",".join(PROGRAMS), metavar="A,B")
    parser.add_argument("--mib", type=int, default=256, metavar="N", help="of arrays")
    parser.add_argument("--local", default="25%", metavar="SIZE", help="a share, 64MiB, or pages")
    parser.add_argument("--prefetch", default="stride", metavar="NAME", help="the region's")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--busy", action="store_true", help="a process computes on the other core")
    parser.add_argument("--folder", default="/var/tmp", help="for swap and page files, on a disk")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.json")
    args = parser.parse_args()
    names = args.programs.split(",")
    if unknown := sorted(set(names) - set(PROGRAMS)):
        raise UsageError(f"unknown program {unknown[0]}; there are {', '.join(PROGRAMS)}")
    if args.mib < 16 or args.repeats < 1:
        raise UsageError("at least 16 MiB, and one repeat")
    nbytes = args.mib << 20
    local = parse_pages(args.local, nbytes // PAGE, "local")
    tempfile.tempdir = os.environ["TMPDIR"] = args.folder
    with Machine(args.folder) as machine:
        rows = [
            row
            for name in names
            for row in measure(machine, name, nbytes, local, args.prefetch, args.repeats, args.busy)
        ]
    title = f"{args.local} of {args.mib} MiB local; of_kernel: ours over swap's, in turn"
    table_console().print(rows_table([r for r in rows if "refused" not in r], COLUMNS, title))
    for row in rows:
        if "refused" in row:
            print(f"{row['program']}, {row['kind']}: refused: {row['refused']}")
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_cli(main))
