"""How good a prefetcher was, from a pager's counters; and plans for the prefetcher `planned`.

A page fetched ahead ends in one of four ways: it is seen used (a hit; late if the program was
already waiting for it), it leaves unused, its fate cannot be seen, or it is here still. Under exact
observation every use is seen. On real memory a mapped page is used unseen, so there only the
markers tell (pages put into the stash, whose first touch is a rescue): they are a sample, the
first page of each window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edm_policy._core import lib
from edm_policy.config import PolicyConfig
from edm_policy.log import LogBuffer
from edm_policy.pager import Pager


@dataclass(frozen=True)
class PrefetchMetrics:
    """Ratios from 0 to 1; None where nothing was there to divide by.

    accuracy: of the prefetched pages whose fate is known, the part that was used. A page that
    leaves unused counts against it; one that is here still counts neither way.
    coverage: of the fetches the program would have waited for, the part that prefetching took over:
    used / (used + demand fetches). Where not all uses are seen, used = accuracy x prefetches,
    an estimate (`estimated`) that counts pages still here as they will probably end.
    timeliness: of the pages seen used, the part that was there in time (not late). Estimated from
    hits that could be seen; a late one always is, so this is a lower bound then.
    known: of all prefetched pages, the part whose fate accuracy rests on.
    """

    accuracy: float | None
    coverage: float | None
    timeliness: float | None
    known: float | None
    estimated: bool


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def prefetch_metrics(stats: Mapping[str, int], observe: str) -> PrefetchMetrics:
    """From Pager.stats() (or a result's counters of the same names) and the observation."""
    fetched, hits, late = (stats[f"prefetch{k}"] for k in ("es", "_hits", "_late"))
    unused = stats["prefetch_unused"]
    exact = observe == "exact"
    sample = hits if exact else stats["prefetch_mark_hits"]
    accuracy = _ratio(sample, sample + unused)
    used = hits if exact else max(hits, (accuracy or 0.0) * fetched)
    return PrefetchMetrics(
        accuracy=accuracy,
        coverage=_ratio(used, used + stats["fetches"]),
        timeliness=_ratio(hits - late, hits),
        known=_ratio(sample + unused, fetched),
        estimated=not exact,
    )


def fault_order(
    page: NDArray[np.uint32], limit: int, evict: str = "lru", pages: int | None = None
) -> NDArray[np.uint32]:
    """The pages a run with `limit` pages misses on, in order: a plan for the prefetcher planned.

    page: the trace, u32[n]. Runs it through `evict` as a classical cache, as 3PO post-processes
    its tapes for the memory there will be. Keeps the decision log: 16 bytes a reference or more.
    """
    size = pages or (int(page.max()) + 1 if page.size else 1)
    log = LogBuffer()
    config = PolicyConfig(size, limit, high=limit, low=limit - 1, evict=evict, observe="exact")
    Pager(config, log).run_classic(page)
    records = log.records()
    misses = np.isin(records["kind"], [lib.EDM_FETCH | 0x80, lib.EDM_ZERO_FILL | 0x80])
    return np.ascontiguousarray(records["page"][misses])
