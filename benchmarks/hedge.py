"""Hedged reads against a slow replica: real memory and the simulator, side by side.

    python benchmarks/hedge.py                      experiments/hedged-reads.toml, about 40 s
    python benchmarks/hedge.py --refs 2000 --rounds 1

A store whose round trip is 0.2 ms, and 20 ms for one in a hundred (lognormal), alone and beside a
steady one (0.2 ms, p99 0.4 ms). On real memory the stores are `shaped:` ones; in the simulator
EMUs with the same distributions. What is measured are faults that fetch, as the program sees them:
p50 and p99 (medians of the rounds, every line in turn), and how many reads members were asked for
each read.

Exit codes: 0 ok, 1 a page was not as written, 2 usage, 77 this machine has no userfaultfd.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import edm_sim
import rounds
from edm_policy.errors import CannotError, EdmError
from edm_real import Region, versus
from edm_workload import Experiment, Trace
from rounds import Figures

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "hedged-reads.toml"
READS = {"slow alone": "one", "first": "first", "hedged": "hedged"}


def urls(e: Experiment) -> dict[str, str]:
    """The store of each line, from the experiment's [sim]."""

    def shaped(emu: int) -> str:
        p50, _, p99 = str(e.sim.service_of(emu)).removeprefix("lognormal:").partition("-")
        return f"shaped:p50={p50}us,p99={p99}us,seed={emu},mem:"

    both = f"replicated:[{shaped(1)}],[{shaped(2)}]"
    hedge = f"{e.sim.hedge_us:g}us"
    return {
        "slow alone": shaped(1),
        "first": f"{both}?read=first",
        "hedged": f"{both}?read=hedge:{hedge}",
    }


def real(e: Experiment, url: str, seed: int) -> Figures:
    """One replay of the experiment's trace, every page stored before. The latency is of its faults,
    the counts are of the reads that check every page at the end, too.
    """
    sizes = e.resolve()
    page = e.with_(seed=seed).trace.arrays()[0]
    local, evict = sizes.limit, e.policy.evict
    with Region(sizes.pages, local=local, evict=evict, store=url, deadline_s=10) as r:
        got = r.replay(page, write=np.zeros(len(page), np.uint8), fill=True)
        counts = r.stats()["store_stats"]
    if not got["verified"]:
        raise EdmError(f"{url}: pages were NOT as written")
    return {
        "p50": got["latency_us"]["p50"],
        "p99": got["latency_us"]["p99"],
        "requests": counts["asked"] / counts["gets"] if counts["asked"] else 1.0,
        "hedges": counts["hedges"] / counts["gets"],
        "won": counts["hedges_won"] / max(1, counts["hedges"]),
    }


def simulated(e: Experiment, line: str, seed: int) -> Figures:
    """The same in the simulator: a pass that writes every page, then the trace's reads."""
    alone = line == "slow alone"
    service = {"1": e.sim.service_of(1)} if alone else e.sim.emu_service
    sizes, page = e.resolve(), e.with_(seed=seed).trace.arrays()[0]
    pages = np.concatenate([np.arange(sizes.pages, dtype=page.dtype), page])
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/reads.parquet"
        Trace(page=pages, write=np.arange(len(pages)) < sizes.pages).save(path)
        run = edm_sim.observe(
            e.with_(
                **{"seed": seed, "read": READS[line], "emu_service": service, "emus": 2 - alone},
                **{"replicas": 2 - alone, "trace": path, "refs": None, "pages": sizes.pages},
            )
        )
    fetches = run.events[run.events.event == "fetch"].duration_ns / 1000
    fetches = fetches[2 * sizes.limit :]  # the last written pages have been stored by then
    return {
        "p50": fetches.quantile(0.5),
        "p99": fetches.quantile(0.99),
        "requests": run.result.extra["unit_reads"] / run.result.fetches,
        "hedges": run.result.extra["hedges"] / run.result.fetches,
    }


def measure(e: Experiment, n: int) -> dict[str, dict[str, Figures]]:
    """{line: {"real": medians, "sim": medians}}"""
    stores = urls(e)
    seen: dict[str, dict[str, list[Figures]]] = {k: {"real": [], "sim": []} for k in stores}
    for k in range(n):
        for line, url in stores.items():
            print(f"round {k + 1}/{n}: {line}".ljust(60), end="\r", file=sys.stderr)
            seen[line]["real"].append(real(e, url, k + 1))
            seen[line]["sim"].append(simulated(e, line, k + 1))
    print(" " * 60, end="\r", file=sys.stderr)
    return {
        line: {world: rounds.medians(runs) for world, runs in worlds.items()}
        for line, worlds in seen.items()
    }


def report(medians: dict[str, dict[str, Figures]]) -> None:
    columns = ("p50 us", "p99 us", "requests", "p99 / alone")
    head = "".join(f"{c:>13}" for c in columns)
    print(f"{'':20}{'real':>13}{'':39}{'simulated':>13}\n{'':20}{head}{head}")
    for line, worlds in medians.items():
        cells = ""
        for world, f in worlds.items():
            alone = medians["slow alone"][world]["p99"]
            cells += f"{f['p50']:13.0f}{f['p99']:13.0f}{f['requests']:13.3f}"
            cells += f"{f['p99'] / alone:13.3f}"
        print(f"{line:20}{cells}")
    hedged = medians["hedged"]["real"]
    ratio = hedged["p99"] / medians["slow alone"]["real"]["p99"]
    print(
        f"\nhedged: p99 {ratio:.3f} x (goal <= 0.2), "
        f"{hedged['requests']:.3f} requests a read (goal <= 1.1), "
        f"{hedged['hedges']:.3f} hedges a read, {hedged['won']:.0%} of them came first"
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--refs", type=int, default=6000, help="references in each run")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("-o", "--out", help="a file for the figures as JSON")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    o = parse(argv)
    try:
        e = Experiment.load(EXPERIMENT)
        e = e.with_(refs=o.refs)
        busy = versus.busy_cores()
        medians = measure(e, o.rounds)
    except CannotError as error:
        print(f"hedge: {error}", file=sys.stderr)
        return 77
    except EdmError as error:
        print(f"hedge: {error}", file=sys.stderr)
        return 1
    state = rounds.state_of(busy)
    print(f"{state} ({busy:.1f} cores were at work before); medians of {o.rounds}; us")
    report(medians)
    if o.out:
        Path(o.out).write_text(json.dumps({"schema": 1, "state": state, "medians": medians}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
