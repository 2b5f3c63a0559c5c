"""A budget shared by regions: the decision alone, and on real memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edm_policy.budget import Share, divide
from edm_policy.errors import UsageError
from tests.child import passes

share = st.builds(
    lambda least, more, limit, misses: Share(min(least + limit, least + more), least,
                                             least + more, misses),
    st.integers(1, 100), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10**9),
)  # fmt: skip


@given(st.lists(share, max_size=6), st.integers(0, 50_000), st.floats(0, 1))
def test_limits_never_exceed_the_budget_nor_their_bounds(
    shares: list[Share], more: int, step: float
) -> None:
    budget = sum(s.least for s in shares) + more
    limits = divide(budget, shares, step)
    assert sum(limits) <= budget
    assert all(s.least <= limit <= s.most for s, limit in zip(shares, limits, strict=True))


def test_memory_goes_to_who_misses_in_steps_and_stays_where_nobody_does() -> None:
    a, b = Share(500, 10, 1000, misses=90), Share(500, 10, 1000, misses=10)
    first = divide(1000, [a, b])
    assert 500 < first[0] < 900 and 100 < first[1] < 500
    for _ in range(50):
        limits = divide(1000, [a, b])
        a, b = Share(limits[0], 10, 1000, 90), Share(limits[1], 10, 1000, 10)
    assert limits == [pytest.approx(892, abs=3), pytest.approx(108, abs=3)]
    assert divide(1000, [Share(700, 10, 1000), Share(300, 10, 1000)]) == [700, 300]


def test_a_budget_below_what_its_regions_need_is_refused() -> None:
    with pytest.raises(UsageError, match="need 20 at least"):
        divide(19, [Share(10, 10, 100), Share(10, 10, 100)])


@pytest.mark.uffd
def test_limits_follow_the_activity_and_their_sum_stays_in_the_budget() -> None:
    passes(
        """
        import time
        from edm_real import Budget
        budget = Budget(2048, interval_s=0.05)
        first, second = budget.region(4096), budget.region(4096)
        assert sum(budget.limits()) <= budget.nbytes
        a, b = first.array(np.int64, (4096, 512)), second.array(np.int64, (4096, 512))
        a[:, 0], b[:, 0] = np.arange(4096), -np.arange(4096)
        def busy(array, sign):
            end = time.monotonic() + 2
            while time.monotonic() < end:
                assert (array[:, 0] == sign * np.arange(4096)).all()
                assert sum(budget.limits()) <= budget.nbytes
                time.sleep(0.001)
        for one, array, sign in ((first, a, 1), (second, b, -1)):
            busy(array, sign)
            assert one.config.limit > 1400, one.config.limit
            assert first.stats()["resident"] + second.stats()["resident"] <= 2048
        third = budget.region(64)
        assert sum(budget.limits()) <= budget.nbytes
        third.close()
        assert len(budget.limits()) == 2
        del a, b, array
        first.close()
        second.close()
        budget.close()
        """
    )


@pytest.mark.uffd
def test_a_region_that_does_not_fit_is_refused_in_one_line() -> None:
    passes(
        """
        from edm_real import Budget
        with Budget(100) as budget, budget.region(1000) as r:
            assert r.config.limit == 100
            try:
                budget.region(1000)
            except UsageError as e:
                assert "at least" in str(e)
            else:
                raise AssertionError
            assert r.config.limit == 100
        """
    )
