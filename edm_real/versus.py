"""versus: the same accesses with the same local memory, by edm_real and by the kernel's own paging.

    zram      anonymous memory under a memory cgroup, swap on zram (lz4)
    swapfile  the same, swap on a file on the disk
    mmap      a shared mapping of a file under the cgroup, MADV_RANDOM unless in order

benchmarks/versus/touch.c does the accesses; versus_machine sets the rest up and undoes it.
All kinds run in turn, round by round, so that what else the machine does meets all alike. The
cgroup's limit is the local memory and what the program itself needs (OWN_BYTES, page tables).
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edm_policy.errors import CannotError, EdmError, UsageError
from edm_real.run import run
from edm_real.versus_machine import PAGE, Machine
from edm_workload import Experiment, Result
from edm_workload.metadata import LOADED
from edm_workload.result import rows_table, table_console

KINDS = ("zram", "swapfile", "mmap")
REPEATS = 5
PAGES, REFS = 16384, 100_000
TOUCH_FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "versus"
RUN_S_MAX = 600
KILLED_MAX = 4
MMAP_LOCAL_MIN = 2048
"""Local pages that a written mapped file needs under a cgroup. Reclaim leaves dirty pages of files
to the flusher; where most of the cgroup is dirty it sleeps 0.1 s at a time or calls the OOM killer
(Linux 6.18, a sequential writer, 25 % local: 24 us an access with 4,096 pages, 45 with 2,048,
200 with 1,024, 1,400 with 512)."""
WRITES = np.uint32(1 << 31)
OWN_BYTES = 256 << 10
"""What touch and its kernel structures hold beside region and page tables (measured: the
resident part of the region then is the local memory to within 1 %; of a mapped file's it is
up to 4 % less, because the file system's records of its pages are charged, too)."""

Row = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Access:
    """What is run: which pages, in which order, how much of them is local.

    pattern: "uniform", "seq", "stride:K", or (pages, writes): u32 page numbers and bools, an entry
    each reference. refs and write hold for named patterns. fill: what is in the pages at the
    start: "none" (never touched), "word" (8 bytes and zeros), "half" (half of it compresses
    to nothing, half not at all), "random".
    """

    pattern: str | tuple[np.ndarray, np.ndarray]
    pages: int
    local_pages: int
    refs: int = 200_000
    write: bool = True
    seed: int = 1
    fill: str = "half"

    @property
    def in_order(self) -> bool:
        return self.pattern == "seq"

    @property
    def writes(self) -> bool:
        return self.write if isinstance(self.pattern, str) else bool(np.any(self.pattern[1]))

    def arguments(self, folder: Path) -> list[str]:
        """touch's arguments; a trace is written to `folder` for it."""
        args = ["--pages", str(self.pages), "--fill", self.fill, "--huge", "never"]
        if isinstance(self.pattern, str):
            args += ["--pattern", self.pattern, "--refs", str(self.refs), "--seed", str(self.seed)]
            return [*args, "--write"] if self.write else args
        page, write = self.pattern
        path = folder / "refs.u32"
        if not path.exists():
            records = page.astype("<u4")
            records[np.asarray(write, dtype=bool)] |= WRITES
            records.tofile(path)
        return [*args, "--refs-file", str(path)]


def busy_cores(seconds: float = 0.2) -> float:
    """How many cores are at work, by the kernel's count over a moment; call it between runs."""

    def idle_and_all() -> tuple[int, int]:
        fields = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields)

    idle, total = idle_and_all()
    time.sleep(seconds)
    idle_now, total_now = idle_and_all()
    share_idle = (idle_now - idle) / max(1, total_now - total)
    return (1 - min(1.0, share_idle)) * (os.cpu_count() or 1)


@contextlib.contextmanager
def other_core_busy() -> Iterator[None]:
    """A process that computes on the last core; it ends with this, or when we die."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise CannotError("versus: one core only; the loaded run needs another to keep busy")
    spin = (
        "import ctypes, os, signal\n"
        "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"  # PR_SET_PDEATHSIG
        f"os.sched_setaffinity(0, {{{cores[-1]}}})\n"
        f"while os.getppid() == {os.getpid()}: sum(range(10**6))"
    )
    process = subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.DEVNULL)
    try:
        time.sleep(0.2)  # until it has started
        yield
    finally:
        process.kill()
        process.wait()


def _touch() -> Path:
    """The program, built if need be."""
    program = TOUCH_FOLDER / "touch"
    try:
        make = ["make", "-sC", str(TOUCH_FOLDER)]
        subprocess.run(make, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        raise CannotError("versus: make is missing: sudo apt install make gcc") from None
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", b"") or b""
        why = (said.decode().strip().splitlines() or [str(error)])[0]
        raise CannotError(f"versus: {program}.c does not compile ({why})") from error
    return program


class OutOfMemory(EdmError):
    """The kernel killed touch: reclaim fell behind the cgroup's limit. It happens, rarely."""


