"""calibrate: what this machine's primitives cost, measured inside the real runtime, in situ.

Short runs of the runtime over references of calibrate's own (a walk over the pages in shuffled
order, again and again, with writes spread over it), with its spans counted (see spans.py). Each
run puts the components into a situation: beside LPET on the other core, beside another thread
that faults, on a page next to the last one, with small and large batches, on each store. What is
compared with a calibration later, it has not seen: components do not know which workload they
serve.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edm_policy.errors import EdmError
from edm_real._core import lib
from edm_real.region import Region
from edm_real.span_sets import ASLEEP_MOST_NS, STEP_PREEMPTED_NS, Spans, batches, median, pooled
from edm_workload import Trace
from edm_workload.calibration import (
    FAULT_KINDS,
    NEAR_KINDS,
    SAME,
    STEP_KINDS,
    Calibration,
    Speed,
    mean_of,
)
from edm_workload.metadata import collect

PAGES, LIMIT = 16384, 4096
ROUND = 30_000
"""References of one run."""

STORES = ("mem:", "file:")
LOCAL_STORES = ("mem:", "file:", "zstd", "lz4")
"""Those without a server: who asks them stays on the core."""

NEAR = 32
"""Neighbours in a row, where faults on a page next to the last one are measured."""

BATCHES = (4, 16, 64, 128, 256)
REPEATS = 3
FRESH_S = 2.0
"""An anchor holds for so long."""

ASLEEP_NS = 500.0
"""Ringing for LPET takes longer than this if it sleeps, and tens of ns if not."""

SELDOM = 1600
"""Evictions a session of LPET's where it is rung for so seldom that it sleeps until then."""

RESIDENT = (256, 1024, 4096, 16384)
"""Pages over which hits are measured where all are resident."""

HITS, HIT_PAGES, LIFTS = 6_000_000, 256, 4000
"""Hits of one thread, over so many pages, beside which another thread lifts write-protections."""

BACK = (1, 16, 128, 1024)
"""Faults after which a page is touched again, where hits are measured that others come between."""

NOISY = 0.05
"""Repeat error from which a machine counts as noisy."""

Progress = Callable[[str], None]


