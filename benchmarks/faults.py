"""What a fault costs: edm_real beside the bare floor (and kernel swap), in turn, with medians.

    python benchmarks/faults.py                 all lines, 5 rounds
    python benchmarks/faults.py --rounds 3 --only floor uniform
    sudo python benchmarks/faults.py --swap     kernel swap on zram in the same rounds

Each round measures every line once, so that what else the machine does meets all alike;
figures are medians of the rounds, labelled idle or loaded by what else ran before them. `--busy`
keeps the other core computing meanwhile. Goals are printed beside the ratios, and gate nothing.

Exit codes: 0 ok, 1 a page was not as written, 2 usage, 77 this machine has no userfaultfd.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rounds
from edm_policy.errors import CannotError, EdmError
from edm_real import Region, versus
from rounds import Figures, Line

FLOOR = Path(__file__).resolve().parent / "floor"
FIGURES = ("p50", "mean", "p99", "access", "pages/s", "cpu", "lpet", "faults", "direct")


def pattern(name: str, pages: int, refs: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Page numbers: uniform, seq, stride (every third page), four (streams, interleaved)."""
    i = np.arange(refs, dtype=np.int64)
    if name == "uniform":
        return np.random.default_rng(seed).integers(0, pages, refs, dtype=np.uint32)
    if name == "four":
        quarter = pages // 4
        return (i % 4 * quarter + i // 4 % quarter).astype(np.uint32)
    return (i * (3 if name == "stride" else 1) % pages).astype(np.uint32)


def _lpet_us() -> float:
    """Processor time of LPET's thread so far."""
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().strip() == "edm-lpet":
                return int((task / "schedstat").read_text().split()[0]) / 1000
        except OSError:
            continue
    return 0.0


def _cpu_us() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


def ours(o: argparse.Namespace, seed: int, accesses: str = "uniform", **region: Any) -> Figures:
    """One replay: uniform accesses write, the others read, but for `written`. us, but pages/s.

    (Under exact tracking a prefetched page comes write-protected, so its first write is a fault
    of its own: streams that write gain little by prefetching.)

    access: elapsed over accesses; cpu: processor time of the process over faults, filling and
    checking of the memory included; lpet: LPET's own over pages taken out, during the
    accesses; faults: per access; direct: share of faults that reclaimed by themselves.
    """
    threads, written = region.pop("threads", 1), region.pop("written", accesses == "uniform")
    refs = pattern(accesses, o.pages, o.refs, seed)
    writes = np.full(o.refs, written, np.uint8)
    evicting: list[tuple[float, int]] = []  # LPET's us and the pages taken out, so far

    def look(done: int, of: int) -> None:
        if 0 < done < of:  # not while the memory is filled, or checked
            evicting.append((_lpet_us(), r.stats()["unmapped"]))

    with Region(o.pages, local="25%", **region) as r:
        cpu = _cpu_us()
        got = r.replay(refs, write=writes, threads=threads, fill=True, on_progress=look)
        cpu, all_ = _cpu_us() - cpu, r.stats()
    if not got["verified"]:
        raise EdmError(f"{accesses} {region}: pages were NOT as written")
    latency = got["latency_us"]
    return {
        "p50": latency["p50"], "mean": latency["mean"], "p99": latency["p99"],
        "access": got["elapsed_s"] * 1e6 / got["refs"],
        "pages/s": got["refs"] / got["elapsed_s"],
        "cpu": cpu / all_["faults"],
        "lpet": (evicting[-1][0] - evicting[0][0]) / max(1, evicting[-1][1] - evicting[0][1]),
        "faults": got["faults"] / got["refs"],
        "direct": all_["direct_reclaims"] / all_["faults"],
    }  # fmt: skip


def floor(o: argparse.Namespace, seed: int, mode: str) -> Figures:
    """benchmarks/floor's figures, us."""
    args = [str(FLOOR / "floor"), "--mode", mode, "--write", "--json", "--pages", str(o.pages)]
    args += ["--faults", str(o.refs * 3 // 4), "--seed", str(seed)]
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode:
        raise (CannotError if done.returncode == 77 else EdmError)(done.stderr.strip())
    out = json.loads(done.stdout)
    figures = {k: out["fault_ns"][k] / 1000 for k in ("p50", "mean", "p99")}
    return figures | {"access": out["access_mean_ns"] / 1000}


def no_eviction(o: argparse.Namespace, seed: int) -> Figures:
    """Faults that meet no eviction: all memory local, every page missing once."""
    with Region(o.pages, local="100%") as r:
        refs = np.random.default_rng(seed).permutation(o.pages).astype(np.uint32)
        latency = r.replay(refs, write=np.ones(o.pages, np.uint8))["latency_us"]
    return {k: latency[k] for k in ("p50", "mean", "p99")}


def swap(o: argparse.Namespace, seed: int, accesses: str) -> Figures:
    """Kernel swap on zram under a memory cgroup, one run. Where swap does not keep up the kernel
    kills it: it is tried again, twice."""
    how = (accesses, o.pages, o.pages // 4, accesses == "uniform", seed, ["zram"])
    for tries_left in (2, 1, 0):
        try:
            row = versus.baselines(*how, refs=o.refs, repeats=1)[0]
            break
        except EdmError as error:
            if isinstance(error, CannotError) or not tries_left:
                raise
    return {"access": row["mean_us"], "pages/s": 1e6 / row["mean_us"]}


def _ours(**how: Any) -> Line:
    return lambda o, seed: ours(o, seed, **how)


LINES: dict[str, Line] = {
    "floor fault": lambda o, s: floor(o, s, "fault"),
    "floor loop": lambda o, s: floor(o, s, "loop"),
    "uniform, no eviction": no_eviction,
    "uniform": _ours(),
    "uniform, fifo": _ours(evict="fifo"),
    "uniform, 2 threads": _ours(threads=2),
    "uniform, monitor": _ours(faults="monitor"),
    "uniform, nextn": _ours(prefetch="nextn"),
    "seq": _ours(accesses="seq"),
    "seq, written": _ours(accesses="seq", written=True),
    "seq, nextn": _ours(accesses="seq", prefetch="nextn"),
    "stride": _ours(accesses="stride"),
    "stride, prefetch": _ours(accesses="stride", prefetch="stride"),
    "four": _ours(accesses="four"),
    "four, nextn": _ours(accesses="four", prefetch="nextn"),
}
SWAP: dict[str, Line] = {
    "zram uniform": lambda o, s: swap(o, s, "uniform"),
    "zram seq": lambda o, s: swap(o, s, "seq"),
}
GOALS = (  # line, figure, goal
    ("uniform", "lpet", "<= 2.2"),
    ("seq", "lpet", "<= 1"),
    ("seq, written", "lpet", "<= 1"),
    ("uniform", "direct", "< 0.01"),
)
RATIOS = (  # line, figure, over line, figure, goal
    ("uniform", "p50", "floor fault", "p50", "<= 1.8"),
    ("uniform", "mean", "floor fault", "mean", "<= 1.8"),
    ("uniform", "access", "floor loop", "access", "<= 1.25"),
    ("uniform", "access", "zram uniform", "access", "<= 0.60"),
    ("uniform", "p99", "uniform, no eviction", "p99", "<= 1.5"),
    ("uniform, 2 threads", "pages/s", "uniform", "pages/s", ">= 1.7"),
    ("uniform, monitor", "mean", "uniform", "mean", "<= 2"),
    ("uniform, nextn", "access", "uniform", "access", "<= 1.03"),
    ("seq, nextn", "pages/s", "seq", "pages/s", ">= 3"),
    ("seq, nextn", "pages/s", "zram seq", "pages/s", "> 1"),
    ("stride, prefetch", "pages/s", "stride", "pages/s", ">= 2"),
    ("four, nextn", "pages/s", "four", "pages/s", ">= 2"),
)


def report(medians: dict[str, Figures]) -> list[dict[str, Any]]:
    """Prints the tables; the ratios, as they go into the JSON."""
    rounds.print_table(medians, FIGURES)
    ratios = []
    for name, figure, base, base_figure, goal in RATIOS:
        if name not in medians or base not in medians:
            continue
        value = medians[name][figure] / medians[base][base_figure]
        ratios.append({"ratio": f"{name}: {figure} / {base}", "value": value, "goal": goal})
        print(f"{ratios[-1]['ratio']:56} {value:6.2f}   goal {goal}")
    for name, figure, goal in GOALS:
        if name in medians:
            print(f"{f'{name}: {figure}':56} {medians[name][figure]:6.4g}   goal {goal}")
    return ratios


@contextlib.contextmanager
def ready(busy: bool) -> Iterator[None]:
    """The floor is built, and the other core computes, where it shall."""
    subprocess.run(["make", "-sC", str(FLOOR)], check=True)
    with versus.other_core_busy() if busy else contextlib.nullcontext():
        yield


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    rounds.add_options(p, pages=65536, refs=200_000)
    p.add_argument("--busy", action="store_true", help="the other core computes meanwhile")
    p.add_argument("--swap", action="store_true", help="kernel swap on zram, too (root)")
    o = p.parse_args(argv)
    lines = rounds.chosen(o, LINES | (SWAP if o.swap else {}))
    label = "other core busy" if o.busy else None
    return rounds.run(o, lines, ready(o.busy), report, label)


if __name__ == "__main__":
    sys.exit(main())
