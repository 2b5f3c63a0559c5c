"""SHARDS against the exact miss ratios of LRU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edm_policy import Pager, PolicyConfig, Shards, UsageError, sampled_miss_ratio
from edm_workload import synth

SIZES = [1, 2, 3, 5, 10, 20, 40]


def lru_misses(page, size, pages):
    return Pager(
        PolicyConfig(pages, size, high=size, low=size - 1, evict="lru", observe="exact")
    ).run_classic(page)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), st.integers(0, 2**64 - 1))
def test_at_rate_one_it_is_lru_to_the_miss(refs, seed):
    page = np.array(refs, np.uint32)
    ratio, error = sampled_miss_ratio(page, SIZES, rate=1, seed=seed)
    exact = [lru_misses(page, size, 31) for size in SIZES]
    assert (ratio * page.size).round(9).tolist() == exact
    assert not error.any()


def test_the_estimate_is_as_near_as_its_error_says():
    page = synth("zipf:0.8", pages=20_000, refs=300_000, seed=4).page
    sizes = [1000, 3000, 8000, 15_000]
    exact = np.array([lru_misses(page, size, 20_000) for size in sizes]) / page.size
    off = []
    for seed in range(12):
        ratio, error = sampled_miss_ratio(page, sizes, rate=0.1, seed=seed)
        assert np.abs(ratio - exact).max() < 0.1
        off.append((ratio - exact) / error)
    assert 0.4 < np.sqrt(np.mean(np.square(off))) < 2.5
    assert abs(np.mean(off)) < 1


def test_memory_follows_the_sample_and_work_does_too():
    small, large = Shards(1_000_000, 0.001), Shards(1_000_000, 0.01)
    assert large.bytes < 110 * 10_000
    assert 8 < large.bytes / small.bytes < 12
    page = synth("uniform", pages=1_000_000, refs=100_000, seed=1).page
    large.add(page)
    assert 800 < large.sampled < 1200


def test_references_in_pieces_are_the_same():
    page = synth("zipf:1.0", pages=500, refs=20_000, seed=2).page
    pieces = Shards(500, 0.3, seed=9)
    for part in np.array_split(page, 7):
        pieces.add(part)
    whole = Shards(500, 0.3, seed=9)
    whole.add(page)
    assert pieces.miss_ratio(SIZES)[0].tolist() == whole.miss_ratio(SIZES)[0].tolist()


def test_what_makes_no_sense_is_refused():
    for rate in (0, -1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="rate"):
            Shards(10, rate)
    with pytest.raises(UsageError, match="region"):
        Shards(0)
    with pytest.raises(IndexError):
        Shards(10, 1).add(np.array([10], np.uint32))
