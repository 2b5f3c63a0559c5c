"""What a policy in Python costs: references per second beside its native twin, at 90 % hits.

    python benchmarks/python_policy.py [--hits 0.9] [--repeat 5]

The policies are those of docs/python-policies.md: second chance under idle observation (twin:
lpet), and LRU under exact (twin: lru), which pays for every hit. A reference is a hit with the
chosen share, to a page drawn by Zipf from HOT pages, a tenth of the limit; the others are a loop
over pages that are cold. Python and C take turns; CPU seconds, medians.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import OrderedDict, deque
from statistics import median
from typing import Any

import numpy as np

from edm_policy import EvictionPolicy, Pager, PolicyConfig
from edm_workload import synth
from edm_workload.metadata import collect

LIMIT, HOT, PAGES = 10_000, 1_000, 200_000


class SecondChance(EvictionPolicy):
    """FIFO; the oldest goes round again if it was used since it was last asked about."""

    def start(self, pages: int, limit: int) -> None:
        self.queue: deque[int] = deque()

    def insert(self, page: int) -> None:
        self.queue.append(page)

    def choose(self) -> int | None:
        while self.queue:
            if not self.used(self.queue[0]):
                return self.queue.popleft()
            self.queue.rotate(-1)
        return None

    def remove(self, page: int) -> None:
        self.queue.remove(page)


class Lru(EvictionPolicy):
    """Moves a page to the end at each use."""

    needs = best = "exact"

    def start(self, pages: int, limit: int) -> None:
        self.order: OrderedDict[int, None] = OrderedDict()

    def insert(self, page: int) -> None:
        self.order[page] = None

    def touch(self, page: int) -> None:
        self.order.move_to_end(page)

    def choose(self) -> int | None:
        return self.order.popitem(last=False)[0] if self.order else None

    def remove(self, page: int) -> None:
        del self.order[page]


def trace(refs: int, hits: float, seed: int) -> np.ndarray:
    """u32[refs]: a share `hits` hot (below HOT), the rest a loop over the cold pages."""
    hot = synth("zipf:1.0", HOT, refs, seed=seed).page.astype(np.uint32)
    cold = np.random.default_rng(seed).random(refs) >= hits
    hot[cold] = HOT + np.arange(cold.sum(), dtype=np.uint32) % (PAGES - HOT)
    return hot


def run(evict: Any, observe: str, page: np.ndarray) -> tuple[float, Pager]:
    """(references per CPU second, the pager)."""
    pager = Pager(
        PolicyConfig(
            pages=PAGES, limit=LIMIT, high=LIMIT, low=LIMIT - 1, evict=evict, observe=observe
        )
    )
    start = time.process_time()
    pager.run_classic(page)
    return page.size / (time.process_time() - start), pager


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--refs", type=int, default=1_000_000)
    parser.add_argument("--hits", type=float, default=0.9)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    if args.refs < 1 or not 0 <= args.hits <= 1 or args.repeat < 1:
        parser.error("--refs and --repeat must be 1 or more, --hits 0 to 1")
    metadata = collect()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    page = trace(args.refs, args.hits, args.seed)
    print("| policy | observation | in Python, M refs/s | native twin | miss ratio | rescues |")
    print("|---|---|--:|--:|--:|--:|")
    for mine, twin, observe in ((SecondChance, "lpet", "idle"), (Lru, "lru", "exact")):
        rates: dict[Any, list[float]] = {mine: [], twin: []}
        for _ in range(args.repeat):
            for evict in (mine, twin):
                rate, pager = run(evict, observe, page)
                rates[evict].append(rate)
        stats = pager.stats()
        missed = stats["zero_fills"] + stats["fetches"]
        print(
            f"| {mine.__name__} ({twin}) | {observe} | {median(rates[mine]) / 1e6:.2f} "
            f"| {median(rates[twin]) / 1e6:.1f} | {missed / page.size:.4f} | {stats['rescues']:,} |"
        )
    average = metadata["load_average"]
    print(
        f"\n{metadata['cpu']}, Python {metadata['python']}; the machine was "
        f"{metadata['machine_load']}"
        + ("" if average is None else f" (one-minute load average {average[0]:.1f})")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
