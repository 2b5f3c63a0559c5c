"""The ring: which unit a page goes to, the same in the simulator and in striped:."""

from __future__ import annotations

import numpy as np
import pytest

import edm_sim
from edm_policy import Ring, UsageError
from edm_sim.placement import ring
from edm_workload import Experiment

PAGES = 20_000


def units(n: int) -> np.ndarray:  # type: ignore[type-arg]
    r = Ring(n)
    return np.array([r.first(page) for page in range(PAGES)])


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_pages_are_spread_evenly(n: int) -> None:
    share = np.bincount(units(n), minlength=n) * n / PAGES
    assert share.min() > 0.7 and share.max() < 1.35


@pytest.mark.parametrize("n", [1, 3, 8, 15])
def test_a_unit_more_takes_its_part_and_moves_no_other_page(n: int) -> None:
    before, after = units(n), units(n + 1)
    moved = before != after
    assert set(after[moved].tolist()) == {n}
    assert 0.7 < moved.mean() * (n + 1) < 1.35


def test_the_order_is_of_all_units_and_without_one_the_others_keep_theirs() -> None:
    r = Ring(7)
    for page in range(200):
        order = r.order(page)
        assert sorted(order) == list(range(7)) and order[0] == r.first(page)
    assert len({tuple(r.order(p)[1:3]) for p in range(2000) if r.first(p) == 3}) > 20


@pytest.mark.parametrize("n", [0, 17])
def test_a_ring_that_cannot_be(n: int) -> None:
    with pytest.raises(UsageError, match="1 to 16"):
        Ring(n)


def test_the_simulator_places_pages_by_the_same_ring() -> None:
    class Unit:
        def __init__(self, number: int):
            self.number = number

    emus = [Unit(k) for k in range(1, 5)]
    for page in range(100):
        assert [u.number - 1 for u in ring(page, emus)] == Ring(4).order(page)  # type: ignore[arg-type]
    e = Experiment.from_options(pages=512, refs=4000, local="25%", emus=4, placement="ring")
    assert edm_sim.run(e).fetches > 0