def run_touch(command: Sequence[str], timeout_s: float = RUN_S_MAX) -> Row:
    """What touch measured. Raises EdmError when it ended badly, or found wrong contents."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EdmError(f"versus: touch did not end in {timeout_s:g} s; use fewer refs") from error
    if done.returncode < 0:
        raise OutOfMemory(
            f"versus: touch was killed by signal {-done.returncode}: the cgroup ran out of memory "
            "(its swap could not keep up); try again, or with a larger local memory"
        )
    if not done.stdout:
        raise EdmError(f"versus: {done.stderr.strip() or 'touch said nothing'}")
    measured: Row = json.loads(done.stdout)
    if not measured["verified"]:
        raise EdmError("versus: page contents were NOT as written; please report this")
    return measured


def measure(machine: Machine, kind: str, access: Access, scratch: Path) -> Row:
    """One run of one kind under the kernel, set up before and undone after it.

    Run again when the cgroup's OOM killer ended it, once the disk has nothing else to write;
    `killed` says how often it did. Raises CannotError where the kind cannot be had here or means
    nothing, EdmError when the run failed.
    """
    for killed in range(KILLED_MAX):
        with contextlib.suppress(OutOfMemory):
            return _measure_once(machine, kind, access, scratch) | {"killed": killed}
        os.sync()
    return _measure_once(machine, kind, access, scratch) | {"killed": KILLED_MAX}


def _measure_once(machine: Machine, kind: str, access: Access, scratch: Path) -> Row:
    region = access.pages * PAGE
    limit = access.local_pages * PAGE + access.pages * 8 + OWN_BYTES
    command = [str(_touch()), *access.arguments(scratch)]
    swap = region + region // 4 + (1 << 20)  # room for what swap slots waste
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(machine.cgroup(limit))
        if kind == "zram":
            stack.enter_context(machine.zram(swap))
        elif kind == "swapfile":
            stack.enter_context(machine.swap_file(swap))
        else:
            if access.writes and access.local_pages < MMAP_LOCAL_MIN:
                raise CannotError(
                    f"versus: mmap with {access.local_pages:,} local pages would measure the "
                    "kernel's sleep, not its paging: it hardly reclaims a written mapped file in "
                    f"so small a cgroup; use at least {MMAP_LOCAL_MIN:,} (--pages, --local)"
                )
            command += ["--file", str(stack.enter_context(machine.file(region)))]
            if not access.in_order:
                command.append("--random")  # or the disk's read-ahead fetches hundreds of pages
        return run_touch(group.command(*command))


def _summary(kind: str, access: Access, runs: Sequence[Row], busy: Sequence[float]) -> Row:
    """Medians of the runs, times in microseconds."""

    def median(key: str) -> float:
        return statistics.median(run[key] for run in runs)

    means = [run["elapsed_s"] / run["accesses"] * 1e6 for run in runs]
    row: Row = {"kind": kind, "pages": access.pages, "local": access.local_pages}
    row |= {"refs": runs[0]["accesses"], "runs": len(runs)}
    row |= {"mean_us": statistics.median(means), "least_us": min(means), "most_us": max(means)}
    for name in ("p50", "p90", "p99", "p999"):
        if f"{name}_ns" in runs[0]:
            row[f"{name}_us"] = median(f"{name}_ns") / 1000
    for name in ("major_faults", "minor_faults", "faults", "resident_pages", "peak_rss"):
        if name in runs[0]:
            row[name] = round(median(name))
    row["killed"] = sum(run.get("killed", 0) for run in runs)
    row["busy_cores"] = statistics.median(busy)
    row["load_1min"] = os.getloadavg()[0]
    return row


def compare(
    access: Access,
    own: Callable[[], Row] | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    repeats: int = REPEATS,
    busy: bool = False,
    folder: str | Path = "/var/tmp",
    progress: Progress = lambda text: None,
) -> list[Row]:
    """Run `own` and every kind in turn, `repeats` times; a row each, with medians.

    own: runs our side once and gives at least {"accesses": N, "elapsed_s": S}. busy: a process
    computes on the other core all the while. A row has kind, mean_us (elapsed time over accesses),
    percentiles of an access, faults, resident_pages, and: own_ratio, our mean over that kind's
    (below 1: we are faster; the median of the rounds' ratios); load, "idle" or "loaded" by
    what else was running before each run, or "other core busy". A kind that this machine
    refuses is a row with `refused`, the reason.

    Raises CannotError when all kinds are refused, EdmError when a run failed.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"versus: unknown kind {kind}; there are {', '.join(KINDS)}")
    runs: dict[str, list[Row]] = {}
    seen: dict[str, list[float]] = {}
    refused: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(Machine(folder))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edm-versus-")))
        for round_ in range(repeats):
            for kind in (*(("edm",) if own else ()), *kinds):
                if kind in refused:
                    continue
                progress(f"{kind}, round {round_ + 1} of {repeats}")
                seen.setdefault(kind, []).append(busy_cores())
                try:
                    with other_core_busy() if busy else contextlib.nullcontext():
                        run = own() if own and kind == "edm" else None
                        run = run or measure(machine, kind, access, scratch)
                except CannotError as error:
                    if kind == "edm" or len(refused) == len(kinds) - 1:
                        raise
                    refused[kind] = str(error)
                    continue
                runs.setdefault(kind, []).append(run)
    return _rows(access, runs, seen, refused, busy)


