"""The real pager against the plain Python model, in random interleavings."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from edm_policy import PolicyConfig, evictors
from edm_policy.config import OBSERVE
from model.world import MODELLED, World, random_step

PAGES = 10


def observations(evict: str) -> tuple[str, ...]:
    """What `evict` can live with."""
    return OBSERVE[OBSERVE.index(evictors()[evict].needs) :]


@st.composite
def configs(draw: Callable[[Any], Any]) -> PolicyConfig:
    evict = draw(st.sampled_from(MODELLED))
    limit = draw(st.integers(1, PAGES - 1))
    high = draw(st.integers(1, limit))
    return PolicyConfig(
        pages=PAGES,
        limit=limit,
        high=high,
        low=draw(st.integers(0, high - 1)),
        evict=evict,
        observe=draw(st.sampled_from(observations(evict))),
        dirty=draw(st.sampled_from(("exact", "always"))),
        batch=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


page = st.integers(0, PAGES - 1)
some = st.integers(0, PAGES - 1)  # which of those under way, modulo how many there are


class PagerMachine(RuleBasedStateMachine):
    """World checks answers, words, counters and contents after each step."""

    world: World

    @initialize(config=configs(), ahead=st.integers(0, 2))
    def start(self, config: PolicyConfig, ahead: int) -> None:
        self.world = World(config, ahead)

    @rule(page=page, write=st.booleans())
    def access(self, page: int, write: bool) -> None:
        self.world.access(page, write)

    @rule(page=page, write=st.booleans())
    def stale_fault(self, page: int, write: bool) -> None:
        self.world.fault(page, write)

    @rule(page=page, write=st.booleans())
    def touched(self, page: int, write: bool) -> None:
        self.world.touched(page, write)

    @rule(most=st.integers(0, 4))
    def reclaim(self, most: int) -> None:
        self.world.reclaim(most)

    @rule(event=st.sampled_from(("discard", "recall", "flush")), page=page)
    def request(self, event: str, page: int) -> None:
        self.world.request(event, page)

    @rule(page=page)
    def adopt(self, page: int) -> None:
        self.world.adopt(page)

    @rule(limit=st.integers(1, PAGES), high=st.integers(1, PAGES), low=st.integers(0, PAGES - 1))
    def resize(self, limit: int, high: int, low: int) -> None:
        high = min(high, limit)
        self.world.resize(min(low, high - 1), high, limit)

    @precondition(lambda self: self.world.installing)
    @rule(some=some, fails=st.integers(0, 7))
    def end_fetch(self, some: int, fails: int) -> None:
        waiting = sorted(self.world.installing)
        end = self.world.installed if fails else self.world.fetch_failed
        end(waiting[some % len(waiting)])

    @precondition(lambda self: self.world.carrying)
    @rule(some=some)
    def end_command(self, some: int) -> None:
        waiting = sorted(self.world.carrying)
        self.world.done(waiting[some % len(waiting)])

    @precondition(lambda self: self.world.storing)
    @rule(some=some, fails=st.integers(0, 3))
    def end_store(self, some: int, fails: int) -> None:
        waiting = self.world.storing
        end = self.world.stored if fails else self.world.store_failed
        end(waiting[some % len(waiting)])

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.check_identities()
            self.world.check_log()


TestPagerAgainstTheModel = PagerMachine.TestCase
TestPagerAgainstTheModel.settings = settings(
    max_examples=300, stateful_step_count=80, deadline=None
)


def soak(evict: str, observe: str, dirty: str, seed: int, steps: int = 300) -> None:
    """One random walk; sizes and the walk follow from `seed`."""
    draw = random.Random(f"{evict} {observe} {dirty} {seed}")
    pages = draw.randint(1, PAGES)
    limit = draw.randint(1, pages)
    high = draw.randint(1, limit)
    config = PolicyConfig(
        pages=pages,
        limit=limit,
        high=high,
        low=draw.randrange(high),
        evict=evict,
        observe=observe,
        dirty=dirty,
        batch=draw.randint(1, 4),
        seed=seed,
    )
    world = World(config, ahead=seed % 3 if evict in MODELLED else 0)
    for _ in range(steps):
        random_step(world, draw.randrange)
    world.check_identities()
    world.check_log()


EVERYTHING = [
    (evict, observe)
    for evict, info in evictors().items()
    if not info.needs_future
    for observe in observations(evict)
]


@pytest.mark.parametrize("dirty", ["exact", "always"])
@pytest.mark.parametrize(("evict", "observe"), EVERYTHING)
def test_random_walks_keep_every_promise(evict: str, observe: str, dirty: str) -> None:
    """Every evictor there is; those without a model are held to contents, counters and log."""
    for seed in range(12):
        soak(evict, observe, dirty, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("evict", "observe"), EVERYTHING)
def test_long_random_walks_keep_every_promise(evict: str, observe: str) -> None:
    for seed in range(20):
        soak(evict, observe, ("exact", "always")[seed % 2], seed + 1000, steps=1500)
