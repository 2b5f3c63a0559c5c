"""What components take, drawn one at a time: from a cost table's numbers, or from a calibration.

A component of a fault depends on what goes on beside it (BESIDE, an index): the TLB flush of
another thread interrupts it, other threads share caches, locks and the memory's bandwidth. A
cost table knows one number for all of that, and the model adds its interrupts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edm_sim.costs import Costs
from edm_sim.distributions import BLOCK, sampler, stream
from edm_sim.distributions import Strata as StrataDistribution
from edm_workload.calibration import BESIDE, Steps, Strata, mean_ns

Draw = Callable[[], int]
FLUSH, FAULTER, LPET, NOBODY = range(len(BESIDE))

# Where one was not seen beside something, what comes closest.
_NEAREST = {
    "flush": ("flush", "lpet", "faulter", "nobody"),
    "faulter": ("faulter", "lpet", "flush", "nobody"),
    "lpet": ("lpet", "faulter", "nobody", "flush"),
    "nobody": ("nobody", "lpet", "faulter", "flush"),
}


def _by(table: Mapping[str, Any], beside: str) -> Any:
    return next(table[b] for b in _NEAREST[beside] if b in table)


def constant(ns: int) -> Draw:
    """Always that."""
    return lambda: ns


def beside_all(draw: Draw) -> list[Draw]:
    """The same, whatever goes on."""
    return [draw] * len(BESIDE)


class Sampler:
    """Draws of one owner at one speed of the machine, from streams of their own names."""

    def __init__(self, seed: int, scale: float, owner: str):
        self.scale = scale
        self._seed, self._owner = seed, owner

    def strata(self, parts: Strata, name: str) -> Draw:
        """Of a distribution."""
        values = [(share, ns * self.scale) for share, ns in parts]
        return sampler(StrataDistribution.of(values), stream(self._seed, f"{self._owner} {name}"))

    def fault(self, kind: str, table: Mapping[str, Mapping[str, Strata]]) -> list[Draw]:
        """A component of a fault, by what goes on beside."""
        return [self.strata(_by(table[kind], b), f"{kind} beside {b}") for b in BESIDE]

    def sum(self, table: Mapping[str, Mapping[str, Strata]], *kinds: str) -> list[Draw]:
        """Components one after the other, by what goes on beside."""
        parts = [self.fault(kind, table) for kind in kinds]
        return [_added([part[b] for part in parts]) for b in range(len(BESIDE))]

    def batch(self, steps: Steps, name: str) -> Callable[[int], int]:
        """Of a number of pages."""
        return _batch(steps, self.scale, stream(self._seed, f"{self._owner} {name}"))

    def step(
        self, table: Mapping[str, Mapping[str, Steps]], *kinds: str
    ) -> list[Callable[[int], int]]:
        """Components of a reclaim step one after the other, for the same pages."""
        found = []
        for b in BESIDE:
            parts = [self.batch(_by(table[k], b), f"{k} beside {b}") for k in kinds]
            found.append(_added_for(parts))
        return found


def _added(parts: Sequence[Draw]) -> Draw:
    if len(parts) == 1:
        return parts[0]
    return lambda: sum([part() for part in parts])


def _added_for(parts: Sequence[Callable[[int], int]]) -> Callable[[int], int]:
    return lambda n: sum([part(n) for part in parts]) if n else 0


def _batch(steps: Steps, scale: float, rng: np.random.Generator) -> Callable[[int], int]:
    sizes, known = steps["sizes"], dict[int, float]()
    spread = StrataDistribution.of(steps["spread"])
    block: list[float] = []

    def draw(n: int) -> int:
        if not n:
            return 0
        if n not in known:
            known[n] = scale * mean_ns(sizes, n)
        if not block:
            block.extend(spread.sample(rng, BLOCK).tolist())
        return round(known[n] * block.pop())

    return draw


class Machine:
    """What an instance draws: each a list by what goes on beside, of a draw.

    there, back: touch to the first line that is ours, and from the last one on. decide: the
    pager's verdict, under its lock. zero, install, rescue, allow_write: and telling the pager.
    ring: waking LPET where it sleeps. late: until it runs. spin_ns: who waits for a page keeps
    its core so long. steps: the parts of a reclaim step (None: costs.reclaim_ns is one number).
    """

    def __init__(self, costs: Costs, seed: int, owner: str, monitor: bool):
        c = costs.calibration
        self.measured = c is not None
        self.late = constant(costs.wake_ns)
        if c is None:
            there = costs.monitor_ns if monitor else costs.upcall_ns
            back = costs.monitor_return_ns if monitor else costs.upcall_return_ns
            self.there, self.back = beside_all(constant(there)), beside_all(constant(back))
            self.decide = beside_all(constant(costs.decide_ns))
            self.zero = beside_all(constant(costs.zero_ns))
            self.install = beside_all(constant(costs.install_ns))
            self.rescue = beside_all(constant(costs.rescue_ns))
            self.allow_write = beside_all(constant(costs.allow_write_ns))
            self.ring = beside_all(constant(costs.ring_ns))
            return
        s = Sampler(seed, costs.scale, owner)
        way = c.monitor if monitor else c.faults
        self.there, self.back = s.fault("arrive", way), s.fault("return", way)
        self.decide = s.fault("decide", c.faults)
        self.zero = s.sum(c.faults, "zero", "conclude")
        self.install = s.sum(c.faults, "check", "install", "conclude")
        self.rescue = s.sum(c.faults, "rescue", "conclude")
        self.allow_write = s.sum(c.faults, "protect", "conclude")
        self.ring = s.fault("wake", c.faults)
        self.late = s.strata(c.late, "late")
        self.choose, self.sort, self.splice, self.flush, self.read, self.done, self.stored = (
            s.step(c.steps, *kinds)
            for kinds in (
                *(("choose",), ("sort",), ("splice",), ("flush",), ("read", "sum")),
                *(("done",), ("stored",)),
            )
        )
