"""A store that fails at random, hangs or flips bits: no wrong byte, no hang past the deadline."""

from __future__ import annotations

import pytest

from tests.child import passes, run

pytestmark = pytest.mark.uffd
BOTH = pytest.mark.parametrize("faults", ["upcall", "monitor"])

HEAD = """
    import time
    from tests.faulty import FaultyRegion
    faults = sys.argv[1]
    def region(deadline_s=0.5, **options):
        return FaultyRegion(512, local=64, faults=faults, deadline_s=deadline_s, **options)
    def took(action, *args):
        start = time.monotonic()
        try:
            action(*args)
        except EdmError as e:
            return time.monotonic() - start, e
        return time.monotonic() - start, None
"""


@BOTH
@pytest.mark.parametrize("prefetch", ["none", "nextn"])
@pytest.mark.parametrize("dirty", ["exact", "always"])
def test_one_failure_in_a_hundred_is_not_seen(faults: str, prefetch: str, dirty: str) -> None:
    passes(
        HEAD
        + """
    rng = np.random.default_rng(3)
    page = rng.integers(0, 512, 20000, dtype=np.uint32)
    write = (rng.random(20000) < 0.5).astype(np.uint8)
    with region(deadline_s=5, prefetch=sys.argv[2], dirty=sys.argv[3]) as r:
        r.fail(get=0.01, put=0.01, flip=0.01)
        result = r.replay(page, write, threads=4, fill=True, whole=True, chunk=64)
        assert result["verified"] and not result["extra"]["lost"], result
        done, stats = r.failures(), r.stats()
        assert min(done["get"], done["put"], done["flip"]) > 50, done
        assert stats["fetch_retries"] >= done["flip"] // 2 and stats["failed_writebacks"] > 50
        assert r.check()
    """,
        faults,
        prefetch,
        dirty,
    )


@BOTH
def test_a_read_that_never_comes_ends_at_the_deadline(faults: str) -> None:
    passes(
        HEAD
        + """
    for how in ("get", "hang"):
        r = region()
        a = r.array(np.uint8, (512, 4096))
        a[:] = 5
        r.evict()
        r.fail(**{how: 1})
        ends = []
        def touch(k):
            ends.append(took(r.prefault, slice(k, k + 1)))
        threads = [threading.Thread(target=touch, args=(k // 2,)) for k in range(8)]
        [t.start() for t in threads]
        [t.join(10) for t in threads]
        assert len(ends) == 8 and max(t for t, _ in ends) < 4 * 0.5 + 1, ends
        lost = [e for _, e in ends if e]
        assert lost and all(isinstance(e, PageLostError) for e in lost), ends
        assert all(e.page < 4 and e.store == "mem:" for e in lost), lost
        assert all(f"page {e.page} " in str(e) and "mem:" in str(e) for e in lost)
        assert lost[0].errno == (errno.ETIMEDOUT if how == "hang" else errno.EIO), lost
        r.fail()
        assert r.stats()["lost_pages"] == 4 and (a[4:] == 5).all() and r.check()
        r.discard(slice(0, 4))
        assert (a[:4] == 0).all() and r.check()
        del a
        r.close()
    """,
        faults,
    )


@BOTH
def test_a_write_back_that_fails_keeps_the_page_and_is_tried_again(faults: str) -> None:
    passes(
        HEAD
        + """
    for how in ("put", "hang"):
        r = region()
        a = r.array(np.uint8, (512, 4096))
        a[:60] = np.arange(60, dtype=np.uint8)[:, None] + 1
        r.fail(**{how: 1})
        for action in (r.flush, r.evict):
            seconds, error = took(action)
            assert isinstance(error, WritebackError) and seconds < 2, (action, seconds, error)
            assert "mem:" in str(error)
        for k in range(60):
            assert (a[k] == k + 1).all()
        assert r.check() and r.stats()["lost_pages"] == 0
        r.fail()
        r.flush()
        r.evict()
        assert r.stats()["resident"] == 0
        for k in range(60):
            assert (a[k] == k + 1).all()
        del a
        r.close()
    """,
        faults,
    )


@BOTH
@pytest.mark.parametrize("reclaim", ["thread", "faulter"])
@pytest.mark.parametrize("how", ["put", "hang"])
def test_no_room_for_a_page_ends_at_the_deadline(faults: str, reclaim: str, how: str) -> None:
    passes(
        HEAD
        + """
    from edm_real._core import lib
    r = region(deadline_s=0.3, reclaim=sys.argv[2])
    a = r.array(np.uint8, (512, 4096))
    a[:50] = np.arange(50, dtype=np.uint8)[:, None] + 1
    r.fail(**{sys.argv[3]: 1})
    start = time.monotonic()
    errors = [lib.edm_region_prefault(r._raw, k, 1, 1) for k in range(50, 66)]
    assert errors[0] == 0 and errors[-1] in (-errno.ENOMEM, -errno.EFAULT), errors
    late = sum(e != 0 for e in errors)
    assert time.monotonic() - start < late * 1.5 + 1.5, (time.monotonic() - start, errors)
    assert r.stats()["lost_pages"] == 0
    r.fail()
    for k in range(50, 66):
        r.prefault(slice(k, k + 1))
    for k in range(50):
        assert (a[k] == k + 1).all()
    assert not a[50:].any() and r.check()
    del a
    r.close()
    """,
        faults,
        reclaim,
        how,
        timeout=30,
    )


@BOTH
def test_an_access_there_is_no_room_for_gets_a_signal(faults: str) -> None:
    done = run(
        HEAD
        + """
    r = region(deadline_s=0.2)
    a = r.array(np.uint8, (512, 4096))
    r.fail(put=1)
    a[:] = 1
    """,
        faults,
        timeout=30,
    )
    assert done.returncode == -7, done.stderr
