"""What a policy costs: nanoseconds a hit, nanoseconds a miss, bytes a page, under each observation.

    python benchmarks/policy_costs.py [-o docs/policies/README.md] [--evict lru,arc]

The pager drives itself (Pager.run_classic: high = limit, low = limit - 1, one eviction at a time).
Two runs over a Zipf trace are timed, in CPU seconds of one core:

    hits    the references lie within `limit` pages, all resident: what is left is the hit's cost
    mixed   the references lie within the whole region; ns a miss = (the run's nanoseconds -
            hits * ns a hit) / misses. Under faults and idle that is the events of a fault and of
            an eviction, the marks and the rescues of idle among them; no page is moved.

Policies and observations take turns, --repeat times; the figures are medians. bytes a page is the
memory of the whole pager divided by the region's pages, a few KiB that do not grow among it; the
last column is what the registry promises for the part that grows with the region, at most.

-o replaces what stands between the two marker lines of that file.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edm_policy import EdmError, Pager, PolicyConfig, evictors, next_uses
from edm_policy.config import OBSERVE
from edm_workload import synth
from edm_workload.metadata import collect

BEGIN, END = "<!-- policy_costs begin -->", "<!-- policy_costs end -->"
SPEC = "zipf:1.0"
PAGER_BYTES = 2

Case = tuple[str, str]  # evictor, observation


def make(case: Case, pages: int, limit: int) -> Pager:
    evict, observe = case
    return Pager(
        PolicyConfig(
            pages=pages, limit=limit, high=limit, low=limit - 1, evict=evict, observe=observe
        )
    )


def cpu_ns(pager: Pager, page: np.ndarray, following: np.ndarray) -> tuple[int, int]:
    """(CPU nanoseconds, misses) of one run."""
    if evictors()[str(pager.config.evict)].needs_future:
        pager.set_future(following)
    start = time.process_time_ns()
    misses = pager.run_classic(page)
    return time.process_time_ns() - start, misses


class Costs:
    """Figures of every case: ns_hit, ns_miss, misses, bytes a page."""

    def __init__(self, pages: int, refs: int, limit: int, seed: int) -> None:
        self.pages, self.limit = pages, limit
        self.near = synth(SPEC, limit, refs, seed=seed).page.astype(np.uint32)
        self.far = synth(SPEC, pages, refs, seed=seed).page.astype(np.uint32)
        self.near_next, self.far_next = next_uses(self.near, pages), next_uses(self.far, pages)
        self.ns_hit: dict[Case, list[float]] = defaultdict(list)
        self.ns_miss: dict[Case, list[float]] = defaultdict(list)
        self.misses: dict[Case, int] = {}
        self.bytes: dict[Case, float] = {}

    def measure(self, case: Case) -> None:
        resident = make(case, self.pages, self.limit)
        cpu_ns(resident, self.near, self.near_next)
        ns, missed = cpu_ns(resident, self.near, self.near_next)
        assert not missed, f"{case}: {missed} misses where all is resident"
        hit = ns / self.near.size
        pager = make(case, self.pages, self.limit)
        ns, misses = cpu_ns(pager, self.far, self.far_next)
        self.ns_hit[case].append(hit)
        self.ns_miss[case].append((ns - hit * (self.far.size - misses)) / misses)
        self.misses[case] = misses
        self.bytes[case] = pager.bytes / self.pages

    def table(self) -> list[str]:
        names = "policy | observation | ns a hit | ns a miss | miss ratio"
        lines = [f"| {names} | bytes a page | of which grow |", "|---|---|--:|--:|--:|--:|--:|"]
        for case in self.misses:
            most = PAGER_BYTES + evictors()[case[0]].bytes_per_page
            lines.append(
                f"| {case[0]} | {case[1]} | {median(self.ns_hit[case]):.1f} "
                f"| {median(self.ns_miss[case]):.0f} | {self.misses[case] / self.far.size:.4f} "
                f"| {self.bytes[case]:.1f} | {most} |"
            )
        return lines


def cases(names: list[str]) -> list[Case]:
    """Each evictor with every observation it can live with."""
    levels = {name: OBSERVE[OBSERVE.index(evictors()[name].needs) :] for name in names}
    return [(name, observe) for name in names for observe in levels[name]]


def report(args: argparse.Namespace, metadata: dict[str, Any]) -> str:
    average = metadata["load_average"]
    costs = Costs(args.pages, args.refs, args.pages // 4, args.seed)
    todo = cases(args.evict.split(","))
    for turn in range(args.repeat):
        print(f"turn {turn + 1} of {args.repeat}", file=sys.stderr)
        for case in todo:
            costs.measure(case)
    load = "unknown" if average is None else f"{average[0]:.1f}"
    return "\n".join(
        [
            f"`{SPEC}`, {args.refs:,} references, {args.pages:,} pages, limit "
            f"{args.pages // 4:,}, seed {args.seed}; CPU time, medians of {args.repeat} in turn. "
            f"{metadata['cpu']}, Python {metadata['python']}, {metadata['date'][:10]}; the machine "
            f"was {metadata['machine_load']} (one-minute load average {load} on "
            f"{metadata['cores']} cores).",
            "",
            *costs.table(),
        ]
    )


def put(path: Path, text: str) -> None:
    """Replaces what stands between the markers. ValueError where they are missing."""
    old = path.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise ValueError(f"{path} needs one line '{BEGIN}' and after it one line '{END}'")
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, help="file with the markers; none: print only")
    parser.add_argument("--evict", default=",".join(evictors()), help="names, by commas")
    parser.add_argument("--pages", type=int, default=32_768)
    parser.add_argument("--refs", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    unknown = [name for name in args.evict.split(",") if name not in evictors()]
    if unknown:
        parser.error(f"unknown evictor {unknown[0]}; there are: {', '.join(sorted(evictors()))}")
    if args.pages < 8 or args.refs < args.pages or args.repeat < 1:
        parser.error("--pages must be 8 or more, --refs not below --pages, --repeat 1 or more")
    metadata = collect()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        text = report(args, metadata)
        if args.output:
            put(args.output, text)
    except (EdmError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
