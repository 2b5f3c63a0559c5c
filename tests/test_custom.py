"""Policies written in Python: the same hooks, errors as themselves, a check against the twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edm_policy import Pager, PolicyConfig, Prefetcher, UsageError
from edm_policy.checker import first_difference
from mine import Fifo, Lru, SecondChance


class AlmostLru(Lru):
    """Forgets every hundredth use."""

    uses = 0

    def touch(self, page):
        self.uses += 1
        if self.uses % 100:
            super().touch(page)


@pytest.fixture
def refs():
    return np.random.default_rng(7).zipf(1.2, 20_000).astype(np.uint32) % 500


def config(evict, limit=50, **more):
    return PolicyConfig(pages=500, limit=limit, high=limit, low=limit - 1, evict=evict, **more)


@pytest.mark.parametrize(
    ("mine", "twin", "observe"),
    [
        (Fifo, "fifo", "exact"),
        (Fifo, "fifo", "idle"),
        (Lru, "lru", "exact"),
        (SecondChance, "lpet:adapt=0", "idle"),
    ],
)
def test_python_twin_decides_as_the_native_policy(refs, mine, twin, observe):
    assert first_difference(mine, twin, refs, 50, observe) is None


def test_checker_names_the_first_reference_at_which_they_part(refs):
    difference = first_difference(AlmostLru, "lru", refs, 50)
    assert difference is not None
    before = refs[: difference.reference]
    assert first_difference(AlmostLru, "lru", before, 50) is None
    assert str(difference.page) in str(difference)


def test_exception_in_a_hook_comes_out_as_itself_and_leaves_the_pager_whole(refs):
    class Breaks(Fifo):
        left = 5

        def choose(self):
            self.left -= 1
            if not self.left:
                raise KeyError("a bug of the user's")
            return super().choose()

    pager = Pager(config(Breaks))
    with pytest.raises(KeyError, match="a bug of the user's"):
        pager.run_classic(refs)
    assert pager.check()
    assert pager.resident == 50
    assert pager.run_classic(refs) > 0, "the policy goes on once its bug is gone"


def test_choosing_a_page_that_is_not_resident_is_refused(refs):
    class Lies(Fifo):
        def choose(self):
            return 499

    with pytest.raises(ValueError, match=r"choose\(\) returned 499"):
        Pager(config(Lies)).run_classic(refs % 400)


def test_a_policy_by_module_and_class_and_its_errors():
    assert Pager(config("mine:Fifo")).config.evict.best == "faults"
    with pytest.raises(UsageError, match="no_such_module"):
        Pager(config("no_such_module:Fifo"))
    with pytest.raises(UsageError, match="has no Nothing"):
        Pager(config("mine:Nothing"))
    with pytest.raises(UsageError, match="subclass"):
        Pager(config("mine:deque"))


def test_a_policy_that_needs_exact_is_refused_where_it_cannot_be_had():
    with pytest.raises(UsageError, match="needs observation exact"):
        Pager(config(Lru, observe="idle"))


def test_a_prefetcher_in_python():
    class Next(Prefetcher):
        def start(self, pages, limit):
            self.hits = self.misses = 0

        def fault(self, page, write):
            self.prefetch(page + 1)

        def used(self, page):
            self.hits += 1

        def unused(self, page):
            self.misses += 1

    mine = Next()
    pager = Pager(replace(config("fifo", prefetch=mine, observe="exact"), low=40))
    three_times = np.tile(np.arange(400, dtype=np.uint32), 3)
    writes = np.ones(len(three_times), np.uint8)  # a page never written has nothing to fetch
    demand = Pager(replace(config("fifo", observe="exact"), low=40))
    pager.run_classic(three_times, writes)
    demand.run_classic(three_times, writes)
    stats = pager.stats()
    assert stats["fetches"] < 0.6 * demand.stats()["fetches"]
    assert stats["prefetches"] > 300
    assert mine.hits == stats["prefetch_hits"] > 0
    assert mine.misses == stats["prefetch_unused"]
