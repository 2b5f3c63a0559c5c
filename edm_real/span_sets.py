"""Spans of several runs, as a calibration keeps them: strata of components, and batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edm_real.spans import PREEMPTED_NS, Span
from edm_workload.calibration import (
    FAULT_KINDS,
    SAME,
    WAYS_TO_HANDLER,
    WRITTEN,
    Speed,
    Steps,
    Strata,
    strata,
)

STEP_PREEMPTED_NS = 2_000_000.0
ASLEEP_MOST_NS = 20_000_000.0
CROWDED = ("faulter", *WAYS_TO_HANDLER[1:])
INTERRUPTED_NS = 5_000.0
"""What took so much longer than usual beside a TLB flush was interrupted by it."""


class Spans:
    """Spans of several runs, by kind and by what went on beside."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], list[Span]] = defaultdict(list)
        self._kinds: dict[str, list[Span]] = defaultdict(list)

    def add(self, spans: Iterable[Span], speed: Speed = SAME, mark_ns: float = 0.0) -> None:
        """speed: what makes their times those of the speed at which calibrate began; mark_ns: what
        is taken off each before, see Bench.mark_ns()."""
        for span in spans:
            scale = speed.of(span.role != "lpet" and span.beside in CROWDED)
            values = scale * np.maximum(span.values_ns - mark_ns, 0)
            total = scale * max(0.0, span.sum_ns - mark_ns * span.count)
            s = replace(span, sum_ns=total, values_ns=values)
            self._parts[s.kind, s.beside].append(s)
            self._kinds[s.kind].append(s)

    def of(self, *kinds: str) -> list[Span]:
        """All of these kinds."""
        return [s for kind in kinds for s in self._kinds[kind]]

    def all(self) -> Iterator[Span]:
        """Every one."""
        return chain.from_iterable(self._kinds.values())

    def _besides(self, kind: str) -> list[str]:
        return [b for k, b in self._parts if k == kind]

    def _faults(
        self, kind: str, beside: str, most_ns: float = PREEMPTED_NS
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Values, ascending, and counts of one-page spans, not LPET's."""
        kind, write = kind.removesuffix(WRITTEN), kind.endswith(WRITTEN)
        parts = [s for s in self._parts[kind, beside] if s.least == 1 and s.role != "lpet"]
        return pooled([s for s in parts if s.write == write], most_ns)

    def fault(self, kind: str, least: int = 50, asleep: bool = False) -> dict[str, Strata]:
        """Strata of one-page spans by what went on beside, where enough were seen. What a
        TLB flush adds is not in them (see interrupt()), nor those that waited for a core; asleep:
        who waits off the core, for whom both are part of it."""
        most_ns = ASLEEP_MOST_NS if asleep else PREEMPTED_NS
        found = {}
        for beside in self._besides(kind.removesuffix(WRITTEN)):
            values, counts = self._faults(kind, beside, most_ns)
            if counts.sum() < least:
                continue
            if beside == "flush" and not asleep:
                keep = values <= median(values, counts) + INTERRUPTED_NS
                values, counts = values[keep], counts[keep]
            found[beside] = strata(values, counts)
        return found

    def way(self, kind: str, way: str, least: int = 50) -> Strata:
        """arrive or return of a handler thread; none if there are too few. Both sleep: what they
        wait for a core is part of it."""
        values, counts = pooled(self._parts[kind, way], ASLEEP_MOST_NS)
        return strata(values, counts) if counts.sum() >= least else []

    def median_of(self, kind: str) -> float:
        """Of one-page spans beside LPET or nobody; 0: none."""
        parts = [self._faults(kind, beside) for beside in ("lpet", "nobody")]
        value, count = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(value, kind="stable")
        return median(value[order], count[order]) if count.sum() else 0.0

    def page_ns(self, kind: str) -> float:
        """A page of LPET's batches, on the mean; 0: none."""
        parts = [s for s in self.of(kind) if s.role == "lpet"]
        return sum(s.sum_ns for s in parts) / max(1, sum(s.pages for s in parts))

    def interrupt(self) -> Strata:
        """What a flush by LPET adds to whatever the faulting thread was at, nothing included.

        Of runs with one thread: a flush interrupts it once, however many pages it is for, in one
        of many components beside the flush."""
        flushes = sum(s.count for s in self.of("flush", "drain") if s.role == "lpet")
        extra, counts = [np.zeros(1)], [np.zeros(1, np.int64)]
        for kind in ("get", *FAULT_KINDS):
            values, seen = self._faults(kind, "flush")
            if not seen.sum():
                continue
            late = values > median(values, seen) + INTERRUPTED_NS
            usual = float(np.average(values[~late], weights=seen[~late]))
            extra.append(values[late] - usual)
            counts.append(seen[late])
        if not flushes:
            return [[1.0, 0.0]]
        value, count = np.concatenate(extra), np.concatenate(counts)
        several = max(1.0, float(count.sum()) / flushes)
        count[0] = max(0, flushes - count.sum())
        order = np.argsort(value, kind="stable")
        return strata(value[order] * several, count[order])

    def step(self, kind: str, least: int = 8) -> dict[str, Steps]:
        """Batches: of LPET's, and of direct reclaim beside a thread that faults (faulter), or not
        (nobody)."""
        by: dict[str, list[Span]] = {"lpet": [], "faulter": [], "nobody": []}
        for s in self._kinds[kind]:
            direct = "faulter" if s.beside == "faulter" else "nobody"
            by["lpet" if s.role == "lpet" else direct].append(s)
        return {who: made for who, spans in by.items() if (made := batches(spans, least))}

    def once(
        self, kind: str, least_ns: float = 0, most_ns: float = PREEMPTED_NS, least: int = 1
    ) -> Strata:
        """All spans of a kind, from `least_ns` up to `most_ns`; none if there are too few."""
        values, counts = pooled(self._kinds[kind], most_ns)
        keep = values >= least_ns
        return strata(values[keep], counts[keep]) if counts[keep].sum() >= least else []


def median(values: NDArray[Any], counts: NDArray[Any]) -> float:
    """Of values in ascending order."""
    return float(values[np.searchsorted(np.cumsum(counts), counts.sum() / 2)])


def pooled(spans: list[Span], most: float) -> tuple[NDArray[Any], NDArray[Any]]:
    if not spans:
        return np.zeros(0), np.zeros(0)
    values = np.concatenate([s.values_ns for s in spans])
    counts = np.concatenate([s.counts for s in spans])
    keep = values <= most
    order = np.argsort(values[keep], kind="stable")
    return values[keep][order], counts[keep][order]


def batches(spans: list[Span], least: int = 8, most_ns: float = STEP_PREEMPTED_NS) -> Steps | None:
    """Mean by size, and the spread about it, of spans of many pages; None: too few."""
    sizes, spread = [], []
    by_size: dict[int, list[Span]] = defaultdict(list)
    for s in spans:
        by_size[s.least].append(s)
    for _, parts in sorted(by_size.items()):
        values, counts = pooled(parts, most_ns)
        n = counts.sum()
        if n < least:
            continue
        mean = float(np.dot(values, counts) / n)
        pages = sum(s.pages for s in parts) / sum(s.count for s in parts)
        if pages >= 1 and mean > 0:
            sizes.append([round(pages, 3), round(mean, 3)])
            spread.append(strata(values / mean, counts))
    return {"sizes": sizes, "spread": spread} if sizes else None
