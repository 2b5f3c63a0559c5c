"""Runs of the runtime that calibrate measures: references of its own, and the machine's speed.

A region that is as every run of a situation finds it (each page was stored before) serves all runs
of that situation that follow one another; the anchors have regions of their own.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edm_policy.errors import EdmError
from edm_real.region import Region
from edm_real.span_sets import Spans, median, pooled
from edm_real.spans import FAULT
from edm_real.steady import Steady
from edm_workload import Trace
from edm_workload.calibration import SAME, SCALED, Speed

PAGES, LIMIT = 16384, 4096
ROUND = 45_000
"""References of one run."""

ANCHOR = 12_000
"""References of an anchor, a thread."""

FRESH_S = 2.0
"""An anchor holds for so long."""

SELDOM = 1600
"""Evictions a session of LPET's where it is rung for so seldom that it sleeps until then."""

FRESH, FRESH_RUNS = 3600, 3
"""Pages that are touched, twice each, with nothing evicted; and how often."""

RECENT = 3
"""Anchors that tell the speed now: their median."""

SIZES = (256, 512, 1024, 2048, 4096, 16384)
"""Local pages of regions four times as large over which it is measured what less in the caches
costs."""

STEP = 32
"""Evictions of a batch there, whatever the size."""

PAIRS = 12
"""Runs with spans counted and without, in turn, that tell what a mark costs."""

AGAIN = 3
"""How often a run is made, at most, while the cores are being moved."""

RESIDENT = (256, 1024, 4096, 16384)
"""Pages over which hits are measured where all are resident."""

HITS, HIT_PAGES, LIFTS = 6_000_000, 256, 4000
"""Hits of one thread, over so many pages, beside which another thread lifts write-protections."""

BACK, HITS_IN_A_ROW = (1, 16, 128, 700), 4
"""Faults after which a page is touched again, where hits are measured that faults come between;
and hits between two faults, where those that follow one another are."""


