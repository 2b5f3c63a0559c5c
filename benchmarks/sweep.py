"""What a second core brings to a sweep: 200 points with one worker and with one a core, in turn.

Prints the wall-clock of each run, its workers' start included, and the median ratio. A
machine that is busy with something else has no second core to give: the share of the
cores that the sweep got stands beside each run.

    python benchmarks/sweep.py [--points N] [--refs N] [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import pandas as pd

from edm_sim import sweep
from edm_workload import Experiment
from edm_workload.metadata import collect


def grid(points: int, refs: int) -> list[Experiment]:
    """Five evictors at four sizes with as many seeds as it takes."""
    base = Experiment.from_options(pages="16MiB", refs=refs)
    return [
        base.with_(
            evict=("lpet", "fifo", "sieve", "s3fifo", "random")[k % 5],
            local=("10%", "25%", "50%", "75%")[k // 5 % 4],
            seed=1 + k // 20,
        )
        for k in range(points)
    ]


def measure(experiments: list[Experiment], jobs: int) -> tuple[float, float, pd.DataFrame]:
    """Seconds it took, CPU seconds its workers had, and the table."""
    before, begin = os.times(), time.perf_counter()
    table = sweep(experiments, jobs=jobs).frame
    seconds, after = time.perf_counter() - begin, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return seconds, cpu, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--refs", type=int, default=30_000, help="of each point (30,000)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    facts = collect()
    cores = facts["cores"]
    print(f"{facts['cpu']}, {cores} cores, {facts['machine_load']} {facts['load_average']}")
    experiments = grid(args.points, args.refs)
    ratios = []
    for _ in range(args.rounds):
        one, one_cpu, table = measure(experiments, 1)
        many, many_cpu, same = measure(experiments, cores)
        pd.testing.assert_frame_equal(table, same, check_exact=True)
        ratios.append(one / many)
        print(
            f"{args.points} points: 1 worker {one:5.1f} s ({one_cpu / one:.2f} cores)   "
            f"{cores} workers {many:5.1f} s ({many_cpu / many:.2f} cores)   {one / many:.2f} x"
        )
    print(f"median: {statistics.median(ratios):.2f} x one worker, the tables identical")


if __name__ == "__main__":
    main()
