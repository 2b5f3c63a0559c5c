"""How a local budget is shared by several regions: a pure decision, from counts of faults.

In proportion to recent misses, as in working-set balancing (Denning, "The working set model for
program behavior", CACM 11(5), 1968, gives memory to who faults): smoothed, in bounded steps, and
with a floor each, so that a quiet region stays alive and a busy one does not swing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edm_policy.errors import UsageError


@dataclass(frozen=True)
class Share:
    """One region in a budget, in bytes: `limit` is its share now, `least` and `most` bound it;
    misses: pages fetched for it since the last decision, in bytes."""

    limit: int
    least: int
    most: int
    misses: int = 0


def divide(budget: int, shares: Sequence[Share], step: float = 0.25) -> list[int]:
    """New limits in bytes: at most `budget` together, each between its least and its most.

    A limit moves by the share `step` (0 to 1) of the way to its part of the budget in proportion
    to misses; with no misses at all nothing moves, unless the limits exceed the budget. Raises
    UsageError when the least of all do not fit.
    """
    least = sum(s.least for s in shares)
    if least > budget:
        raise UsageError(f"budget of {budget} bytes: its regions need {least} at least")
    total = sum(s.misses for s in shares)
    wanted = []
    for s in shares:
        part = least_and(s, budget - least, s.misses / total) if total else s.limit
        wanted.append(min(s.most, max(s.least, round(s.limit + step * (part - s.limit)))))
    over = sum(wanted) - budget
    if over <= 0:
        return wanted
    spare = sum(w - s.least for w, s in zip(wanted, shares, strict=True))
    return [
        s.least + (w - s.least) * (spare - over) // spare
        for w, s in zip(wanted, shares, strict=True)
    ]


def least_and(share: Share, free: int, part: float) -> float:
    """Its least, and a part of what is free."""
    return share.least + free * part
