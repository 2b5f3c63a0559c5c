"""How fast the C core takes references: a 10M zipf trace as classical caches, one core.

Prints M references/s for each evictor and size, with the machine's load; the best of three.
    python benchmarks/consume.py [--refs N]
"""

from __future__ import annotations

import argparse
import time

import edm_sim
from edm_workload import Trace, synth
from edm_workload.metadata import collect


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--refs", type=int, default=10_000_000)
    trace = synth("zipf:1.0", 16384, parser.parse_args().refs).dense("address")
    facts = collect()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['machine_load']} {facts['load_average']}"
    )
    for evict in ("fifo", "lru"):
        for size in ("1%", "25%"):
            best = min(_seconds(trace, evict, size) for _ in range(3))
            print(f"{evict:5} {size:>4}  {len(trace) / best / 1e6:6.1f} M references/s")


def _seconds(trace: Trace, evict: str, size: str) -> float:
    begin = time.perf_counter()
    edm_sim.miss_ratio_curve(trace, [evict], [size], jobs=1)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
