"""How fast the simulator is, how many SimPy events a fault takes, and where the time goes.

Prints simulated faults per second of one core for four models, references a second that hit,
and time and peak memory of 10 M Zipf references at 25 % local, which a process of its own
runs. Seconds are CPU time, so that what else runs on the machine counts little; the best of
three. --profile adds the functions that take the most time.

    python benchmarks/simulator.py [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import resource
import time
from multiprocessing.connection import Connection
from typing import Any

from edm_sim.costs import Costs
from edm_sim.model import Model
from edm_workload import Experiment
from edm_workload.metadata import collect

CASES: dict[str, dict[str, Any]] = {
    "one thread, next to its store": {},
    "one thread, rdma": {"network": "rdma"},
    "8 threads, DMS with queues": {"threads": 8, "dms": True, "network": "rdma"},
    "4 threads, 4 EMUs": {"threads": 4, "emus": 4, "network": "rdma"},
}
ROUNDS = 3
TEN_MILLION = Experiment.from_options(refs=10_000_000, local="25%")


def run(experiment: Experiment) -> tuple[float, Model]:
    """CPU seconds of a run, its trace made before, and the model as it ended."""
    len(experiment.trace)
    model = Model(experiment, Costs())
    begin = time.process_time()
    model.run()
    return time.process_time() - begin, model


def faults_per_second(name: str, options: dict[str, Any]) -> None:
    experiment = Experiment.from_options(refs=300_000, **options)
    seconds, model = min((run(experiment) for _ in range(ROUNDS)), key=lambda ran: ran[0])
    faults = sum(i.pager.stats()["faults"] for i in model.instances)
    events = next(model.env._eid)  # SimPy numbers the events it schedules
    print(f"{name:32} {faults / seconds / 1e3:6.0f} k faults/s  {events / faults:.2f} events each")


def hits_per_second() -> None:
    """16 pages, all local: but for the first touches everything hits."""
    experiment = Experiment.from_options(refs=20_000_000, pages=16, local="100%", trace="loop")
    seconds = min(run(experiment)[0] for _ in range(ROUNDS))
    print(f"{'hits':32} {len(experiment.trace) / seconds / 1e6:6.0f} M references/s")


def ten_million(answer: Connection) -> None:
    begin = time.process_time()
    run(TEN_MILLION)
    seconds = time.process_time() - begin
    answer.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    profile = parser.parse_args().profile
    facts = collect()
    load = f"{facts['machine_load']} {facts['load_average']}"
    print(f"{facts['cpu']}, {facts['cores']} cores, {load}; CPU time")
    for name, options in CASES.items():
        faults_per_second(name, options)
    hits_per_second()
    there, here = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=ten_million, args=(here,))
    worker.start()
    seconds, mebibytes = there.recv()
    worker.join()
    print(f"{'10 M zipf at 25 % local':32} {seconds:6.1f} s, {mebibytes:.0f} MiB at its peak")
    if profile:
        for name in ("one thread, next to its store", "8 threads, DMS with queues"):
            experiment = Experiment.from_options(refs=100_000, **CASES[name])
            profiler = cProfile.Profile()
            profiler.runcall(run, experiment)
            print(f"\n{name}")
            pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()
