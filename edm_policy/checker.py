"""Compares a user's policy with its native twin, decision by decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edm_policy.config import PolicyConfig
from edm_policy.log import LogBuffer, describe
from edm_policy.pager import Pager


@dataclass(frozen=True)
class Difference:
    """Where two policies part: the reference (its index in the trace), and what each did."""

    reference: int
    page: int
    a: str
    b: str

    def __str__(self) -> str:
        return (
            f"they part at reference {self.reference} (page {self.page}):\n"
            f"  first:  {self.a}\n  second: {self.b}"
        )


def _decisions(evict: Any, page: NDArray[np.uint32], limit: int, observe: str) -> NDArray[Any]:
    log = LogBuffer()
    pages = int(page.max()) + 1 if page.size else 1
    config = PolicyConfig(
        pages=pages, limit=limit, high=limit, low=limit - 1, evict=evict, observe=observe
    )
    Pager(config, log).run_classic(page)
    return log.records()


def first_difference(
    a: Any, b: Any, page: NDArray[np.uint32], limit: int, observe: str = "exact"
) -> Difference | None:
    """Runs two evictors over the same references as classical caches of `limit` frames.

    page: u32[n]. Returns the first reference at which they decide differently, or None.
    Keeps both decision logs in memory: 16 bytes a reference and policy, or a little more.
    """
    one, two = (_decisions(e, page, limit, observe) for e in (a, b))
    n = min(len(one), len(two))
    unequal = np.flatnonzero(one[:n] != two[:n])
    if not len(unequal) and len(one) == len(two):
        return None
    at = int(unequal[0]) if len(unequal) else n
    said = [describe(log[at]) if at < len(log) else "nothing more" for log in (one, two)]
    reference = int((one if at < len(one) else two)[at]["now"])
    return Difference(reference, int(page[reference]), *said)
