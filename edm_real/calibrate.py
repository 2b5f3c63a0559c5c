"""calibrate: what this machine's primitives cost, measured inside the real runtime, in situ.

Short runs of the runtime over references of calibrate's own (a walk over the pages in shuffled
order, again and again, with writes spread over it), with its spans counted (see spans.py). Each
run puts the components into a situation: alone, beside LPET on the other core, beside another
thread that faults, with small and large batches, on each store. What is compared with a
calibration later, it has not seen: components do not know which workload they serve.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edm_policy.errors import EdmError
from edm_real.region import Region
from edm_real.spans import PREEMPTED_NS, Span
from edm_workload.calibration import (
    FAULT_KINDS,
    STEP_KINDS,
    Calibration,
    Steps,
    Strata,
    mean_ns,
    mean_of,
    strata,
)
from edm_workload.metadata import collect

PAGES, LIMIT = 16384, 4096
ROUND = 30_000
"""References of one run."""

STORES = ("mem:", "file:")
BATCHES = (4, 16, 32, 64, 128)
REPEATS = 3
STEP_PREEMPTED_NS = 2_000_000.0
ASLEEP_NS = 500.0
"""Ringing for LPET takes longer than this if it sleeps, and tens of ns if not."""

RESIDENT = (256, 1024, 4096, 16384)
"""Pages over which hits are measured."""

NOISY = 0.05
"""Repeat error from which a machine counts as noisy."""

Progress = Callable[[str], None]


def walk(pages: int, n: int, seed: int, writes: float = 0.3) -> tuple[Any, Any]:
    """n references: all pages in a shuffled order, shuffled anew each time; and write flags."""
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(pages) for _ in range(-(-n // pages))]
    page = np.concatenate(rounds)[:n].astype(np.uint32)
    return page, (rng.random(n) < writes).astype(np.uint8)


def core_seconds() -> float | None:
    """Processor time all programs have used, and what the host took away; None: not on Linux."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields)
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


class Watch:
    """How much of the cores others took meanwhile."""

    def __init__(self) -> None:
        self._all, self._own, self._at = core_seconds(), time.process_time(), time.monotonic()

    def others(self) -> float:
        """Cores, since it was made: 0 is a quiet machine."""
        everybody, seconds = core_seconds(), time.monotonic() - self._at
        if everybody is None or self._all is None or seconds <= 0:
            return 0.0
        own = time.process_time() - self._own
        return max(0.0, (everybody - self._all - own) / seconds)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """This thread, and those it starts, run there."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _lpet_to(core: int) -> None:
    """LPET names itself when it runs first, a moment after the region was opened."""
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().strip() == "edm-lpet":
                os.sched_setaffinity(int(task.name), {core})
                return
        time.sleep(0.001)
    raise EdmError("calibrate: LPET's thread did not start")


class Spans:
    """Spans of several runs, by kind and by what went on beside."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], list[Span]] = defaultdict(list)
        self._kinds: dict[str, list[Span]] = defaultdict(list)

    def add(self, spans: Iterable[Span]) -> None:
        for s in spans:
            self._parts[s.kind, s.beside].append(s)
            self._kinds[s.kind].append(s)

    def of(self, kind: str) -> list[Span]:
        """All of a kind."""
        return self._kinds[kind]

    def _besides(self, kind: str) -> list[str]:
        return [b for k, b in self._parts if k == kind]

    def fault(self, kind: str, least: int = 50) -> dict[str, Strata]:
        """Strata of one-page spans by what went on beside, where enough were seen."""
        found = {}
        for beside in self._besides(kind):
            parts = [s for s in self._parts[kind, beside] if s.least == 1 and s.role != "lpet"]
            values, counts = _pooled(parts, PREEMPTED_NS)
            if counts.sum() >= least:
                found[beside] = strata(values, counts)
        return found

    def step(self, kind: str, least: int = 8) -> dict[str, Steps]:
        """Batches by what went on beside."""
        found = {}
        for beside in self._besides(kind):
            made = batches(self._parts[kind, beside], least)
            if made:
                found[beside] = made
        return found

    def once(self, kind: str, least_ns: float = 0) -> Strata:
        """All spans of a kind, from `least_ns` up."""
        values, counts = _pooled(self._kinds[kind], PREEMPTED_NS)
        keep = values >= least_ns
        return strata(values[keep], counts[keep]) if counts[keep].sum() else []


def _pooled(spans: list[Span], most: float) -> tuple[NDArray[Any], NDArray[Any]]:
    if not spans:
        return np.zeros(0), np.zeros(0)
    values = np.concatenate([s.values_ns for s in spans])
    counts = np.concatenate([s.counts for s in spans])
    keep = values <= most
    order = np.argsort(values[keep], kind="stable")
    return values[keep][order], counts[keep][order]


