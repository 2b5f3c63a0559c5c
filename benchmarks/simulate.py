"""How fast the simulator is: simulated faults a second of one core, and SimPy events a fault.

python benchmarks/simulate.py
"""

from __future__ import annotations

import time
from itertools import count

from edm_sim.costs import Costs
from edm_sim.model import Model
from edm_workload import Experiment
from edm_workload.metadata import collect

CASES = {
    "one thread, next to its store": {},
    "one thread, rdma": {"network": "rdma"},
    "8 threads, DMS with queues": {"threads": 8, "dms": True, "network": "rdma"},
    "4 threads, 4 EMUs": {"threads": 4, "emus": 4, "network": "rdma"},
}


def main() -> None:
    facts = collect()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['machine_load']} {facts['load_average']}"
    )
    for name, options in CASES.items():
        experiment = Experiment.from_options(refs=500_000, **options)
        len(experiment.trace)
        best = 1e9
        for _ in range(3):
            model = Model(experiment, Costs())
            begin = time.perf_counter()
            model.run()
            best = min(best, time.perf_counter() - begin)
        faults = sum(i.pager.stats()["faults"] for i in model.instances)
        # SimPy numbers the events it schedules; the next number is how many there were.
        events = next(getattr(model.env, "_eid", count()))
        print(
            f"{name:32} {faults / best / 1e3:6.0f} k faults/s  {events / faults:.2f} events a fault"
        )


if __name__ == "__main__":
    main()