def walk(pages: int, n: int, seed: int, writes: float = 0.3, row: int = 1) -> tuple[Any, Any]:
    """n references: all pages in a shuffled order, `row` neighbours at a time, shuffled anew each
    time; and write flags."""
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(pages // row) for _ in range(-(-n // (pages // row * row)))]
    page = (np.concatenate(rounds)[:, None] * row + np.arange(row)).ravel()[:n].astype(np.uint32)
    return page, (rng.random(n) < writes).astype(np.uint8)


def revisits(pages: int, n: int, seed: int, back: int, hits: int) -> tuple[Any, Any]:
    """A walk of which every reference is followed by `hits` more, to the pages `back` before it,
    twice that and so on, written as they were the first time: each again after `back` others."""
    page, write = walk(pages, n // (1 + hits), seed)
    own = np.arange(len(page))
    at = np.maximum(own[:, None] - back * np.arange(1 + hits), 0).ravel()
    return page[at], write[at]


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


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def _lpet_to(core: int, before: set[int]) -> None:
    """LPET names itself when it runs first, a moment after the region was opened; before: the
    threads there were until then."""
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        for tid in _threads() - before:
            if Path(f"/proc/self/task/{tid}/comm").read_text().strip() == "edm-lpet":
                os.sched_setaffinity(tid, {core})
                return
        time.sleep(0.001)
    raise EdmError("calibrate: LPET's thread did not start")


class CoresMoved(EdmError):
    """The host moved a core, and did not move it back."""


class Bench:
    """Runs of the runtime that were measured.

    The speed of a virtual machine drifts within seconds. So anchors are taken before a run that
    counts spans, unless the last ones are fresh, and their times are scaled to the speed at which
    the bench began (its anchors then; none: they are left as they are). One thread's speed and two
    threads' drift apart, so there are anchors of each. What its cores share takes several times as
    long when the host has moved them: a run waits until they are as they were, and one during which
    they were moved is made again (see steady.py).

    began_ns, anchors: by threads (1 or 2), ns; anchors are all that were taken. moved: runs that
    were made again. strict: when waiting for the cores is given up, a run raises CoresMoved instead
    of taking them as they are.
    """

    def __init__(
        self,
        seed: int = 1,
        began_ns: dict[int, float] | None = None,
        steady: Steady | None = None,
        strict: bool = False,
    ):
        self.seed, self.began_ns = seed, began_ns or {}
        self.steady, self.strict, self.moved = steady or Steady(), strict, 0
        self.cores = sorted(os.sched_getaffinity(0))
        self.anchors: dict[int, list[float]] = {1: [], 2: []}
        self._taken_at = {1: 0.0, 2: 0.0}
        self._mark_ns: float | None = None
        self._kept: dict[str, tuple[Any, Region]] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends its regions; the next run opens others."""
        for _, region in self._kept.values():
            region.close()
        self._kept.clear()

    def begin(self) -> None:
        """Fixes the speed that all is scaled to."""
        for threads in (1, 2):
            self.began_ns[threads] = statistics.median(self.anchors_ns(threads, 5))

    def scale(self, threads: int = 1) -> float:
        """What makes times that are measured now those of the speed at which it began."""
        if threads not in self.began_ns:
            return 1.0
        if time.monotonic() - self._taken_at[threads] > FRESH_S:
            self.anchors_ns(threads, RECENT)
        return self.began_ns[threads] / statistics.median(self.anchors[threads][-RECENT:])

    def speed(self, threads: int) -> Speed:
        """Likewise, of a run of so many threads."""
        return Speed(self.scale(), self.scale(2) if threads > 1 else 1.0)

    def mark_ns(self) -> float:
        """What a mark costs in the middle of a fault, beyond what spans take off themselves (which
        is what it costs among others, when the processor is used to it): by so much a fault's
        spans are longer, in all, than a fault of which none are counted. Of one thread: two that
        are slowed down by marks also wait longer for one another."""
        if self._mark_ns is None:
            apart, found = len(self.cores) > 1, []
            settings = {"store": "mem:", "local": LIMIT, "evict": "fifo"}
            with on_core(self.cores[0] if apart else None):
                region = self._region("marks", settings, True, apart)
                for seed in range(PAIRS):
                    page, write = walk(PAGES, ANCHOR, seed)
                    region.measure(False)
                    alone_us = region.replay(page, write, seed=seed)["latency_us"]["mean"]
                    region.measure()
                    region.replay(page, write, seed=seed)
                    parts = [s for s in region.spans() if s.role == "faulter" and s.kind in FAULT]
                    faults = sum(s.count for s in parts if s.kind == "arrive")
                    longer_ns = sum(s.sum_ns for s in parts) - 1000 * alone_us * faults
                    found.append(longer_ns / sum(s.count for s in parts))
            self._mark_ns = max(0.0, statistics.median(found))
        return self._mark_ns

    def run(
        self,
        *into: Spans,
        store: str = "mem:",
        threads: int = 1,
        warm: bool = True,
        apart: bool = True,
        refs: int = ROUND,
        writes: float = 0.3,
        among: int = PAGES,
        row: int = 1,
        back: int = 0,
        hits: int = 1,
        kept: str = "run",
        **options: Any,
    ) -> dict[str, Any]:
        """One run; into: where its spans go (nowhere: they are not counted). warm: after a run
        that is not measured, so that every page was stored before. apart: the thread and LPET each
        have a core (where there are two). among: the walk is over so many pages. row, back, hits:
        see walk() and revisits(). kept: the name of the region that is kept for the next run."""
        self.seed += 1
        if back:
            page, write = revisits(PAGES, refs, self.seed, back, hits)
        else:
            page, write = walk(among, refs, self.seed, writes, row)
        apart = apart and threads == 1 and len(self.cores) > 1
        settings = {"store": store, "local": LIMIT, "evict": "fifo"} | options
        for _ in range(AGAIN):
            self.steady.settle()
            if self.strict and self.steady.gave_up:
                raise CoresMoved("the host moved a core, and did not move it back")
            speed = self.speed(threads) if into else SAME
            mark_ns = self.mark_ns() if into else 0.0
            with on_core(self.cores[0] if apart else None):
                region = self._region(kept, settings, warm, apart)
                region.measure(bool(into))
                result = region.replay(page, write, threads=threads, seed=self.seed)
                found = region.spans() if into else []
            if self.steady.holds():
                break
            self.moved += 1
        for spans in into:
            spans.add(found, speed, mark_ns)
        return result

    def _region(self, name: str, settings: dict[str, Any], warm: bool, apart: bool) -> Region:
        """The one kept under that name, if it is as wanted; else another one, in its place."""
        wanted = (settings, apart) if warm else None
        if name in self._kept:
            known, region = self._kept[name]
            if known and known == wanted:
                return region
            region.close()
        before = _threads()
        region = Region(PAGES, watch=False, **settings)
        self._kept[name] = wanted, region
        if apart and settings.get("reclaim") != "faulter":
            _lpet_to(self.cores[1], before)
        if warm:
            first, _ = walk(PAGES, PAGES, self.seed + 1000)
            region.replay(first, np.ones(len(first), np.uint8), seed=self.seed + 1000)
        return region

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

    def scales(self, quick: bool = False) -> dict[str, list[list[float]]]:
        """Calibration.scales: medians of runs in turn, over those of LIMIT pages."""
        sizes = [n for n in SIZES if n <= LIMIT or not quick]
        regions: dict[int, Region] = {}
        found: dict[str, dict[int, list[float]]] = {k: {n: [] for n in sizes} for k in SCALED}
        try:
            with on_core(self.cores[0] if len(self.cores) > 1 else None):
                for n in sizes:
                    marks: dict[str, Any] = {"high": n - STEP, "low": n - 2 * STEP, "batch": STEP}
                    regions[n] = Region(4 * n, watch=False, local=n, evict="fifo", **marks)
                    page, _ = walk(4 * n, max(4 * n, PAGES), self.seed)
                    regions[n].replay(page, np.ones(len(page), np.uint8))
                for seed in range(1 if quick else 3):
                    for n, region in regions.items():
                        page, write = walk(4 * n, ROUND // 2, seed, writes=0.5)
                        region.measure()
                        region.replay(page, write, seed=seed)
                        spans = Spans()
                        spans.add(region.spans(), mark_ns=self.mark_ns())
                        for kind in SCALED:
                            of = spans.page_ns if kind == "read" else spans.median_of
                            found[kind][n].append(max(1.0, of(kind)))
        finally:
            for region in regions.values():
                region.close()
        made = {}
        for kind, by in found.items():
            usual = statistics.median(by[LIMIT])
            made[kind] = [[n, round(statistics.median(ns) / usual, 4)] for n, ns in by.items()]
        return made

    def first_use_ns(self) -> float:
        """What a page read to its place in `mem:` takes longer where that was never used."""

        def page_ns(warm: bool) -> float:
            spans = Spans()
            self.run(spans, warm=warm, writes=1.0, refs=PAGES)
            took = [s for s in spans.of("read", "sum") if s.role == "lpet"]
            pages = sum(s.pages for s in took if s.kind == "read")
            return sum(s.sum_ns for s in took) / max(1, pages)

        return max(0.0, statistics.median([page_ns(False) - page_ns(True) for _ in range(3)]))

    def _outside(self, **options: Any) -> tuple[float, int, int]:
        """Of a run: ns outside of faults' latency, references that faulted, and that hit."""
        scale, run = self.scale(), self.run(**options)
        timed = run["extra"]["timed_faults"]
        ns = 1e9 * run["elapsed_s"] - 1000 * run["latency_us"]["mean"] * timed
        return scale * ns, timed, run["refs"] - timed

    def between_ns(self, row: int = 1) -> float:
        """What the replay does for a reference that faults, outside of its latency. Whatever
        interrupts it makes it longer: the least of several is meant."""
        ns, faults, _ = self._outside(row=row)
        return max(0.0, ns / faults)

    def hit_ns(self, between_ns: float) -> tuple[list[list[float]], list[list[float]]]:
        """[faults since the last reference to its page, ns] of one that hits: the first after a
        fault, and one that follows it. What several wait for memory overlaps."""

        def of(back: int, hits: int) -> float:
            found = []
            for _ in range(2):
                refs = (1 + hits) * ROUND // 3
                ns, faults, hit = self._outside(back=back, hits=hits, refs=refs)
                found.append((ns - faults * between_ns) / hit)
            return min(found)

        first, following = [], []
        for back in BACK:
            one, row = of(back, 1), of(back, HITS_IN_A_ROW)
            first.append([back, round(max(1.0, one), 2)])
            rest = (HITS_IN_A_ROW * row - one) / (HITS_IN_A_ROW - 1)
            following.append([back, round(max(1.0, rest), 2)])
        return first, following

    def slice_ns(self) -> float:
        """From one tick at which a core changes hands to the next: twice what LPET, rung for at any
        time between two, waits for a core on which another thread runs, on the median."""
        spans = Spans()
        self.close()
        with on_core(self.cores[0]):
            for _ in range(2):
                self.run(spans, apart=False, high=LIMIT - 8, low=LIMIT - 8 - SELDOM)
        self.close()  # its threads may run on one core only
        values, counts = pooled(spans.of("late"), float("inf"))
        if counts.sum() < 5:
            return 4e6
        return float(np.clip(2 * median(values, counts), 1e5, 1e8))

    def anchors_ns(self, threads: int, n: int) -> list[float]:
        """Median latencies of a fault in n short runs, nothing counted: the machine's speed now.

        The medians: the mean follows whoever else is on LPET's core, and that is not speed.
        Several, as one in ten is a fifth off."""
        for _ in range(n):
            run = self.run(refs=ANCHOR * threads, threads=threads, kept=f"anchor {threads}")
            self.anchors[threads].append(1000 * float(run["latency_us"]["p50"]))
        self._taken_at[threads] = time.monotonic()
        return self.anchors[threads][-n:]