def batches(spans: list[Span], least: int = 8) -> Steps | None:
    """Mean by size, and the spread about it, of spans of many pages; None: too few."""
    sizes, ratios, weights = [], [], []
    by_size: dict[int, list[Span]] = defaultdict(list)
    for s in spans:
        by_size[s.least].append(s)
    for _, parts in sorted(by_size.items()):
        values, counts = _pooled(parts, STEP_PREEMPTED_NS)
        n = counts.sum()
        if n < least:
            continue
        mean = float(np.dot(values, counts) / n)
        pages = sum(s.pages for s in parts) / sum(s.count for s in parts)
        if pages >= 1 and mean > 0:
            sizes.append([round(pages, 3), round(mean, 3)])
            ratios.append(values / mean)
            weights.append(counts)
    if not sizes:
        return None
    ratio, weight = np.concatenate(ratios), np.concatenate(weights)
    order = np.argsort(ratio, kind="stable")
    return {"sizes": sizes, "spread": strata(ratio[order], weight[order])}


class Bench:
    """Runs of the runtime that were measured: their spans, and each one's mean fault latency."""

    def __init__(self, seed: int = 1):
        self.seed = seed
        self.cores = sorted(os.sched_getaffinity(0))

    def run(
        self,
        spans: Spans | None,
        store: str = "mem:",
        threads: int = 1,
        warm: bool = True,
        apart: bool = True,
        refs: int = ROUND,
        writes: float = 0.3,
        **options: Any,
    ) -> dict[str, Any]:
        """One run; spans: where they go (None: not counted). warm: after a run that is not
        measured, so that every page was stored before. apart: the thread and LPET each have a core
        (where there are two)."""
        self.seed += 1
        page, write = walk(PAGES, refs, self.seed, writes)
        core = self.cores[0] if apart and threads == 1 and len(self.cores) > 1 else None
        with on_core(core):
            settings: dict[str, Any] = {"local": LIMIT, "evict": "fifo"} | options
            with Region(PAGES, store=store, watch=False, **settings) as region:
                if core is not None and settings.get("reclaim") != "faulter":
                    _lpet_to(self.cores[1])
                if warm:
                    first, _ = walk(PAGES, 2 * PAGES, self.seed + 1000)
                    region.replay(first, np.ones(len(first), np.uint8), seed=self.seed + 1000)
                if spans is not None:
                    region.measure()
                result = region.replay(page, write, threads=threads, seed=self.seed)
                if spans is not None:
                    spans.add(region.spans())
                return result

    def think_ns(self) -> list[list[float]]:
        """[pages, ns] of a reference that hits: pages in random order, all of them resident."""
        rng, found = np.random.default_rng(self.seed), []
        for pages in RESIDENT:
            page = rng.integers(0, pages, 200_000).astype(np.uint32)
            write = (rng.random(len(page)) < 0.3).astype(np.uint8)
            with (
                on_core(self.cores[0]),
                Region(pages, local=pages, high=pages, watch=False) as region,
            ):
                region.prefault(write=True)
                times = [region.replay(page, write)["elapsed_s"] for _ in range(3)]
            found.append([pages, round(1e9 * statistics.median(times) / len(page), 3)])
        return found

    def between_ns(self, think: list[list[float]]) -> float:
        """What the replay loop itself does for a reference that faults, outside of its latency."""
        run = self.run(None)
        timed = run["extra"]["timed_faults"]
        outside = 1e9 * run["elapsed_s"] - 1000 * run["latency_us"]["mean"] * timed
        hits = run["refs"] - timed
        return float(max(0.0, (outside - hits * mean_ns(think, LIMIT)) / timed))

    def slice_ns(self) -> float:
        """How long LPET waits for a core on which another thread runs."""
        spans = Spans()
        with on_core(self.cores[0]):
            self.run(spans, apart=False, threads=1)
        late = spans.of("late")
        values, counts = _pooled(late, float("inf"))
        if counts.sum() < 5:
            return 4e6
        median = values[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]
        return float(np.clip(median, 1e5, 1e8))

    def anchor_ns(self) -> float:
        """Median latency of a fault in a short run, nothing counted: the machine's speed now.

        The median: the mean follows whoever else is on LPET's core, and that is not speed."""
        return 1000 * float(self.run(None, refs=12_000)["latency_us"]["p50"])


def anchor_ns(seed: int = 1) -> float:
    """How fast the machine is now, as anchor_ns of a Calibration was when that was made."""
    return Bench(seed).anchor_ns()


def measure_store(url: str, bench: Bench | None = None, rounds: int = 1) -> dict[str, Any]:
    """get, put and new of a store, for Calibration.stores. Raises EdmError if it cannot be had."""
    bench = bench or Bench()
    old, new = Spans(), Spans()
    for _ in range(rounds):
        bench.run(new, url, warm=False, writes=0.8)
        for batch in (8, 32, 128):
            bench.run(old, url, batch=batch, high=LIMIT - 8, low=LIMIT - 8 - batch)
    found = {
        "get": _everything(old, "get"),
        "put": batches(old.of("put")),
        "new": batches(new.of("put")),
    }
    if not all(found.values()):
        raise EdmError(f"store {url}: too few pages went there to measure it; give it more room")
    return found


