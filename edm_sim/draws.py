"""What components take, drawn one at a time: from a cost table's numbers, or from a calibration.

A component of a fault depends on what goes on beside it (BESIDE, an index): the TLB flush of
another thread is under way, other threads share caches, locks and the memory's bandwidth; and on
whether the page is the one after the last (NEAR is added to the index): caches help then. A
cost table knows one number for all of that. What a flush interrupts costs more by `interrupt`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edm_sim.costs import Costs
from edm_sim.distributions import BLOCK, sampler, stream
from edm_sim.distributions import Strata as StrataDistribution
from edm_workload.calibration import (
    ALONE,
    BESIDE,
    WAYS_TO_HANDLER,
    WRITTEN,
    Calibration,
    Speed,
    Steps,
    Strata,
    mean_ns,
    nearest,
)

Draw = Callable[[], int]
FLUSH, FAULTER, LPET, NOBODY = range(len(BESIDE))
HERE, HERE_NEXT, AWAY, AWAY_NEXT, BY_NEAR = range(len(WAYS_TO_HANDLER) + 1)
NEAR = len(BESIDE)

# Where one was not seen beside something, what comes closest.
_ORDER = {
    "flush": ("flush", "lpet", "faulter", "nobody"),
    "faulter": ("faulter", "lpet", "flush", "nobody"),
    "lpet": ("lpet", "faulter", "nobody", "flush"),
    "nobody": ("nobody", "lpet", "faulter", "flush"),
}


def _nearest(table: Mapping[str, Any], beside: str) -> str:
    return next(b for b in _ORDER[beside] if b in table)


def constant(ns: int) -> Draw:
    """Always that."""
    return lambda: ns


def beside_all(draw: Draw) -> list[Draw]:
    """The same, whatever goes on, near or not."""
    return [draw] * (NEAR + len(BESIDE))


def twice(draw: Draw) -> tuple[list[Draw], ...]:
    """Likewise, whether it is a write or not."""
    return beside_all(draw), beside_all(draw)


class Sampler:
    """Draws of one owner at one speed of the machine, from streams of their own names."""

    def __init__(
        self, seed: int, speed: Speed, owner: str, of: Callable[[str], float] = lambda kind: 1.0
    ):
        """of: by what a component is scaled."""
        self.speed = speed
        self._seed, self._owner, self._of = seed, owner, of

    def strata(self, parts: Strata, name: str, crowded: bool = False, of: float = 1.0) -> Draw:
        """Of a distribution, scaled; crowded: of a thread beside another one that faults."""
        scale = of * self.speed.of(crowded)
        values = [(share, ns * scale) for share, ns in parts]
        return sampler(StrataDistribution.of(values), stream(self._seed, f"{self._owner} {name}"))

    def fault(self, c: Calibration, *kinds: str) -> list[Draw]:
        """Components of a fault one after the other, by what goes on beside; then near."""
        return self.by_beside(c.faults, kinds) + self.by_beside(c.faults | c.near, kinds, "near ")

    def by_beside(
        self, table: Mapping[str, Mapping[str, Strata]], kinds: Sequence[str], near: str = ""
    ) -> list[Draw]:
        """What `kinds` of a table take together, by what goes on beside."""
        return [
            _added([self._seen(table[k], b, f"{near}{k} beside {b}", self._of(k)) for k in kinds])
            for b in BESIDE
        ]

    def _seen(self, by: Mapping[str, Strata], beside: str, name: str, of: float = 1.0) -> Draw:
        """What was seen beside that, or what comes closest."""
        seen = _nearest(by, beside)
        return self.strata(by[seen], name, seen == "faulter", of)

    def to_handler(self, ways: Mapping[str, Strata], kind: str) -> list[Draw]:
        """arrive or return, by HERE to BY_NEAR; one that was not seen as one that was."""
        found = []
        for way in (*WAYS_TO_HANDLER, ALONE):
            known = way if way in ways else way.removesuffix("_next")
            known = known if known in ways else "here" if "here" in ways else ALONE
            found.append(self.strata(ways[known], f"{kind} {way}", crowded=known != ALONE))
        return found

    def batch(self, steps: Steps, name: str, of: float = 1.0) -> Callable[[int], int]:
        """Of a number of pages, scaled."""
        return _batch(steps, of * self.speed.alone, stream(self._seed, f"{self._owner} {name}"))

    def step(
        self, table: Mapping[str, Mapping[str, Steps]], *kinds: str, name: str = ""
    ) -> list[Callable[[int], int]]:
        """Components of a reclaim step one after the other, for the same pages."""
        found = []
        for b in BESIDE:
            parts = [
                self.batch(table[k][_nearest(table[k], b)], f"{k}{name} beside {b}", self._of(k))
                for k in kinds
            ]
            found.append(_added_for(parts))
        return found


def in_rows(
    scattered: Sequence[Callable[[int], int]], rows: Sequence[Callable[[int], int]]
) -> list[Callable[[int, float], int]]:
    """Of n pages and the share of them that do not follow another one: by that share between what
    scattered pages take and pages in rows."""

    def of(apart: Callable[[int], int], row: Callable[[int], int]) -> Callable[[int, float], int]:
        def draw(n: int, share: float) -> int:
            if share == 1.0 or not n:
                return apart(n)
            return round(share * apart(n) + (1 - share) * row(n))

        return draw

    return [of(apart, row) for apart, row in zip(scattered, rows, strict=True)]


def share_apart(pages: Sequence[int]) -> float:
    """Of pages, in any order: 0 if they are one row, 1 if no two are neighbours."""
    n = len(pages)
    if n < 2:
        return 1.0
    known = set(pages)
    return (sum([page - 1 not in known for page in pages]) - 1) / (n - 1)


def _added(parts: Sequence[Draw]) -> Draw:
    if len(parts) == 1:
        return parts[0]
    return lambda: sum([part() for part in parts])


def _added_for(parts: Sequence[Callable[[int], int]]) -> Callable[[int], int]:
    return lambda n: sum([part(n) for part in parts]) if n else 0


def _batch(steps: Steps, scale: float, rng: np.random.Generator) -> Callable[[int], int]:
    sizes = steps["sizes"]
    spreads = [StrataDistribution.of(spread) for spread in steps["spread"]]
    blocks: list[list[float]] = [[] for _ in spreads]
    known: dict[int, tuple[float, int]] = {}

    def draw(n: int) -> int:
        if not n:
            return 0
        if n not in known:
            known[n] = scale * mean_ns(sizes, n), nearest(sizes, n)
        mean, at = known[n]
        block = blocks[at]
        if not block:
            block.extend(spreads[at].sample(rng, BLOCK).tolist())
        return round(mean * block.pop())

    return draw


class Machine:
    """What an instance draws: each a list by what goes on beside, of a draw.

    there, zero, install and rescue twice: of a fault that reads, and of one that writes.
    there, back: touch to the first line that is ours, and from the last one on; in monitor mode by
    the way to the handler instead (HERE to BY_NEAR). lock: taking the
    pager's lock, with the wait for LPET. decide: its verdict, under the lock. zero, install,
    rescue, allow_write: and telling the pager. ring: waking LPET where it sleeps; tap: ringing
    while it naps. late: until it runs. woken: until
    who slept for a page does. nap: its shortest one. interrupt: what a TLB flush by
    another thread costs; write_interrupt: one for a single page's write-protection. first_use_ns: a
    page more whose place in the store has no memory yet. get_scales: what `mem:` takes for a page
    over what was measured, by the bits of the number of faults since its own last one. steps: the
    parts of a reclaim step (None: costs.reclaim_ns is one number).

    places: pages go straight to where the store keeps them. local, pages: how many are local at
    most, and there are.
    """

    def __init__(
        self,
        costs: Costs,
        seed: int,
        owner: str,
        monitor: bool,
        places: bool = False,
        local: int = 0,
        pages: int = 0,
    ):
        c = costs.calibration
        self.measured = c is not None
        self.late = self.woken = constant(costs.wake_ns)
        if c is None:
            there = costs.monitor_ns if monitor else costs.upcall_ns
            back = costs.monitor_return_ns if monitor else costs.upcall_return_ns
            self.there, self.back = twice(constant(there)), beside_all(constant(back))
            if monitor:
                to_next = constant(costs.monitor_busy_ns)
                self.there = ([constant(there), to_next] * 2 + [constant(there)],) * 2
                self.back = [constant(back)] * (BY_NEAR + 1)
            self.lock = beside_all(constant(0))
            self.decide = beside_all(constant(costs.decide_ns))
            self.zero = twice(constant(costs.zero_ns))
            self.install = twice(constant(costs.install_ns))
            self.rescue = twice(constant(costs.rescue_ns))
            self.allow_write = beside_all(constant(costs.allow_write_ns))
            self.ring = beside_all(constant(costs.ring_ns))
            self.tap, self.nap = constant(0), constant(costs.nap_ns)
            self.interrupt = self.write_interrupt = constant(costs.tlb_ns)
            self.first_use_ns = 0.0
            self.get_scales = [1.0] * 64
            self._usual: list[tuple[list[Draw], list[Draw]]] = []
            return

        def of(kind: str) -> float:
            """The frame that the kernel has for a page is a local page's, whatever it is for; for
            first touches it need not be one that was in use."""
            if kind.startswith("zero"):
                return min(1.0, c.scale(kind.replace("zero", "install"), local))
            known = pages / 4 if kind in ("check", "conclude") else local
            return c.scale(kind.replace("rescue", "install"), known)

        s = Sampler(seed, costs.speed, owner, of if local else lambda kind: 1.0)
        self.get_scales = [c.scale("get", 0.75 * 2**bits / 4) for bits in range(64)]
        if monitor:
            self.there = (s.to_handler(c.monitor["arrive"], "arrive"),) * 2
            self.back = s.to_handler(c.monitor["return"], "return")
        else:
            self.there = tuple(s.fault(c, f"arrive{w}") for w in ("", WRITTEN))
            self.back = s.fault(c, "return")
        self.lock, self.decide = s.fault(c, "lock"), s.fault(c, "decide")
        self.zero, self.install, self.rescue = (
            tuple(s.fault(c, *before, f"{kind}{w}", "conclude") for w in ("", WRITTEN))
            for kind, before in (("zero", ()), ("install", ("check",)), ("rescue", ()))
        )
        self.allow_write = s.fault(c, "protect", "conclude")
        self._before_evictions(s, c, monitor)
        self.ring = s.fault(c, "wake")
        self.late, self.woken = s.strata(c.late, "late"), s.strata(c.woken, "woken")
        self.tap, self.nap = s.strata(c.ring, "tap"), s.strata(c.nap, "nap")
        self.interrupt = s.strata(c.interrupt, "interrupt")
        self.first_use_ns = c.first_use_ns * costs.speed.alone
        self.write_interrupt = constant(round(c.write_interrupt_ns * costs.speed.crowded))
        way = "placed" if places else "put"
        apart, rows = c.steps[way], c.steps[f"{way} rows"]
        self.choose, self.done, self.stored = (
            s.step(apart, kind) for kind in ("choose", "done", "stored")
        )
        self.sort, self.splice, self.flush, self.read = (
            in_rows(s.step(apart, *kinds), s.step(rows, *kinds, name=" in rows"))
            for kinds in (("sort",), ("splice",), ("flush",), ("read", "sum"))
        )

    def _before_evictions(self, s: Sampler, c: Calibration, monitor: bool) -> None:
        """What takes less while nothing was evicted yet, until evicts()."""
        written = (("", 0), (WRITTEN, 1))
        fresh = [
            *((self.lock, ("lock",)), (self.decide, ("decide",))),
            *((self.zero[w], (f"zero{kind}", "conclude")) for kind, w in written),
            (self.allow_write, ("protect", "conclude")),
        ]
        if not monitor:
            fresh += [(self.there[w], (f"arrive{kind}",)) for kind, w in written]
            fresh.append((self.back, ("return",)))
        self._usual = [(draws, list(draws)) for draws, _ in fresh]
        for draws, kinds in fresh:
            if c.fresh:
                draws[:NEAR] = s.by_beside(c.faults | c.fresh, kinds, "fresh ")

    def evicts(self) -> None:
        """From now on, pages are evicted."""
        for draws, usual in self._usual:
            draws[:] = usual
        self._usual = []
