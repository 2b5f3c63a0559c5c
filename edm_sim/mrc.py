"""Miss-ratio curves: the pager as a classical cache, without time.

Exact observation, high = limit = size, low = size - 1, one eviction at a time, every
record of the trace counted. The C core runs with the GIL released, so threads use all
cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edm_policy import Pager, PolicyConfig, UsageError, evictors
from edm_workload import Trace
from edm_workload.units import Size, parse_pages

DEFAULT_SIZES: tuple[str, ...] = ("1%", "2%", "5%", "10%", "20%", "40%", "80%")
NEVER = 2**32 - 1


def miss_ratio_curve(
    trace: Trace,
    evict: Sequence[str] = ("lru",),
    size: Sequence[Size] = DEFAULT_SIZES,
    jobs: int = 2,
    seed: int = 1,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Misses of each evictor at each size: columns evict, size (pages), refs, misses, miss_ratio.

    A size is pages, "64MiB", or "5%" of the trace's footprint, rounded down. Rows are in
    the order asked for. Raises UsageError for an unknown evictor or a size that cannot be.
    """
    dense = trace.dense("address")
    if not len(dense):
        raise UsageError(f"{trace.name}: an empty trace has no miss ratio")
    page, write = dense.arrays()
    footprint = dense.footprint
    sizes = [min(footprint, parse_pages(s, footprint, "size")) for s in size]
    configs = [_config(name, pages, footprint, seed) for name, pages in product(evict, sizes)]
    known = evictors()
    future = None
    if any(known[c.evict.split(":")[0]].needs_future for c in configs):
        future = future_of(dense)

    def point(config: PolicyConfig) -> dict[str, object]:
        pager = Pager(config)
        if future is not None:
            pager.set_future(future)
        misses = pager.run_classic(page, write)
        if progress:
            progress(f"{config.evict} {config.limit}")
        return {
            "evict": config.evict,
            "size": config.limit,
            "refs": len(page),
            "misses": misses,
            "miss_ratio": misses / len(page),
        }

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        return pd.DataFrame(list(pool.map(point, configs)))


def _config(evict: str, size: int, footprint: int, seed: int) -> PolicyConfig:
    return PolicyConfig(
        pages=footprint,
        limit=size,
        high=size,
        low=size - 1,
        evict=evict,
        observe="exact",
        batch=1,
        seed=seed,
    ).resolved()


def future_of(trace: Trace) -> NDArray[np.uint32]:
    """next_use() as the C core takes it: u32, 2**32 - 1 for never."""
    following = trace.next_use()
    return np.where(following < 0, NEVER, following).astype(np.uint32)
