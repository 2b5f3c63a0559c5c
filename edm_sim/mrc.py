"""Miss-ratio curves: the pager as a classical cache, without time.

high = limit = size, low = size - 1, one eviction at a time, every record of the trace counted;
exact observation unless less is asked for. The C core runs with the GIL released, so threads
use all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edm_policy import (
    Pager,
    PolicyConfig,
    UsageError,
    dirty_bound,
    evictors,
    gap_closed,
    optimum,
    sampled_miss_ratio,
)
from edm_sim.miniature import PARTS, sample, scaled
from edm_workload import Trace
from edm_workload.units import Size, parse_pages

DEFAULT_SIZES: tuple[str, ...] = ("1%", "2%", "5%", "10%", "20%", "40%", "80%")
NEVER = 2**32 - 1
Arrays = tuple[NDArray[np.uint32], NDArray[np.uint8] | None]


def miss_ratio_curve(
    trace: Trace,
    evict: Sequence[Any] = ("lru",),
    size: Sequence[Size] = DEFAULT_SIZES,
    jobs: int = 2,
    seed: int = 1,
    progress: Callable[[str], None] | None = None,
    *,
    observe: str = "exact",
    bounds: bool = False,
    sampled: float | None = None,
) -> pd.DataFrame:
    """Misses of each evictor at each size: columns evict, size (pages), refs, misses, miss_ratio.

    A size is pages, "64MiB", or "5%" of the trace's footprint, rounded down. `evict` holds names,
    "module:Class", or classes; "all" stands for every registered one. Rows are in the order asked
    for. lirs, by default, holds more pages than frames at times below 200 frames
    (c/evict_lirs.c), and may come out below belady; lirs:quirk=1 does not.

    bounds: further columns. belady_misses, the fewest possible; gap_closed, how much of the way
    from lru to it the policy goes (1 = optimal, none where there is no gap); and for a trace with
    writes writebacks, writebacks_bound (no policy has fewer) and belady_writebacks.
    sampled: the part of the pages looked at, in (0, 1]. misses and miss_ratio are estimates then,
    and a column error has the standard error of miss_ratio. lru by SHARDS (edm_policy.shards),
    the others by miniature simulation (edm_sim.miniature).
    Raises UsageError for an unknown evictor or a size that cannot be.
    """
    if bounds and sampled is not None:
        raise UsageError("bounds are exact: they cannot be had of a sample; leave one out")
    dense = trace.dense("address")
    if not len(dense):
        raise UsageError(f"{trace.name}: an empty trace has no miss ratio")
    page, write = dense.arrays()
    footprint = dense.footprint
    names = [
        name for e in evict for name in (evictors() if isinstance(e, str) and e == "all" else [e])
    ]
    if size is DEFAULT_SIZES:  # of a small trace those that come to a page
        size = [s for s in size if parse_pages(s, footprint, least=0)] or [footprint]
    sizes = [min(footprint, parse_pages(s, footprint, "size")) for s in size]
    points = list(product(names, sizes))
    for name, frames in points:  # what is wrong is said before anything runs
        _config(name, frames, footprint, seed, observe)
    tell = progress or (lambda point: None)
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        if sampled is not None:
            return pd.DataFrame(_sampled(pool, page, points, sampled, seed, observe, tell))
        future = future_of(dense) if any(needs_future(name) for name in names) else None

        def point(name: Any, frames: int) -> dict[str, object]:
            stats = _run(_config(name, frames, footprint, seed, observe), (page, write), future)
            tell(f"{label(name)} {frames}")
            row = _row(name, frames, len(page), stats["faults"])
            return row | {"writebacks": stats["writebacks"]}

        rows = pd.DataFrame(list(pool.map(lambda at: point(*at), points)))
        if not bounds:
            return rows.drop(columns="writebacks")
        return _with_bounds(pool, rows, (page, write), footprint, point)


def label(evict: Any) -> str:
    """What an evictor is called in a table."""
    return evict if isinstance(evict, str) else getattr(evict, "__name__", type(evict).__name__)


def needs_future(evict: Any) -> bool:
    known = evictors().get(evict.split(":")[0]) if isinstance(evict, str) else None
    return known is not None and known.needs_future


def _row(evict: Any, size: int, refs: int, misses: int) -> dict[str, object]:
    ratio = misses / refs
    named = {"evict": label(evict), "size": size, "refs": refs}
    return named | {"misses": misses, "miss_ratio": ratio}


def _run(config: PolicyConfig, arrays: Arrays, future: NDArray[np.uint32] | None) -> dict[str, int]:
    """The counters after the whole trace; `faults` are the misses."""
    pager = Pager(config)
    if future is not None:
        pager.set_future(future)
    misses = pager.run_classic(*arrays)
    return pager.stats() | {"faults": misses}


def _config(evict: Any, size: int, footprint: int, seed: int, observe: str) -> PolicyConfig:
    return PolicyConfig(
        pages=footprint,
        limit=size,
        high=size,
        low=size - 1,
        evict=evict,
        observe=observe,
        batch=1,
        seed=seed,
    ).resolved()


def _with_bounds(
    pool: ThreadPoolExecutor,
    rows: pd.DataFrame,
    arrays: Arrays,
    footprint: int,
    point: Callable[[Any, int], dict[str, object]],
) -> pd.DataFrame:
    """The rows with what no policy can beat, and how near each comes to it."""
    page, write = arrays
    sizes = sorted(set(rows["size"]))
    lru = dict(zip(sizes, pool.map(lambda size: point("lru", size)["misses"], sizes), strict=True))
    if write is None:
        best = list(pool.map(lambda size: optimum(page, footprint, size), sizes))
        belady = dict(zip(sizes, best, strict=True))
        rows = rows.drop(columns="writebacks")
    else:
        both = list(pool.map(lambda size: dirty_bound(page, write, footprint, size), sizes))
        belady = {size: b.misses for size, b in zip(sizes, both, strict=True)}
        bound = {size: b.writebacks for size, b in zip(sizes, both, strict=True)}
        theirs = {size: b.belady_writebacks for size, b in zip(sizes, both, strict=True)}
        rows["writebacks_bound"] = rows["size"].map(bound)
        rows["belady_writebacks"] = rows["size"].map(theirs)
    closed = [
        gap_closed(lru[size], misses, belady[size])
        for size, misses in zip(rows["size"], rows["misses"], strict=True)
    ]
    rows.insert(5, "belady_misses", rows["size"].map(belady))
    rows.insert(6, "gap_closed", pd.Series(closed, dtype=float))
    return rows


def _sampled(
    pool: ThreadPoolExecutor,
    page: NDArray[np.uint32],
    points: Sequence[tuple[Any, int]],
    rate: float,
    seed: int,
    observe: str,
    tell: Callable[[str], None],
) -> list[dict[str, object]]:
    if not 0 < rate <= 1:
        raise UsageError(f"sampled {rate}: the part of the pages looked at, above 0 and at most 1")
    refs = len(page)
    lru_sizes = [frames for name, frames in points if name == "lru" and observe == "exact"]
    shards = dict(
        zip(
            lru_sizes,
            zip(*sampled_miss_ratio(page, lru_sizes, rate, seed), strict=True),
            strict=True,
        )
    )
    parts: list[NDArray[np.uint32]] = []
    if any(name != "lru" or observe != "exact" for name, _ in points):
        parts = sample(page, rate, seed)
    futures: dict[int, NDArray[np.uint32]] = {}
    if any(needs_future(name) for name, _ in points):
        futures = {k: future_of(Trace(part)) for k, part in enumerate(parts)}

    def misses(name: Any, frames: int, k: int) -> int:
        """Of part k."""
        pages = int(parts[k].max(initial=0)) + 1
        config = _config(name, min(pages, scaled(frames, rate)), pages, seed, observe)
        return _run(config, (parts[k], None), futures.get(k))["faults"]

    def point(name: Any, frames: int) -> dict[str, object]:
        if name == "lru" and observe == "exact":
            ratio, error = shards[frames]
        else:
            of_part = np.array([misses(name, frames, k) for k in range(PARTS)])
            ratios = of_part / (refs * rate / PARTS)
            ratio, error = ratios.mean(), ratios.std(ddof=1) / np.sqrt(PARTS)
        tell(f"{label(name)} {frames}")
        ratio = min(1.0, float(ratio))
        row = _row(name, frames, refs, round(ratio * refs))
        return row | {"miss_ratio": ratio, "error": float(error)}

    return list(pool.map(lambda at: point(*at), points))


def future_of(trace: Trace) -> NDArray[np.uint32]:
    """next_use() as the C core takes it: u32, 2**32 - 1 for never."""
    following = trace.next_use()
    return np.where(following < 0, NEVER, following).astype(np.uint32)