def walk(pages: int, n: int, seed: int, writes: float = 0.3, row: int = 1) -> tuple[Any, Any]:
    """n references: all pages in a shuffled order, `row` neighbours at a time, shuffled anew each
    time; and write flags."""
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(pages // row) for _ in range(-(-n // (pages // row * row)))]
    page = (np.concatenate(rounds)[:, None] * row + np.arange(row)).ravel()[:n].astype(np.uint32)
    return page, (rng.random(n) < writes).astype(np.uint8)


def revisits(pages: int, n: int, seed: int, back: int) -> tuple[Any, Any]:
    """A walk of which every reference is followed by one to the page `back` before it, written as
    it was the first time."""
    page, write = walk(pages, n // 2, seed)
    again = np.maximum(np.arange(n // 2) - back, 0)
    page, write = (np.stack([a, a[again]], axis=1).ravel() for a in (page, write))
    return page, write


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


class Bench:
    """Runs of the runtime that were measured.

    The speed of a virtual machine drifts within seconds. So an anchor is taken before a run that
    counts spans, unless the last one is fresh, and their times are scaled to the speed at which the
    bench began (its anchors then; none: they are left as they are). One thread's speed and two
    threads' drift apart: where the host puts two virtual cores on one, only two threads see it. So
    there is an anchor of each.

    began_ns, anchors: by threads (1 or 2), ns; anchors are all that were taken.
    """

    def __init__(self, seed: int = 1, began_ns: dict[int, float] | None = None):
        self.seed, self.began_ns = seed, began_ns or {}
        self.cores = sorted(os.sched_getaffinity(0))
        self.anchors: dict[int, list[float]] = {1: [], 2: []}
        self._taken_at = {1: 0.0, 2: 0.0}

    def begin(self) -> None:
        """Fixes the speed that all is scaled to."""
        for threads in (1, 2):
            self.began_ns[threads] = statistics.median(self.anchor_ns(threads) for _ in range(3))

    def scale(self, threads: int = 1) -> float:
        """What makes times that are measured now those of the speed at which it began."""
        if threads not in self.began_ns:
            return 1.0
        if time.monotonic() - self._taken_at[threads] > FRESH_S:
            self.anchor_ns(threads)
        return self.began_ns[threads] / self.anchors[threads][-1]

    def speed(self, threads: int) -> Speed:
        """Likewise, of a run of so many threads."""
        return Speed(self.scale(), self.scale(2) if threads > 1 else 1.0)

    def run(
        self,
        *into: Spans,
        store: str = "mem:",
        threads: int = 1,
        warm: bool = True,
        apart: bool = True,
        refs: int = ROUND,
        writes: float = 0.3,
        row: int = 1,
        back: int = 0,
        **options: Any,
    ) -> dict[str, Any]:
        """One run; into: where its spans go (nowhere: they are not counted). warm: after a run
        that is not measured, so that every page was stored before. apart: the thread and LPET each
        have a core (where there are two). row, back: see walk() and revisits()."""
        self.seed += 1
        if back:
            page, write = revisits(PAGES, refs, self.seed, back)
        else:
            page, write = walk(PAGES, refs, self.seed, writes, row)
        speed = self.speed(threads) if into else SAME
        core = self.cores[0] if apart and threads == 1 and len(self.cores) > 1 else None
        with on_core(core):
            settings: dict[str, Any] = {"local": LIMIT, "evict": "fifo"} | options
            with Region(PAGES, store=store, watch=False, **settings) as region:
                if core is not None and settings.get("reclaim") != "faulter":
                    _lpet_to(self.cores[1])
                if warm:
                    first, _ = walk(PAGES, 2 * PAGES, self.seed + 1000)
                    region.replay(first, np.ones(len(first), np.uint8), seed=self.seed + 1000)
                if into:
                    region.measure()
                result = region.replay(page, write, threads=threads, seed=self.seed)
                found = region.spans()
                for spans in into:
                    spans.add(found, speed)
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
            ns = self.scale() * 1e9 * statistics.median(times) / len(page)
            found.append([pages, round(ns, 3)])
        return found

    def write_interrupt_ns(self) -> float:
        """What a write-protection that another thread has lifted costs a thread that only hits."""
        page = np.random.default_rng(self.seed).integers(0, HIT_PAGES, HITS).astype(np.uint32)
        tid, write = np.zeros(HITS, np.uint16), np.zeros(HITS, np.uint8)
        at = np.linspace(0, HITS - 1, LIFTS).astype(int)
        page[at], tid[at], write[at] = np.arange(HIT_PAGES, HIT_PAGES + LIFTS), 1, 1
        trace = Trace(page=page, write=write.astype(bool), tid=tid)

        def took_ns(dirty: bool) -> float:
            pages = HIT_PAGES + LIFTS
            with Region(pages, local=pages, high=pages, watch=False) as region:
                region.prefault(write=dirty)
                return 1e9 * float(region.replay(trace, threads=2)["elapsed_s"])

        extra = [took_ns(False) - took_ns(True) for _ in range(3)]
        return max(0.0, self.scale(2) * statistics.median(extra) / LIFTS)

    def _outside(self, **options: Any) -> tuple[float, int, int]:
        """Of a run: ns outside of faults' latency, references that faulted, and that hit."""
        scale, run = self.scale(), self.run(**options)
        timed = run["extra"]["timed_faults"]
        ns = 1e9 * run["elapsed_s"] - 1000 * run["latency_us"]["mean"] * timed
        return scale * ns, timed, run["refs"] - timed

    def between_ns(self, row: int = 1) -> float:
        """What the replay does for a reference that faults, outside of its latency."""
        ns, faults, _ = self._outside(row=row)
        return max(0.0, ns / faults)

    def hit_ns(self, between_ns: float) -> list[list[float]]:
        """[faults since the last reference to its page, ns] of one that hits."""
        found = []
        for back in BACK:
            ns, faults, hits = self._outside(back=back)
            found.append([back, round(max(1.0, (ns - faults * between_ns) / hits), 2)])
        return found

    def slice_ns(self) -> float:
        """From one tick at which a core changes hands to the next: twice what LPET, rung for at any
        time between two, waits for a core on which another thread runs, on the median."""
        spans = Spans()
        with on_core(self.cores[0]):
            for _ in range(2):
                self.run(spans, apart=False, high=LIMIT - 8, low=LIMIT - 8 - SELDOM)
        values, counts = pooled(spans.of("late"), float("inf"))
        if counts.sum() < 5:
            return 4e6
        return float(np.clip(2 * median(values, counts), 1e5, 1e8))

    def anchor_ns(self, threads: int = 1) -> float:
        """Median latency of a fault in a short run, nothing counted: the machine's speed now.

        The median: the mean follows whoever else is on LPET's core, and that is not speed."""
        run = self.run(refs=12_000 * threads, threads=threads)
        self.anchors[threads].append(1000 * float(run["latency_us"]["p50"]))
        self._taken_at[threads] = time.monotonic()
        return self.anchors[threads][-1]


def anchor_ns(seed: int = 1, threads: int = 1) -> float:
    """How fast the machine is now, as anchor_ns of a Calibration (or, of more than one thread,
    anchor_of_threads_ns) was when that was made."""
    return Bench(seed).anchor_ns(min(threads, 2))


PUT = {"mem:": "mem:?placed=0"}
"""A store whose pages are read straight to their places, as one that they are put into: the
simulator puts a network in front of it, and nothing can be placed there."""


def measure_store(url: str, bench: Bench | None = None, rounds: int = 1) -> dict[str, Any]:
    """get, put and new of a store, for Calibration.stores. Raises EdmError if it cannot be had."""
    bench = bench or Bench()
    old, new, near = Spans(), Spans(), Spans()
    # Who waits for a server is off the core, and where the scheduler puts them all is part of it.
    apart = url.startswith(LOCAL_STORES)
    url = PUT.get(url, url)
    for _ in range(rounds):
        bench.run(new, store=url, warm=False, writes=0.8, apart=apart)
        bench.run(near, store=url, row=NEAR, apart=apart)
        bench.run(old, store=url, apart=apart)
        for batch in (8, 32, 128):
            low = LIMIT - 8 - batch
            bench.run(old, store=url, apart=apart, batch=batch, high=LIMIT - 8, low=low)
        if len(bench.cores) > 1:
            bench.run(old, store=url, threads=2)
            bench.run(near, store=url, threads=2, row=NEAR)
    most_ns = STEP_PREEMPTED_NS if apart else ASLEEP_MOST_NS
    found = {
        "get": old.fault("get", asleep=not apart),
        "near": near.fault("get", asleep=not apart),
        "put": batches(old.of("put"), most_ns=most_ns),
        "new": batches(new.of("put"), most_ns=most_ns),
    }
    if not all(found.values()):
        raise EdmError(f"store {url}: too few pages went there to measure it; give it more room")
    return found


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
    bench, monitor, crowd, calm, asleep = Bench(), Spans(), Spans(), Spans(), Spans()
    faults, near, steps, put, single = Spans(), Spans(), Spans(), Spans(), Spans()
    repeats = 1 if quick else REPEATS
    bench.begin()
    between: list[float] = []
    between_near: list[float] = []
    for i in range(repeats):
        round_name = f"round {i + 1} of {repeats}"
        progress(f"{round_name}: faults beside LPET")
        bench.run(faults, steps, single)
        bench.run(faults, single, store=PUT["mem:"], evict="lpet", writes=0.5)
        bench.run(steps, single, evict="lpet", writes=0.5)
        bench.run(faults, single, warm=False)
        bench.run(near, row=NEAR)
        bench.run(near, row=NEAR, warm=False)
        between.append(bench.between_ns())
        between_near.append(bench.between_ns(row=NEAR))
        bench.run(calm)
        bench.run(calm, evict="lpet")
        bench.run(asleep, high=LIMIT - 8, low=LIMIT - 8 - SELDOM)
        progress(f"{round_name}: reclaim steps")
        bench.run(steps, reclaim="faulter")
        for batch in BATCHES[::2] if quick else BATCHES:
            bench.run(steps, single, batch=batch, high=LIMIT - 8, low=LIMIT - 8 - 2 * batch)
        bench.run(put, store=PUT["mem:"])
        progress(f"{round_name}: beside another thread that faults")
        if len(bench.cores) > 1:
            bench.run(faults, steps, threads=2, refs=2 * ROUND)
            bench.run(near, row=NEAR, threads=2, refs=2 * ROUND)
            bench.run(steps, threads=2, refs=2 * ROUND, reclaim="faulter")
            bench.run(
                faults, put, store=PUT["mem:"], threads=2, evict="lpet", refs=2 * ROUND, warm=False
            )
        progress(f"{round_name}: monitor")
        # Not apart: the handler keeps the thread on its own core, and that takes time.
        bench.run(monitor, faults="monitor", apart=False, refs=ROUND // 2)
        if len(bench.cores) > 1:
            bench.run(crowd, faults="monitor", threads=2, refs=ROUND // 2)
    found_stores, rounds = {}, 1 if quick else 2
    stores = sorted(stores, key=lambda url: not url.startswith(LOCAL_STORES))
    others = watch.others()
    for url in stores:
        progress(f"store {url}")
        found_stores[url.partition(":")[0]] = measure_store(url, bench, rounds)
        if url.startswith(LOCAL_STORES):  # a server's time is somebody else's, and no disturbance
            others = watch.others()
    anchors = bench.anchors[1]
    p10, p50, p90 = np.percentile(anchors, [10, 50, 90])
    spread = float((p90 - p10) / 2 / p50)
    metadata |= {
        "repeat_error": round(spread, 4),
        "others": round(others, 3),
        "noisy": bool(spread > NOISY or others > 0.1),
        "seconds": round(time.monotonic() - began, 1),
        "anchors_ns": [round(a, 1) for a in anchors],
        "anchors_of_threads_ns": [round(a, 1) for a in bench.anchors[2]],
    }
    by_kind = {kind: faults.fault(kind) for kind in FAULT_KINDS}
    # Only where LPET slept: otherwise it is a look at a counter, and what it waits for is modelled.
    # On a single core LPET's wait for it is the slice, and modelled.
    by_kind["wake"] = {"nobody": asleep.once("wake", ASLEEP_NS) or [[1.0, ASLEEP_NS]]}
    late = asleep.once("late") or [[1.0, ASLEEP_NS]]
    handled = (("nobody", monitor), ("faulter", crowd))
    think = bench.think_ns()
    by_step = {kind: (put if kind == "stored" else steps).step(kind) for kind in STEP_KINDS}
    parts: dict[str, Any] = by_kind | {"late": late} | by_step
    missing = [k for k, v in parts.items() if not v or not all(v)]
    if missing:
        what = ", ".join(missing)
        raise EdmError(f"calibrate: {what} never happened; calibrate when the machine is quieter")
    return Calibration(
        cores=len(bench.cores),
        slice_ns=round(bench.slice_ns(), 1),
        think=think,
        spin_ns=float(lib.edm_spin_ns()),
        between_ns=round(statistics.median(between), 2),
        between_near_ns=round(statistics.median(between_near), 2),
        hit=bench.hit_ns(statistics.median(between)),
        anchor_ns=round(bench.began_ns[1], 1),
        anchor_of_threads_ns=round(bench.began_ns[2], 1),
        faults=by_kind,
        near={kind: found for kind in NEAR_KINDS if (found := near.fault(kind))},
        steps=by_step,
        late=late,
        ring=calm.once("wake", most_ns=ASLEEP_NS) or [[1.0, 0.0]],
        nap=calm.once("nap") or late,
        interrupt=single.interrupt(),
        write_interrupt_ns=round(bench.write_interrupt_ns(), 1),
        stores=found_stores,
        monitor={
            kind: {b: way for b, s in handled if (way := s.once(kind))}
            for kind in ("arrive", "return")
        },
        metadata=metadata,
    )


def summary(c: Calibration) -> list[dict[str, Any]]:
    """Rows of a table: component, beside what, mean and the slowest thousandth, us."""
    rows = []
    for near, table in (("", c.faults), (", near", c.near)):
        for kind, by in table.items():
            for beside, parts in by.items():
                rows.append(_row(kind + near, beside, mean_of(parts), parts[-1][1]))
    for kind, steps in c.steps.items():
        for beside, step in steps.items():
            pages, ns = step["sizes"][-1]
            top = ns * step["spread"][-1][-1][1]
            rows.append(_row(f"{kind}, {pages:.0f} pages", beside, ns, top))
    for what, strata_of in (
        *(("LPET, asleep, comes", c.late), ("LPET's shortest nap", c.nap)),
        *(("ring, LPET naps", c.ring), ("interrupt by a flush", c.interrupt)),
    ):
        rows.append(_row(what, "", mean_of(strata_of), strata_of[-1][1]))
    for kind, by in c.monitor.items():
        for beside, parts in by.items():
            rows.append(_row(f"{kind}, monitor", beside, mean_of(parts), parts[-1][1]))
    for scheme, store in c.stores.items():
        for beside, parts in store["get"].items():
            rows.append(_row(f"{scheme}: get", beside, mean_of(parts), parts[-1][1]))
        for what in ("put", "new"):
            pages, ns = store[what]["sizes"][-1]
            top = ns * store[what]["spread"][-1][-1][1]
            rows.append(_row(f"{scheme}: {what}, {pages:.0f} pages", "", ns, top))
    return rows


def _row(what: str, beside: str, mean: float, top: float) -> dict[str, Any]:
    return {"component": what, "beside": beside, "mean us": mean / 1000, "p999 us": top / 1000}
