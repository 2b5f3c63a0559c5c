"""calibrate: what this machine's primitives cost, measured inside the real runtime, in situ.

Short runs of the runtime over references of calibrate's own (a walk over the pages in shuffled
order, again and again, with writes spread over it), with its spans counted (see spans.py). Each
run puts the components into a situation: beside LPET on the other core, beside another thread
that faults, on a page next to the last one, with small and large batches, of pages in a row or
scattered, on each store. What is compared with a calibration later, it has not seen: components do
not know which workload they serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from edm_policy.errors import EdmError
from edm_real._core import lib
from edm_real.calibrate_bench import (
    FRESH,
    FRESH_RUNS,
    LIMIT,
    ROUND,
    SELDOM,
    Bench,
    CoresMoved,
    Watch,
)
from edm_real.span_sets import ASLEEP_MOST_NS, STEP_PREEMPTED_NS, Spans, batches
from edm_real.steady import Steady
from edm_workload.calibration import (
    ALONE,
    FAULT_KINDS,
    FRESH_KINDS,
    NEAR_KINDS,
    ROW_KINDS,
    STEP_KINDS,
    WAYS_TO_HANDLER,
    Calibration,
    mean_of,
)
from edm_workload.metadata import collect

STORES = ("mem:", "file:")
LOCAL_STORES = ("mem:", "file:", "zstd", "lz4")
"""Those without a server: who asks them stays on the core."""

NEAR = 32
"""Neighbours in a row, where faults on a page next to the last one are measured."""

ROW = 256
"""Neighbours in a row, where reclaim steps of such pages are measured: as many as a batch has."""

AMONG = 5500
"""Pages a walk is over where rescues are to be many, and gets few among them."""

BATCHES = (4, 16, 64, 128, 256)
REPEATS = 2

ASLEEP_NS = 500.0
"""Ringing for LPET takes longer than this if it sleeps, and tens of ns if not."""

NOISY = 0.05
"""Repeat error from which a machine counts as noisy."""

PATIENCE_S, ATTEMPTS = 90.0, 2
"""How long the cores are waited for to be as far apart as they were; and how often all is measured,
at most, where they are not: the last time whatever they do. A quick one does neither."""

Progress = Callable[[str], None]


PUT = {"mem:": "mem:?placed=0"}
"""A store whose pages are read straight to their places, as one that they are put into: the
simulator puts a network in front of it, and nothing can be placed there."""


def measure_store(
    url: str,
    bench: Bench,
    rounds: int = 1,
    steps: tuple[Spans, Spans] | None = None,
) -> dict[str, Any]:
    """get, put and new of a store, for Calibration.stores; steps: where the spans of reclaim steps
    go, of scattered pages and of pages in rows. Raises EdmError if it cannot be had."""
    old, new, near = Spans(), Spans(), Spans()
    scattered = (old, steps[0]) if steps else (old,)
    # Who waits for a server is off the core, and where the scheduler puts them all is part of it.
    apart = url.startswith(LOCAL_STORES)
    url = PUT.get(url, url)
    for _ in range(rounds):
        bench.run(new, store=url, warm=False, writes=0.8, apart=apart, refs=ROUND * 2 // 3)
        bench.run(*scattered, store=url, apart=apart)
        bench.run(near, store=url, row=NEAR, apart=apart, refs=ROUND // 2)
        if steps:
            bench.run(steps[1], store=url, row=ROW, apart=apart, refs=ROUND // 2)
        if not apart:  # a server that is seldom asked answers later
            bench.run(old, store=url, apart=apart, among=AMONG, evict="lpet", writes=0.5)
        for batch in (8, 32, 128):
            small: dict[str, Any] = {"batch": batch, "high": LIMIT - 8, "low": LIMIT - 8 - batch}
            bench.run(*scattered, store=url, apart=apart, refs=ROUND // 3, **small)
        if len(bench.cores) > 1:
            bench.run(*scattered, store=url, threads=2)
            bench.run(near, store=url, threads=2, row=NEAR, refs=ROUND // 2)
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
    """Measures this machine; a minute or two, or (quick) half a minute.

    metadata has the repeat error, the processor time others took meanwhile (`others`, in
    cores), whether the host moved a core for good (`cores_moved`) or moves them all the time
    (that, and `cores_restless`), and whether that makes it `noisy`. Where it did, all is measured
    once more.
    """
    metadata, began = collect(), time.monotonic()
    attempts, restless = 1 if quick else ATTEMPTS, False
    for attempt in range(1, attempts + 1):
        steady = Steady() if quick else Steady(patience_s=PATIENCE_S, restless=restless)
        with Bench(steady=steady, strict=attempt < attempts) as bench:
            try:
                return _calibrate(stores, quick, progress, bench, metadata, began)
            except CoresMoved:
                restless = steady.restless
                how = "moves cores all the time" if restless else "moved a core, and not back"
                progress(f"the host {how}: again from the beginning")
    raise AssertionError("unreachable: the last attempt takes the cores as they are")


def _calibrate(
    stores: Iterable[str],
    quick: bool,
    progress: Progress,
    bench: Bench,
    metadata: dict[str, Any],
    began: float,
) -> Calibration:
    watch = Watch()
    monitor, crowd, calm, asleep = Spans(), Spans(), Spans(), Spans()
    faults, near, steps, rows, single = Spans(), Spans(), Spans(), Spans(), Spans()
    put, put_rows, fresh = Spans(), Spans(), Spans()
    repeats = 1 if quick else REPEATS
    bench.begin()
    between: list[float] = []
    between_near: list[float] = []
    for i in range(repeats):
        round_name = f"round {i + 1} of {repeats}"
        progress(f"{round_name}: faults beside LPET")
        bench.run(faults, steps, single, calm)
        bench.run(near, row=NEAR)
        bench.run(rows, row=ROW, refs=ROUND // 2)
        for _ in range(2):
            between.append(bench.between_ns())
            between_near.append(bench.between_ns(row=NEAR))
        bench.run(steps, single, calm, evict="lpet", writes=0.5)
        bench.run(faults, put, single, store=PUT["mem:"], evict="lpet", writes=0.5)
        bench.run(faults, single, warm=False, refs=ROUND // 2)
        bench.run(near, row=NEAR, warm=False, refs=ROUND // 2)
        bench.run(asleep, high=LIMIT - 8, low=LIMIT - 8 - SELDOM)
        untouched: dict[str, Any] = {"warm": False, "among": FRESH, "refs": 2 * FRESH}
        for _ in range(FRESH_RUNS):
            bench.run(fresh, **untouched)
        progress(f"{round_name}: reclaim steps")
        bench.run(steps, reclaim="faulter")
        for batch in BATCHES[::2] if quick else BATCHES:
            small: dict[str, Any] = {
                "batch": batch,
                "high": LIMIT - 8,
                "low": LIMIT - 8 - 2 * batch,
            }
            bench.run(steps, single, refs=ROUND if batch > 16 else ROUND // 3, **small)
            if batch in BATCHES[::2]:
                bench.run(rows, row=ROW, refs=ROUND // 2, **small)
        progress(f"{round_name}: beside another thread that faults")
        if len(bench.cores) > 1:
            bench.run(faults, steps, threads=2, refs=2 * ROUND)
            bench.run(near, row=NEAR, threads=2, refs=2 * ROUND)
            bench.run(rows, row=ROW, threads=2, refs=ROUND // 2)
            bench.run(steps, threads=2, reclaim="faulter")
            bench.run(faults, put, store=PUT["mem:"], threads=2, evict="lpet", warm=False)
            bench.run(fresh, threads=2, **untouched)
        progress(f"{round_name}: monitor")
        # Not apart: the near handler takes the thread's core, and has LPET keep off it.
        for _ in range(repeats):  # how often the plain handler steps in differs from run to run
            bench.run(monitor, faults="monitor", apart=False)
        if len(bench.cores) > 1:
            bench.run(crowd, faults="monitor", threads=2, refs=ROUND // 3)
        bench.close()  # where its memory lies is another matter next time
    found_stores = {}
    stores = sorted(stores, key=lambda url: not url.startswith(LOCAL_STORES))
    others = watch.others()
    for url in stores:
        progress(f"store {url}")
        into = (put, put_rows) if url in PUT else None
        found_stores[url.partition(":")[0]] = measure_store(url, bench, repeats, into)
        if url.startswith(LOCAL_STORES):  # a server's time is somebody else's, and no disturbance
            others = watch.others()
    anchors = bench.anchors[1]
    p10, p50, p90 = np.percentile(anchors, [10, 50, 90])
    spread = float((p90 - p10) / 2 / p50)
    metadata |= {
        "repeat_error": round(spread, 4),
        "others": round(others, 3),
        "noisy": bool(spread > NOISY or others > 0.1 or bench.steady.gave_up),
        "seconds": round(time.monotonic() - began, 1),
        "anchors_ns": [round(a, 1) for a in anchors],
        "anchors_of_threads_ns": [round(a, 1) for a in bench.anchors[2]],
        "core_distance_ns": bench.steady.distance_ns,
        "cores_moved": bench.steady.gave_up,
        "cores_restless": bench.steady.restless,
        "runs_again": bench.moved,
    }
    by_kind = {kind: faults.fault(kind) for kind in FAULT_KINDS}
    # Only where LPET slept: otherwise it is a look at a counter, and what it waits for is modelled.
    # On a single core LPET's wait for it is the slice, and modelled.
    by_kind["wake"] = {"nobody": asleep.once("wake", ASLEEP_NS) or [[1.0, ASLEEP_NS]]}
    late = asleep.once("late") or [[1.0, ASLEEP_NS]]
    handled = [(ALONE, "here", monitor), *((way, way, crowd) for way in WAYS_TO_HANDLER)]
    think = bench.think_ns()
    by_way = {
        "placed": {kind: (put if kind == "stored" else steps).step(kind) for kind in STEP_KINDS},
        "placed rows": {kind: rows.step(kind) for kind in ROW_KINDS},
        "put": {kind: put.step(kind) for kind in STEP_KINDS},
        "put rows": {kind: put_rows.step(kind) for kind in ROW_KINDS},
    }
    fresh_by_kind = {kind: fresh.fault(kind) for kind in FRESH_KINDS}
    parts: dict[str, Any] = by_kind | {"late": late}
    parts |= {f"{kind}, fresh": by for kind, by in fresh_by_kind.items()}
    parts |= {f"{kind} of {way}": s for way, by in by_way.items() for kind, s in by.items()}
    missing = [k for k, v in parts.items() if not v or not all(v)]
    if missing:
        what = ", ".join(missing)
        raise EdmError(f"calibrate: {what} never happened; calibrate when the machine is quieter")
    slice_ns, (hit, hits) = bench.slice_ns(), bench.hit_ns(min(between))
    write_interrupt_ns, first_use_ns = bench.write_interrupt_ns(), bench.first_use_ns()
    scales = bench.scales(quick)
    return Calibration(
        cores=len(bench.cores),
        slice_ns=round(slice_ns, 1),
        think=think,
        spin_ns=float(lib.edm_spin_ns()),
        between_ns=round(min(between), 2),
        between_near_ns=round(min(between_near), 2),
        hit=hit,
        hits=hits,
        anchor_ns=round(bench.began_ns[1], 1),
        anchor_of_threads_ns=round(bench.began_ns[2], 1),
        faults=by_kind,
        near={kind: found for kind in NEAR_KINDS if (found := near.fault(kind))},
        fresh=fresh_by_kind,
        steps=by_way,
        scales=scales,
        first_use_ns=round(first_use_ns, 1),
        late=late,
        ring=calm.once("wake", most_ns=ASLEEP_NS) or [[1.0, 0.0]],
        nap=calm.once("nap") or late,
        woken=single.once("woken", least=20) or late,
        interrupt=single.interrupt(),
        write_interrupt_ns=round(write_interrupt_ns, 1),
        stores=found_stores,
        monitor={
            kind: {name: ways for name, w, s in handled if (ways := s.way(kind, w))}
            for kind in ("arrive", "return")
        },
        metadata=metadata,
    )


def summary(c: Calibration) -> list[dict[str, Any]]:
    """Rows of a table: component, beside what, mean and the slowest thousandth, us."""
    rows = []
    for near, table in (("", c.faults), (", near", c.near), (", fresh", c.fresh)):
        for kind, by in table.items():
            for beside, parts in by.items():
                rows.append(_row(kind + near, beside, mean_of(parts), parts[-1][1]))
    for way, by_kind in c.steps.items():
        for kind, steps in by_kind.items():
            for beside, step in steps.items():
                pages, ns = step["sizes"][-1]
                top = ns * step["spread"][-1][-1][1]
                rows.append(_row(f"{kind}, {pages:.0f} pages {way}", beside, ns, top))
    for what, strata_of in (
        *(("LPET, asleep, comes", c.late), ("LPET's shortest nap", c.nap)),
        ("who slept for a page, comes", c.woken),
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
