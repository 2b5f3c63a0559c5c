"""PolicyConfig: what follows from what, and one clear line for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from edm_policy import Pager, PolicyConfig, UsageError, evictors, prefetchers, watermarks


def config(**more: object) -> PolicyConfig:
    return PolicyConfig(**{"pages": 1000, "limit": 100, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 2, 3, 64, 128, 1000, 10**6])
def test_default_watermarks_keep_their_order(limit: int) -> None:
    low, high = watermarks(limit, limit + 1)
    assert 0 <= low < high <= limit
    assert limit - low <= 512


@pytest.mark.parametrize("prefetch", ["none", "nextn"])
def test_where_all_pages_have_room_none_leaves(prefetch: str) -> None:
    pager = Pager(PolicyConfig(pages=256, limit=256, prefetch=prefetch))
    for page in range(256):
        pager.adopt(page)
    page = np.tile(np.arange(256, dtype=np.uint32), 3)
    assert pager.run_classic(page) <= 256
    assert pager.resident == 256 and pager.stats()["wakes"] == 0


def test_observation_is_what_real_memory_can_show_unless_the_evictor_needs_more() -> None:
    assert config(evict="lpet").resolved().observe == "idle"
    assert config(evict="lru").resolved().observe == "idle"
    assert config(evict="lru", observe="exact").resolved().observe == "exact"
    assert config(evict="mru").resolved().observe == "exact"
    assert config(evict="fifo").resolved().observe == "faults"


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"evict": "lpte"}, "unknown evictor 'lpte'; did you mean lpet"),
        ({"evict": "qqq"}, "unknown evictor 'qqq'; there are: "),
        ({"prefetch": "nix"}, "unknown prefetcher 'nix'"),
        ({"low": 50, "high": 50}, "low 50, high 50, limit 100: must be low < high <= limit"),
        ({"high": 101}, "must be low < high <= limit"),
        ({"pages": 0}, "a region of 0 pages"),
        ({"pages": 2**33}, "a region of 8589934592 pages"),
        ({"limit": 2**32, "high": 5, "low": 1}, "it must be below"),
        ({"batch": 257}, "batch 257: it must be 1 to 256"),
        ({"seed": -1}, "seed -1"),
        ({"observe": "magic"}, "unknown observation 'magic'"),
        ({"dirty": "sometimes"}, "unknown dirty tracking 'sometimes'"),
        ({"evict": "lru", "observe": "faults"}, "evictor lru needs observation idle"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(wrong: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(**wrong).resolved()
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_observation_that_is_not_offered_is_refused() -> None:
    with pytest.raises(UsageError, match="observation exact: only idle can be had here"):
        config(observe="exact").resolved(offered="idle")


def test_the_registry_tells_what_each_policy_is() -> None:
    assert {"lpet", "fifo", "lru", "random"} <= evictors().keys()
    assert "none" in prefetchers()
    for name, info in evictors().items():
        assert info.name == name and info.summary and info.paper and info.bytes_per_page > 0


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(UsageError, match="'colour' is no parameter"):
        Pager(config(evict="fifo:colour=1"))
