"""A calibration: what this machine's primitives cost, as measured inside the real runtime.

edm_real measures it (`python -m edm_real calibrate`), edm_sim draws from it. One JSON file:

    schema, metadata      where, when, under which load; see edm_workload.metadata
    cores                 this program may run on
    slice_ns              from one tick, at which a core changes hands if another thread waits,
                          to the next
    spin_ns               how long who waits for a page spins before it sleeps
    think                 [pages, ns] of a reference that hits, all of so many pages resident
    hit                   [faults since the last reference to its page, ns] of one that hits, the
                          first after a fault
    hits                  the same of those that follow it: what they wait for memory overlaps
    between_ns            what the replay loop does for one that faults, outside of its latency;
    between_near_ns       the same on the page after the last one
    anchor_ns             median fault of the anchor, a short run of its own: how fast it was then
    anchor_of_threads_ns  the same of two threads
    faults                kind -> beside what -> strata: the components of a fault, those of a write
                          apart (WRITTEN)
    near                  the same on the page after the last one, where caches help
    fresh                 the same while nothing was evicted yet (FRESH_KINDS; those that are not
                          known are as in faults)
    scales                kind -> [pages, ratio]: its median where so many pages are local and four
                          times as many there are, over that where it was measured (SCALED)
    steps                 way -> kind -> by whom -> sizes and spread: those of a reclaim step; ways
                          are WAYS, and "... rows", of neighbours (ROW_KINDS alone); by LPET, or
                          by a thread beside one that faults (faulter), or not (nobody)
    first_use_ns          what a page that goes straight to its place in a store takes longer where
                          that was never used: the kernel gives it memory
    late                  LPET, rung for while it sleeps until it runs: strata
    nap                   what its shortest nap by the clock takes: strata
    woken                 who slept for a page in somebody's hands, told until it runs: strata
    ring                  ringing for it while it naps: strata (while it sleeps: faults, wake)
    interrupt             what a TLB flush costs each core that runs the program: strata
    write_interrupt_ns    the same where another thread had a page's write-protection lifted
    monitor               arrive and return of a handler thread: kind -> which way (WAYS_TO_HANDLER,
                          ALONE) -> strata
    stores                scheme -> get, near (of a page, as in faults), put, new (batches, as in
                          steps)

Strata are [share, mean ns of it] in ascending order: a distribution whose mean is exact. Sizes are
[pages, mean ns] of batches, spread for each of them the strata of what one took over its mean.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edm_policy.errors import EdmError
from edm_workload.files import whole

SCHEMA = 9
BESIDE = ("flush", "faulter", "lpet", "nobody")
"""What may go on beside a component, the first that holds; see edm_real/c/spans.h."""

WRITTEN = " written"
_WRITTEN = tuple(kind + WRITTEN for kind in ("arrive", "zero", "install", "rescue"))
"""These are there twice: WRITTEN of a fault that is a write. On a write to a missing page the
kernel has a page ready when it finds that we are to be asked: it comes to us later, and takes that
page then."""

FAULT_KINDS = (
    *("arrive", "lock", "decide", "wake", "check", "zero", "install", "rescue", "protect"),
    *("conclude", "return", *_WRITTEN),
)
NEAR_KINDS = (
    *("arrive", "lock", "decide", "check", "zero", "install", "conclude", "return"),
    *_WRITTEN[:3],
)
FRESH_KINDS = (
    *("arrive", "lock", "decide", "zero", "protect", "conclude", "return"),
    *_WRITTEN[:2],
)
SCALED = ("get", "arrive", "check", "install", "conclude", *_WRITTEN[::2], "read")
"""What takes longer the more memory there is, as less of it is in the caches: the page's bytes in
`mem:`, the frame that the kernel has for it, what is known of the page."""

WAYS_TO_HANDLER = ("here", "here_next", "away", "away_next")
"""Whether the handler has gone to the core of who faults, and whether it comes from another fault:
then from its end on. As in edm_real/c/spans.h."""

ALONE = "alone"
"""Of a thread that faults alone, whom the near handler serves (edm_real/c/near.c)."""

WAYS = ("placed", "put")
"""Where a page's bytes go: straight to the store's memory, or to a buffer and through its put."""

STEP_KINDS = ("choose", "sort", "splice", "flush", "read", "sum", "done", "stored")
ROW_KINDS = ("sort", "splice", "flush", "read", "sum")

Strata = list[list[float]]
Steps = dict[str, Any]

LEVELS = np.concatenate(
    [np.linspace(0, 0.9, 31)[:-1], np.linspace(0.9, 0.99, 10)[:-1], np.linspace(0.99, 1, 11)]
)
"""Where strata() cuts a distribution."""


def strata(values: NDArray[Any], counts: NDArray[Any]) -> Strata:
    """Of values in ascending order and how often each was seen: [share, mean] between LEVELS."""
    edges = np.concatenate([[0.0], np.cumsum(counts, dtype=float)])
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values) * counts, dtype=float)])
    cuts = LEVELS * edges[-1]
    at = np.interp(cuts, edges, sums)
    found = [
        [round(float(b - a) / float(edges[-1]), 6), round(float((t - s) / (b - a)), 3)]
        for a, b, s, t in zip(cuts, cuts[1:], at, at[1:], strict=False)
        if b > a
    ]
    merged: Strata = []
    for share, value in found:  # a heavy value fills several strata: one is enough
        if merged and abs(merged[-1][1] - value) < 1e-3 * max(1.0, value):
            merged[-1][0] += share
        else:
            merged.append([share, value])
    return merged


def mean_of(parts: Sequence[Sequence[float]]) -> float:
    """The mean of strata."""
    return sum(s * v for s, v in parts) / sum(s for s, _ in parts)


def mean_ns(sizes: Sequence[Sequence[float]], n: float) -> float:
    """Mean for n pages: between sizes that were measured on a line, beyond them along the last."""
    if len(sizes) == 1:
        pages, ns = sizes[0]
        return ns * n / pages
    at = bisect_left([pages for pages, _ in sizes], n)
    (p0, t0), (p1, t1) = list(pairwise(sizes))[min(max(at - 1, 0), len(sizes) - 2)]
    ns = t0 + (t1 - t0) * (n - p0) / (p1 - p0)
    return max(ns, 0.0) if n >= sizes[0][0] else max(ns, sizes[0][1] * n / sizes[0][0])


def nearest(sizes: Sequence[Sequence[float]], n: float) -> int:
    """Which of the sizes that were measured n pages are closest to, as a ratio."""
    return min(range(len(sizes)), key=lambda i: abs(log(sizes[i][0] / n)))


@dataclass(frozen=True)
class Speed:
    """What makes times of one moment those of another: one thread's and LPET's (alone), and those
    of a thread beside another one that faults (crowded), as the two drift apart. Above 1: slower.
    """

    alone: float = 1.0
    crowded: float = 1.0

    def of(self, crowded: bool) -> float:
        """The one that holds."""
        return self.crowded if crowded else self.alone


SAME = Speed()


@dataclass(frozen=True)
class Calibration:
    """See the module: every field is a key of the file."""

    cores: int
    slice_ns: float
    spin_ns: float
    think: list[list[float]]
    hit: list[list[float]]
    hits: list[list[float]]
    between_ns: float
    between_near_ns: float
    anchor_ns: float
    anchor_of_threads_ns: float
    faults: dict[str, dict[str, Strata]]
    near: dict[str, dict[str, Strata]]
    fresh: dict[str, dict[str, Strata]]
    steps: dict[str, dict[str, dict[str, Steps]]]
    scales: dict[str, list[list[float]]]
    first_use_ns: float
    late: Strata
    ring: Strata
    nap: Strata
    woken: Strata
    interrupt: Strata
    write_interrupt_ns: float
    stores: dict[str, dict[str, Any]]
    monitor: dict[str, dict[str, Strata]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def machine_load(self) -> str:
        """idle or loaded, when it was measured."""
        return str(self.metadata.get("machine_load", "unknown"))

    @property
    def repeat_error(self) -> float:
        """How far apart its own repeats were: half their spread over the median."""
        return float(self.metadata.get("repeat_error", float("nan")))

    @property
    def core_distance_ns(self) -> float:
        """What a cache line took from one core to another and back; 0: not known."""
        return float(self.metadata.get("core_distance_ns", 0))

    @property
    def restless(self) -> bool:
        """The host moved the cores all the time while it was measured."""
        return bool(self.metadata.get("cores_restless"))

    @property
    def noise(self) -> str:
        """How noisy the machine was; what of it the processors' host did."""
        said = f"repeat error {self.repeat_error:.1%}, others used "
        said += f"{self.metadata.get('others', 0):.2f} cores"
        if self.restless:
            return said + ", and the host moved cores all the time"
        if self.metadata.get("cores_moved"):
            return said + ", and the host moved a core for good"
        return said

    def think_ns(self, resident: float) -> float:
        """One reference that hits, with so many pages resident, which is all there are."""
        return mean_ns(self.think, min(max(resident, self.think[0][0]), self.think[-1][0]))

    def scale(self, kind: str, local: float) -> float:
        """What a component takes with so many pages local, over what it takes as measured; on a
        line over the logarithm, and beyond what was measured as there."""
        known = self.scales.get(kind)
        if not known:
            return 1.0
        pages, ratios = zip(*known, strict=True)
        return float(np.interp(log(max(local, 1.0)), np.log(pages), ratios))

    def name(self) -> str:
        """What it is, in a line."""
        m = self.metadata
        return (
            f"{m.get('cpu', 'unknown processor')}, {self.cores} cores, Linux "
            f"{m.get('kernel', '?')}, {self.machine_load}, {m.get('date', 'no date')}, "
            f"repeat error {self.repeat_error:.1%}"
        )

    def save(self, path: str | Path) -> None:
        """Raises EdmError if it cannot be written."""
        values = {"schema": SCHEMA, "kind": "edm-calibration", **asdict(self)}
        lines = [f'"{key}": {json.dumps(value)}' for key, value in values.items()]
        with whole(path) as part:
            part.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def load(path: str | Path) -> Calibration:
    """Reads a file that save() wrote. Raises EdmError if it is none."""
    try:
        document = json.loads(Path(path).read_text())
    except OSError as e:
        raise EdmError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise EdmError(f"{path}: no calibration ({e}); make one with edm_real calibrate") from e
    return from_document(document, str(path))


