"""References per second of our evictors and of libCacheSim's, on the same traces and one core.

    python benchmarks/evictors.py                 needs the extra `bench` (libcachesim)
    python benchmarks/evictors.py --evict lru,lfu --repeat 1 -o -

Two traces: Zipf, and the scan-and-loop mix (edm_workload.synth: zipf:1.0, scanloop). Cache: 10 %
of the pages. Per trace and evictor the two take turns, --repeat times; the figure is the median
of the CPU seconds spent on the trace. What is timed: for us one call, the trace in memory, page
numbers below a known bound; for them one process_trace() with their native reader on an
oracleGeneral file just written (in the page cache), where the next access of every reference is
given. Making a cache is not timed, on either side; for belady neither is finding the next uses
(the report says what that takes). Their hash table begins at 2^hashpower slots: 24 is the
library's default, and 20 suits this cache better; both are measured, each has its ratio.
Misses need not agree where definitions differ; the report gives both.

Writes benchmarks/evictors.md (-o; - for the screen only).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edm_policy import Pager, PolicyConfig, UsageError, evictors, next_uses
from edm_workload.metadata import collect
from edm_workload.synth import synth

THEIRS = {
    "lru": "LRU",
    "fifo": "FIFO",
    "clock": "Clock",
    "sieve": "Sieve",
    "s3fifo": "S3FIFO",
    "arc": "ARC",
    "lirs": "LIRS",
    "2q": "TwoQ",
    "lfu": "LFU",
    "wtinylfu": "WTinyLFU",
    "belady": "Belady",
    "clock-pro": "ClockPro",
    "hyperbolic": "Hyperbolic",
    "random": "Random",
}
"""Our name -> theirs. Those without a twin there are timed alone when asked for."""

TARGET = dict.fromkeys(["lru", "fifo", "clock", "sieve"], 8) | dict.fromkeys(
    ["s3fifo", "arc", "lirs", "2q", "lfu", "wtinylfu", "belady"], 5
)
"""How many times their references per second ours are to be."""

SYNTHS = ("zipf:1.0", "scanloop")
ORACLE = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
NEVER = 2**32 - 1


@dataclass(frozen=True)
class Row:
    """One evictor on one trace: references per second and miss ratios."""

    trace: str
    evict: str
    ours: float
    our_misses: float
    theirs: dict[int, float]
    """By hashpower; empty where there is no twin."""
    their_misses: float | None

    def cells(self, hashpowers: list[int]) -> list[str]:
        target = TARGET.get(self.evict)
        measured = [self.theirs.get(power) for power in hashpowers]
        return [
            self.trace,
            self.evict,
            f"{self.ours / 1e6:.1f}",
            *("" if theirs is None else f"{theirs / 1e6:.2f}" for theirs in measured),
            *("" if theirs is None else f"{self.ours / theirs:.1f}" for theirs in measured),
            "" if target is None else str(target),
            f"{self.our_misses:.4f}",
            "" if self.their_misses is None else f"{self.their_misses:.4f}",
        ]


def write_oracle(path: Path, page: np.ndarray, following: np.ndarray) -> None:
    """The trace as their native reader takes it; object sizes 1, next access -1 for never."""
    rows = np.zeros(page.size, ORACLE)
    rows["id"] = page
    rows["size"] = 1
    rows["next"] = np.where(following == NEVER, -1, following.astype(np.int64) + 1)
    rows.tofile(path)


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def our_run(
    name: str, page: np.ndarray, following: np.ndarray, pages: int, size: int
) -> tuple[float, float]:
    """(CPU seconds, miss ratio)."""
    config = PolicyConfig(
        pages=pages, limit=size, high=size, low=size - 1, evict=name, observe="exact"
    )
    pager = Pager(config)
    if evictors()[name].needs_future:
        pager.set_future(following)
    seconds, misses = cpu_seconds(lambda: pager.run_classic(page))
    return seconds, misses / page.size


def their_run(name: str, path: Path, size: int, hashpower: int) -> tuple[float, float]:
    """(CPU seconds, miss ratio)."""
    import libcachesim

    reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    cache = getattr(libcachesim, THEIRS[name])(cache_size=size, hashpower=hashpower)
    seconds, (miss_ratio, _) = cpu_seconds(lambda: cache.process_trace(reader))
    return seconds, miss_ratio


def measure(spec: str, names: list[str], args: argparse.Namespace) -> tuple[list[Row], float]:
    """The rows of one trace, and the CPU seconds its next uses took."""
    page = synth(spec, args.pages, args.refs, seed=args.seed).page.astype(np.uint32)
    size = args.pages // 10
    took, following = cpu_seconds(lambda: next_uses(page, args.pages))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.oracleGeneral"
        write_oracle(path, page, following)
        for name in names:
            mine = []
            powers = args.hashpowers if name in THEIRS and not args.alone else []
            other: dict[int, list[tuple[float, float]]] = {power: [] for power in powers}
            for _ in range(args.repeat):
                mine.append(our_run(name, page, following, args.pages, size))
                for power in powers:
                    other[power].append(their_run(name, path, size, power))
            row = Row(
                spec,
                name,
                page.size / median(s for s, _ in mine),
                mine[0][1],
                {k: page.size / median(s for s, _ in runs) for k, runs in other.items()},
                other[powers[0]][0][1] if powers else None,
            )
            rows.append(row)
            print("  ".join(row.cells(args.hashpowers)), file=sys.stderr, flush=True)
    return rows, took


def headings(hashpowers: list[int]) -> list[str]:
    return [
        *("trace", "evictor", "ours, M refs/s"),
        *(f"theirs, 2^{power}" for power in hashpowers),
        *(f"ratio, 2^{power}" for power in hashpowers),
        *("target", "our miss ratio", "theirs"),
    ]


def report(rows: list[Row], took: float, args: argparse.Namespace, metadata: dict[str, Any]) -> str:
    """The table in Markdown, with what is needed to make it again."""
    command = shlex.join(["python", "benchmarks/evictors.py", *sys.argv[1:]])
    head = headings(args.hashpowers)
    table = [head, ["---"] * len(head), *(row.cells(args.hashpowers) for row in rows)]
    average = metadata["load_average"]
    load = "unknown" if average is None else f"{average[0]:.1f}"
    return "\n".join(
        [
            "# Evictors: references per second, against libCacheSim",
            "",
            f"    {command}",
            "",
            f"{args.refs:,} references, {args.pages:,} pages, cache {args.pages // 10:,} frames, "
            f"seed {args.seed}; medians of {args.repeat}, taken in turn, CPU seconds, one core.",
            f"libcachesim {'not used' if args.alone else version('libcachesim')}, native reader, "
            f"hash tables of {' and '.join(f'2^{k}' for k in args.hashpowers)} slots at first "
            f"(default: 24). {metadata['cpu']}, {metadata['cores']} cores, "
            f"{metadata['platform']}, Python {metadata['python']}, {metadata['date']}, commit "
            f"{metadata['git_commit']}; the machine was {metadata['machine_load']} "
            f"(one-minute load average {load}).",
            "What is timed, and what is not: the head of benchmarks/evictors.py. Finding the next "
            f"uses for belady, not in its figure, took {took:.2f} CPU seconds a trace.",
            "",
            *("| " + " | ".join(cells) + " |" for cells in table),
            "",
        ]
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--evict", default=",".join(TARGET), help="names, separated by commas")
    parser.add_argument("--refs", type=int, default=10_000_000)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hashpower", default="24,20", help="log2 of their hash tables' sizes")
    parser.add_argument("--alone", action="store_true", help="ours only")
    parser.add_argument("-o", "--output", default=str(Path(__file__).with_suffix(".md")))
    args = parser.parse_args(argv)
    unknown = [name for name in args.evict.split(",") if name not in evictors()]
    if unknown:
        parser.error(f"unknown evictor {unknown[0]}; there are: {', '.join(sorted(evictors()))}")
    try:
        args.hashpowers = [int(power) for power in args.hashpower.split(",")]
    except ValueError:
        parser.error(f"--hashpower {args.hashpower}: write numbers with commas, for example 24,20")
    if args.pages < 10 or args.refs < 1 or args.repeat < 1:
        parser.error("--pages must be 10 or more, --refs and --repeat 1 or more")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if not args.alone:
        try:
            import libcachesim  # noqa: F401
        except ImportError:
            print(
                "libcachesim is not installed: pip install libcachesim, or --alone", file=sys.stderr
            )
            return 77
    metadata = collect()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: list[Row] = []
    took = []
    try:
        for spec in SYNTHS:
            of_trace, seconds = measure(spec, args.evict.split(","), args)
            rows += of_trace
            took.append(seconds)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    text = report(rows, median(took), args, metadata)
    if args.output != "-":
        Path(args.output).write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
