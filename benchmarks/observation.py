"""What not seeing hits costs: every evictor's misses under `idle` (and `faults`) observation
against the same evictor's under `exact`.

    python benchmarks/observation.py [-o docs/observation.md] [--data FOLDER] [--size 10%,25%]

The pager drives itself (high = limit = size, low = size - 1, one eviction at a time); under
idle its marks and rescues happen as on real memory. A cell is misses under that observation
over misses under exact: 1.00 costs nothing, below 1 the policy is better off not seeing
everything. The rows `exact` are the misses themselves, and the first row the frames. --data: a
folder of NAME.u32.zst traces to add to the bundled one and the synthetic ones. -o keeps what stands
above the first "## " of the file.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from edm_policy import Pager, PolicyConfig, evictors
from edm_policy.config import OBSERVE
from edm_policy.errors import EdmError, UsageError
from edm_workload import Trace, synth
from edm_workload.trace import bundled_trace

SYNTHS = ("uniform", "zipf:1.0", "loop", "phases", "scanloop")
PAGES, REFS = 20_000, 1_000_000


def workloads(data: Path | None) -> dict[str, np.ndarray]:
    """Name -> dense page numbers (u32)."""
    found = {spec: synth(spec, pages=PAGES, refs=REFS, seed=1) for spec in SYNTHS}
    found["sqlite"] = Trace.load(bundled_trace())
    for path in sorted(data.glob("*.u32.zst")) if data else []:
        found[path.name.removesuffix(".u32.zst")] = Trace.load(path)
    return {name: trace.dense().arrays()[0] for name, trace in found.items()}


def misses(page: np.ndarray, frames: int, evict: str, observe: str) -> int | None:
    """Misses, or None where the evictor refuses the size or the observation."""
    pages = int(page.max()) + 1
    config = PolicyConfig(
        pages=pages, limit=frames, high=frames, low=frames - 1, evict=evict, observe=observe
    )
    try:
        return Pager(config).run_classic(page)
    except (EdmError, UsageError):
        return None


def table(traces: dict[str, np.ndarray], share: float) -> pd.DataFrame:
    """Rows: evictor and observation; columns: traces, and two geometric means over them.

    The rows of `exact`, and the first one, hold counts (misses, frames); the others ratios.
    "mean" is of the row's ratios, "/ lru exact" of its misses over those of lru under exact.
    """
    frames = {trace: max(2, int(share * (int(page.max()) + 1))) for trace, page in traces.items()}
    jobs = []
    for name, info in evictors().items():
        if info.needs_future or info.best == "faults":
            continue  # nothing to lose
        levels = reversed(OBSERVE[OBSERVE.index(info.needs) :])
        jobs += [(name, observe, trace) for observe in levels for trace in traces]

    def run(job: tuple[str, str, str]) -> int | None:
        evict, observe, trace = job
        return misses(traces[trace], frames[trace], evict, observe)

    with ThreadPoolExecutor(2) as pool:
        counts = dict(zip(jobs, pool.map(run, jobs), strict=True))
    rows: dict[tuple[str, str], dict[str, float]] = {("", "frames"): dict(frames)}
    for name, observe, _ in jobs:
        found = {}
        for trace in traces:
            mine, exact = counts[name, observe, trace], counts[name, "exact", trace]
            if observe == "exact":
                found[trace] = mine or float("nan")
            else:
                found[trace] = mine / exact if mine and exact else float("nan")
        rows[name, observe] = found
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.names = ["evictor", "observation"]
    ratios = frame[frame.index.isin(["faults", "idle"], level=1)]
    frame["mean"] = np.exp(np.log(ratios).mean(axis=1))
    for name, observe in rows:
        if name and None not in (all_of := [counts[name, observe, trace] for trace in traces]):
            lru = [counts["lru", "exact", trace] for trace in traces]
            frame.loc[(name, observe), "/ lru exact"] = np.exp(
                np.mean(np.log(np.divide(all_of, lru)))
            )
    return frame


def markdown(frame: pd.DataFrame) -> str:
    head = ["evictor", "observation", *frame.columns]
    traces = set(frame.columns) - {"mean", "/ lru exact"}
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * len(frame.columns)]
    for (name, observe), row in frame.iterrows():  # type: ignore[misc]
        counted = observe not in ("faults", "idle")
        cells = [
            "-" if np.isnan(v) else f"{v:,.0f}" if counted and column in traces else f"{v:.3f}"
            for column, v in row.items()
        ]
        lines.append("| " + " | ".join([name, observe, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--size", default="10%,25%")
    args = parser.parse_args()
    traces = workloads(args.data)
    parts = []
    for size in args.size.split(","):
        share = float(size.rstrip("%")) / 100
        parts.append(f"## {size} of the footprint\n\n{markdown(table(traces, share))}\n")
    text = "\n".join(parts)
    if args.output:
        head = args.output.read_text().split("## ")[0] if args.output.exists() else ""
        args.output.write_text(head + text)
    else:
        print(text)


if __name__ == "__main__":
    main()