def from_document(document: Mapping[str, Any], where: str) -> Calibration:
    """From the file's content. Raises EdmError naming what is wrong with it."""
    fix = "make one with python -m edm_real calibrate"
    if not isinstance(document, Mapping) or document.get("kind") != "edm-calibration":
        raise EdmError(f"{where}: no calibration; {fix}")
    if document.get("schema") != SCHEMA:
        raise EdmError(f"{where}: schema {document.get('schema')}, not {SCHEMA}; {fix}")
    values = {k: v for k, v in document.items() if k not in ("schema", "kind")}
    try:
        made = Calibration(**values)
        _check(made)
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise EdmError(f"{where}: damaged calibration ({e}); {fix}") from e
    return made


def usual(by: Mapping[str, Strata]) -> float:
    """Mean where LPET is at work beside it, or else alone, or else as it was seen."""
    return mean_of(next(by[b] for b in ("lpet", "nobody", "faulter", "flush") if b in by))


def _check(c: Calibration) -> None:
    numbers = dict.fromkeys(
        ("cores", "slice_ns", "spin_ns", "anchor_ns", "anchor_of_threads_ns"), 1
    )
    numbers |= {"between_ns": 0, "between_near_ns": 0, "write_interrupt_ns": 0, "first_use_ns": 0}
    for key, least in numbers.items():
        value = getattr(c, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise ValueError(f"{key} is {value!r}")
    tables = [(k, c.faults[k]) for k in FAULT_KINDS]
    tables += [(f"{k}, fresh", by) for k, by in c.fresh.items()]
    tables += [*c.near.items(), *c.monitor.items()]
    tables += [(f"{k} of {name}", s[k]) for name, s in c.stores.items() for k in ("get", "near")]
    for kind, by in tables:
        if not by:
            raise ValueError(f"no {kind}")
        for beside, parts in by.items():
            _check_strata(f"{kind} beside {beside}", parts)
    for what in ("late", "ring", "nap", "woken", "interrupt"):
        _check_strata(what, getattr(c, what))
    _check_sizes("think", c.think)
    _check_sizes("hit", c.hit)
    _check_sizes("hits", c.hits)
    for kind in SCALED:
        _check_sizes(f"scales of {kind}", c.scales[kind])
    batches = []
    for way in WAYS:
        for name, kinds in ((way, STEP_KINDS), (f"{way} rows", ROW_KINDS)):
            batches += [(f"{k} of {name}", b) for k in kinds for b in c.steps[name][k].values()]
    for scheme, store in c.stores.items():
        batches += [(f"{k} of {scheme}", store[k]) for k in ("put", "new")]
    for what, batch in batches:
        _check_sizes(f"sizes of {what}", batch["sizes"])
        if len(batch["spread"]) != len(batch["sizes"]):
            raise ValueError(f"spread of {what}")
        for spread in batch["spread"]:
            _check_strata(f"spread of {what}", spread)


def _check_sizes(what: str, sizes: list[list[float]]) -> None:
    if not sizes or any(p < 1 or ns < 0 for p, ns in sizes) or sizes != sorted(sizes):
        raise ValueError(what)


def _check_strata(what: str, parts: Strata) -> None:
    if not parts or any(not s > 0 or not v >= 0 for s, v in parts):
        raise ValueError(what)
    if abs(sum(s for s, _ in parts) - 1) > 1e-3:
        raise ValueError(f"{what}: shares that are not 1 in all")