def _everything(spans: Spans, kind: str) -> Strata:
    parts = [s for s in spans.of(kind) if s.least == 1]
    values, counts = _pooled(parts, STEP_PREEMPTED_NS * 10)
    return strata(values, counts) if counts.sum() else []


def calibrate(
    stores: Iterable[str] = STORES,
    quick: bool = False,
    progress: Progress = lambda text: None,
) -> Calibration:
    """Measures this machine; about a minute, or (quick) a quarter of that.

    metadata has the repeat error, the processor time others took meanwhile (`others`, in
    cores), and whether that makes it `noisy`.
    """
    metadata, watch, began = collect(), Watch(), time.monotonic()
    bench, spans, monitor, calm = Bench(), Spans(), Spans(), Spans()
    repeats, anchors = (1 if quick else REPEATS), []
    for i in range(repeats):
        round_name = f"round {i + 1} of {repeats}"
        anchors += [bench.anchor_ns(), bench.anchor_ns()]
        progress(f"{round_name}: a fault alone")
        bench.run(spans, reclaim="faulter", apart=True)
        bench.run(spans, evict="lpet", reclaim="faulter", warm=False)
        progress(f"{round_name}: beside LPET")
        for batch in BATCHES[::2] if quick else BATCHES:
            bench.run(spans, batch=batch, high=LIMIT - 8, low=LIMIT - 8 - 2 * batch)
        bench.run(spans, evict="lpet", writes=0.5)
        bench.run(spans, warm=False)
        bench.run(calm)
        bench.run(calm, evict="lpet")
        progress(f"{round_name}: beside another thread that faults")
        if len(bench.cores) > 1:
            bench.run(spans, threads=2, refs=2 * ROUND)
            bench.run(spans, threads=2, refs=2 * ROUND, reclaim="faulter")
            bench.run(spans, threads=2, evict="lpet", refs=2 * ROUND, warm=False)
        progress(f"{round_name}: monitor")
        bench.run(monitor, faults="monitor", refs=ROUND // 4)
        anchors.append(bench.anchor_ns())
    found = {}
    for url in stores:
        progress(f"store {url}")
        found[url.partition(":")[0]] = measure_store(url, bench, 1 if quick else 2)
    others = watch.others()
    spread = (max(anchors) - min(anchors)) / 2 / statistics.median(anchors)
    metadata |= {
        "repeat_error": round(spread, 4),
        "others": round(others, 3),
        "noisy": bool(spread > NOISY or others > 0.1),
        "seconds": round(time.monotonic() - began, 1),
        "anchors_ns": [round(a, 1) for a in anchors],
    }
    faults = {kind: spans.fault(kind) for kind in FAULT_KINDS}
    # Only where LPET slept: otherwise it is a look at a counter, and what it waits for is modelled.
    # On a single core LPET's wait for it is the slice, and modelled.
    faults["wake"] = {"nobody": calm.once("wake", ASLEEP_NS) or [[1.0, ASLEEP_NS]]}
    late = calm.once("late") or [[1.0, ASLEEP_NS]]
    think = bench.think_ns()
    steps = {kind: spans.step(kind) for kind in STEP_KINDS}
    parts: dict[str, Any] = faults | {"late": late} | steps
    missing = [k for k, v in parts.items() if not v or not all(v)]
    if missing:
        what = ", ".join(missing)
        raise EdmError(f"calibrate: {what} never happened; calibrate when the machine is quieter")
    return Calibration(
        cores=len(bench.cores),
        slice_ns=round(bench.slice_ns(), 1),
        think=think,
        between_ns=round(bench.between_ns(think), 2),
        anchor_ns=round(statistics.median(anchors), 1),
        faults=faults,
        steps=steps,
        late=late,
        stores=found,
        monitor={
            "arrive": {"nobody": monitor.once("arrive")},
            "return": {"nobody": monitor.once("return")},
        },
        metadata=metadata,
    )


def summary(c: Calibration) -> list[dict[str, Any]]:
    """Rows of a table: component, beside what, mean and the slowest thousandth, us."""
    rows = []
    for kind, by in c.faults.items():
        for beside, parts in by.items():
            rows.append(_row(kind, beside, mean_of(parts), parts[-1][1]))
    for kind, steps in c.steps.items():
        for beside, step in steps.items():
            pages, ns = step["sizes"][-1]
            rows.append(_row(f"{kind}, {pages:.0f} pages", beside, ns, ns * step["spread"][-1][1]))
    for scheme, store in c.stores.items():
        rows.append(_row(f"{scheme}: get", "", mean_of(store["get"]), store["get"][-1][1]))
        for what in ("put", "new"):
            pages, ns = store[what]["sizes"][-1]
            top = ns * store[what]["spread"][-1][1]
            rows.append(_row(f"{scheme}: {what}, {pages:.0f} pages", "", ns, top))
    return rows


def _row(what: str, beside: str, mean: float, top: float) -> dict[str, Any]:
    return {"component": what, "beside": beside, "mean us": mean / 1000, "p999 us": top / 1000}
