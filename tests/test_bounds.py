"""The bounds: they hold, against every policy and against an exhaustive search."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edm_policy import (
    Pager,
    PolicyConfig,
    UsageError,
    dirty_bound,
    evictors,
    gap_closed,
    next_uses,
    optimum,
)

REFS = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=14)


def arrays(refs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([page for page, _ in refs], np.uint32),
        np.array([write for _, write in refs], np.uint8),
    )


def cheapest(refs: list[tuple[int, bool]], size: int, weight: float) -> float:
    """The least misses + weight * write-backs of any schedule: tries every victim."""

    @cache
    def after(at: int, cached: frozenset[int], dirty: frozenset[int]) -> float:
        if at == len(refs):
            return 0.0
        page, write = refs[at]
        written = dirty | {page} if write else dirty
        if page in cached:
            return after(at + 1, cached, written)
        if len(cached) < size:
            return 1 + after(at + 1, cached | {page}, written)
        return 1 + min(
            weight * (victim in dirty)
            + after(at + 1, cached - {victim} | {page}, written - {victim})
            for victim in cached
        )

    return after(0, frozenset(), frozenset())


def test_next_uses_of_a_small_trace() -> None:
    never = 2**32 - 1
    assert next_uses(np.array([0, 1, 0, 0], np.uint32), 2).tolist() == [2, never, 3, never]


@settings(deadline=None, max_examples=60)
@given(refs=REFS, size=st.integers(1, 3), weight=st.sampled_from([0.0, 0.5, 1.0, 4.0]))
def test_the_cheapest_schedule_lies_between_bound_and_belady(
    refs: list[tuple[int, bool]], size: int, weight: float
) -> None:
    bound = dirty_bound(*arrays(refs), 5, size)
    best = cheapest(refs, size, weight)
    assert bound.cost(weight) <= best <= bound.belady_cost(weight)
    assert bound.misses == cheapest(refs, size, 0.0)


def test_no_policy_beats_the_dirty_bound_and_it_is_not_empty() -> None:
    rng = np.random.default_rng(3)
    page = np.minimum(rng.zipf(1.1, 20_000) - 1, 499).astype(np.uint32)
    write = (rng.random(page.size) < 0.5).astype(np.uint8)
    size = 50
    bound = dirty_bound(page, write, 500, size)
    assert bound.writebacks > 0
    for name, info in evictors().items():
        if info.needs_future:
            continue
        config = PolicyConfig(
            pages=500, limit=size, high=size, low=size - 1, evict=name, observe="exact"
        )
        pager = Pager(config)
        pager.run_classic(page, write)
        stats = pager.stats()
        assert stats["faults"] >= bound.misses, name
        assert stats["writebacks"] >= bound.writebacks, name


def test_the_gap_closed() -> None:
    assert gap_closed(100, 100, 60) == 0
    assert gap_closed(100, 60, 60) == 1
    assert gap_closed(100, 70, 60) == pytest.approx(0.75)
    assert gap_closed(100, 120, 60) == -0.5
    assert gap_closed(60, 60, 60) is None


def test_bad_input_is_refused() -> None:
    page = np.array([3], np.uint32)
    with pytest.raises(IndexError, match="page 3"):
        next_uses(page, 3)
    with pytest.raises(UsageError):
        optimum(page, 4, 0)