def _rows(
    access: Access,
    runs: dict[str, list[Row]],
    seen: dict[str, list[float]],
    refused: dict[str, str],
    busy: bool,
) -> list[Row]:
    rows = []
    for kind, measured in runs.items():
        row = _summary(kind, access, measured, seen[kind])
        idle = row["busy_cores"] < LOADED * (os.cpu_count() or 1)
        row["load"] = ("other core busy" if busy else "idle") if idle else "loaded"
        if "edm" in runs:
            row["own_ratio"] = statistics.median(
                (ours["elapsed_s"] / ours["accesses"]) / (theirs["elapsed_s"] / theirs["accesses"])
                for ours, theirs in zip(runs["edm"], measured, strict=True)
            )
        rows.append(row)
    return rows + [{"kind": kind, "refused": why} for kind, why in refused.items()]


def baselines(
    pattern: str | tuple[np.ndarray, np.ndarray],
    pages: int,
    local_pages: int,
    write: bool = True,
    seed: int = 1,
    kinds: Sequence[str] = KINDS,
    **more: Any,
) -> list[Row]:
    """The kernel's side alone: compare() without `own`; more: refs, fill, and compare()'s."""
    own_keys = {k: more.pop(k) for k in ("refs", "fill") if k in more}
    access = Access(pattern, pages, local_pages, write=write, seed=seed, **own_keys)
    return compare(access, kinds=kinds, **more)


def standard(given: dict[str, Any]) -> Experiment:
    """What `bench --versus` runs without an experiment: read-modify-write, uniform, 25 % local."""
    return Experiment().with_(
        **{"trace": "uniform", "pages": PAGES, "refs": REFS, "local": "25%", "writes": 1.0} | given
    )


def table(
    experiment: Experiment,
    repeats: int = REPEATS,
    keep: Callable[[Result], None] = lambda result: None,
    **more: Any,
) -> list[Row]:
    """`bench --versus`: an experiment on edm_real and on the kernel's paging; rows of compare().

    The kernel's side starts from untouched memory, as a region does. Our row's percentiles are
    left out: a Result's are of faults, not of accesses. keep: is given each of our Results.
    more: kinds, busy, folder, progress. Raises UsageError for several threads (touch has one)
    and for no repeats.
    """
    if experiment.workload.threads != 1:
        raise UsageError("versus compares one thread; leave out --threads")
    if repeats < 1:
        raise UsageError(f"repeats: {repeats}; at least 1")
    trace, sizes = experiment.trace, experiment.resolve()

    def own() -> Row:
        result = run(experiment)
        keep(result)
        if result.verified is False:
            raise EdmError("versus: edm_real's page contents were NOT as written; please report it")
        return {"accesses": result.refs, "elapsed_s": result.elapsed_s, "faults": result.faults}

    write = np.zeros(len(trace), dtype=bool) if trace.write is None else trace.write
    access = Access((trace.page, write), sizes.pages, sizes.limit, fill="none")
    return compare(access, own, repeats=repeats, **more)


COLUMNS = (
    *("kind", "mean_us", "least_us", "most_us", "p50_us", "p99_us", "own_ratio", "runs"),
    *("refs", "faults", "major_faults", "resident_pages", "load"),
)


def print_table(experiment: Experiment, rows: Sequence[Row]) -> None:
    """Rows of table() to stdout, and a line with the reason for each kind that was refused."""
    sizes = experiment.resolve()
    title = f"{experiment.workload.trace}: {sizes.limit} of {sizes.pages} pages local"
    done = [row for row in rows if "refused" not in row]
    table_console().print(rows_table(done, COLUMNS, title))
    for row in rows:
        if "refused" in row:
            print(f"{row['kind']}: refused: {row['refused']}")
    print("medians of the runs, in turn; own_ratio: edm's mean time over this kind's")
