"""What a page may cost: faults and write-backs, counted; and how much of the budget is used."""

from __future__ import annotations

import pytest

from tests.child import passes

pytestmark = pytest.mark.uffd
BOTH = pytest.mark.parametrize("faults", ["upcall", "monitor"])


@BOTH
@pytest.mark.parametrize("evict", ["lpet", "fifo"])
def test_a_second_read_only_pass_over_a_dirty_region_writes_nothing_back(
    faults: str, evict: str
) -> None:
    passes(
        """
        with Region("8MiB", local="2MiB", faults=sys.argv[1], evict=sys.argv[2]) as r:
            a = r.array(np.uint64, (2048, 512))
            a[:] = 5
            assert a.sum() == 5 * a.size
            before = r.stats()
            assert a.sum() == 5 * a.size
            after = r.stats()
            assert after["writebacks"] == before["writebacks"] == 2048, (before, after)
            assert after["fetches"] - before["fetches"] == 2048
            del a
        """,
        faults,
        evict,
    )


@BOTH
def test_read_modify_write_is_one_fault_when_the_write_comes_first_and_two_at_most(
    faults: str,
) -> None:
    passes(
        """
        def counted(r, action):
            before = r.stats()
            action()
            after = r.stats()
            return [after[k] - before[k] for k in ("faults", "fetches", "write_faults", "rescues")]
        def write_first():
            for k in range(pages):
                a[k, 0] = k
                assert a[k, 1] in (0, 7)
                a[k, 1] = 7
        def read_first():
            for k in range(pages):
                a[k, 2] += 1
        pages = 1000
        # No page is marked idle: a rescue would be a fault of its own.
        with Region(pages, local=100, faults=sys.argv[1], evict="fifo") as r:
            a = r.array(np.uint64, (pages, 512))
            assert counted(r, write_first) == [pages, 0, 0, 0]
            r.evict()
            assert counted(r, write_first) == [pages, pages, 0, 0]
            r.evict()
            assert counted(r, read_first) == [2 * pages, pages, pages, 0]
            assert (a[:, 0] == np.arange(pages)).all() and (a[:, 2] == 1).all()
            del a
        """,
        faults,
    )


@pytest.mark.parametrize("evict", ["lpet", "fifo", "random"])
def test_hits_on_uniform_access_are_the_share_that_is_local_at_the_high_watermark(
    evict: str,
) -> None:
    passes(
        """
        page = np.random.default_rng(1).integers(0, 16384, 200_000, dtype=np.uint32)
        with Region(16384, local="25%", evict=sys.argv[1]) as r:
            result = r.replay(page, fill=True)
            hits = 1 - (result["faults"] - result["rescues"]) / result["refs"]
            assert abs(hits - r.config.high / 16384) < 0.005, (hits, r.config)
            assert result["verified"]
        """,
        evict,
    )
