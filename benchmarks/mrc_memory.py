"""Time and memory of a sweep: fifty sizes over a trace of 100,000 references.

    python benchmarks/mrc_memory.py
    python benchmarks/mrc_memory.py --evict all --pages 100000

Each evictor in a process of its own, through edm_sim.miss_ratio_curve (what `edm_sim mrc` calls).
Memory is the peak resident size beyond that of the interpreter with its imports: the trace, the
pagers, the table. Time is the wall clock of the sweep alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from edm_policy import evictors

SWEEP = """
import json, resource, sys, time
import edm_sim, edm_sim.__main__
from edm_workload import synth

evict, spec, pages, refs, points = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
imports = peak()
trace = synth(spec, pages, refs, seed=1)
sizes = [max(1, pages * k // points) for k in range(1, points + 1)]
start = time.perf_counter()
edm_sim.miss_ratio_curve(trace, [evict], sizes)
print(json.dumps([imports, peak() - imports, time.perf_counter() - start]))
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--evict", default="all")
    parser.add_argument("--trace", default="zipf:1.0", help="a synthetic one")
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--refs", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=50)
    args = parser.parse_args(argv)
    names = list(evictors()) if args.evict == "all" else args.evict.split(",")
    print(f"{args.points} sizes, {args.refs:,} references of {args.trace}, {args.pages:,} pages")
    print(f"{'evictor':18}{'imports, MiB':>14}{'beyond, MiB':>14}{'seconds':>10}")
    shape = [args.trace, *map(str, (args.pages, args.refs, args.points))]
    for name in names:
        done = subprocess.run(
            [sys.executable, "-c", SWEEP, name, *shape], stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            return 1
        imports, beyond, seconds = json.loads(done.stdout)
        print(f"{name:18}{imports:>14.0f}{beyond:>14.1f}{seconds:>10.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
