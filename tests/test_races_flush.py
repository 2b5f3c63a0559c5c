"""Races of a flush in place, each order forced: a page is copied and stored while it stays mapped.

See test_races.py and stage.py. After each the content is looked at, and again when it came back
from the store.
"""

from __future__ import annotations

import pytest

from tests.child import passes
from tests.test_races import BOTH, END, SET

pytestmark = pytest.mark.uffd

AGAIN = """
    def comes_back(page, value):
        assert stage.holds(page, value), stage.read(page)[:4]
        r.evict(slice(page, page + 1))
        assert stage.state(page) == ("REMOTE" if value else "NEW")
        assert stage.holds(page, value), stage.read(page)[:4]
    def count(name):
        return r.stats()[name]
"""


def staged(code: str, faults: str, *more: str) -> None:
    passes(SET + AGAIN + code + END, faults, *more, timeout=60)


@BOTH
def test_a_flushed_page_stays_where_it_is_and_its_next_write_is_seen(faults: str) -> None:
    staged(
        """
    stage.write(3, 7)
    faults = count("faults")
    stop = stage.hold(STORE, 3)
    flush = Doing(r.flush)
    stop.reached()
    assert stage.holds(3, 7) and stage.state(3) == "RESIDENT"
    stop.go()
    flush.answer()
    assert stage.holds(3, 7) and count("faults") == faults and r.check()
    r.flush()
    assert stage.times(STORE, 3) == 1
    stage.write(3, 8)
    assert count("write_faults") == 1 and count("faults") == faults + 1
    r.flush()
    assert stage.times(STORE, 3) == 2
    comes_back(3, 8)
    assert stage.times(STORE, 3) == 2  # clean: it was dropped
    """,
        faults,
    )


@BOTH
def test_a_write_before_the_protection_is_in_the_copy(faults: str) -> None:
    staged(
        """
    stage.write(3, 7)
    stop = stage.hold(UNMAP, 3)
    flush = Doing(r.flush)
    stop.reached()
    stage.write(3, 8)
    assert count("write_faults") == 0
    stop.go()
    flush.answer()
    comes_back(3, 8)
    assert stage.times(STORE, 3) == 1
    """,
        faults,
    )


@BOTH
def test_a_write_while_the_page_is_copied_waits(faults: str) -> None:
    staged(
        """
    stage.write(3, 7)
    stop, wait = stage.hold(PROTECTED, 3), stage.hold(WAIT, 3)
    flush = Doing(r.flush)
    stop.reached()
    assert stage.holds(3, 7)
    write = Doing(stage.write, 3, 8)
    wait.reached()
    wait.go()
    assert write.still()
    stored = stage.hold(STORED, 3)
    stop.go()
    stored.reached()
    write.answer()  # it does not wait for the store
    assert flush.is_alive() and stage.holds(3, 8)
    stored.go()
    flush.answer()
    comes_back(3, 8)
    assert stage.times(STORE, 3) == 2
    """,
        faults,
    )


@BOTH
@pytest.mark.parametrize("fails", ["0", "1"])
def test_a_write_while_the_copy_is_stored_makes_the_page_dirty_again(
    faults: str, fails: str
) -> None:
    staged(
        """
    fails = int(more[0])
    stage.write(3, 7)
    r.fail(put=fails)
    stop = stage.hold(STORE, 3)
    flush = Doing(r.flush)
    stop.reached()
    Doing(stage.write, 3, 8).answer()
    stop.go()
    try:
        flush.answer()
        assert not fails
    except WritebackError:
        assert fails
    r.fail()
    assert r.check()
    Doing(stage.write, 3, 9).answer()  # writable all along
    assert count("write_faults") == 1
    r.flush()
    comes_back(3, 9)
    """,
        faults, fails,
    )


@BOTH
def test_a_page_that_the_store_refused_is_dirty_and_can_be_written(faults: str) -> None:
    staged(
        """
    for k in range(8):
        stage.write(k, k + 1)
    r.fail(put=1)
    try:
        r.flush()
        raise SystemExit("a failed flush went unseen")
    except WritebackError:
        pass
    r.fail()
    assert r.check() and count("failed_writebacks") == 8
    Doing(stage.write, 3, 9).answer()
    assert count("write_faults") == 0 and count("writebacks") == 0
    r.flush()
    for k in range(8):
        comes_back(k, 9 if k == 3 else k + 1)
    assert count("writebacks") == 8
    """,
        faults,
    )


@BOTH
def test_a_write_waits_while_a_refused_page_is_made_writable(faults: str) -> None:
    """Its fault comes after the copy and before the store's answer, and ends after both."""
    staged(
        """
    stage.write(3, 7)
    r.fail(put=1)
    stored = stage.hold(STORED, 3)
    flush = Doing(r.flush)
    stored.reached()
    writes = [Doing(stage.write, 3, 8) for _ in range(3)]
    stored.go()
    for write in writes:
        write.answer()
    try:
        flush.answer()
    except WritebackError:
        pass
    r.fail()
    assert stage.holds(3, 8) and r.check()
    r.flush()
    comes_back(3, 8)
    """,
        faults,
    )


@BOTH
@pytest.mark.parametrize("ask", ["discard", "evict", "flush"])
@pytest.mark.parametrize("write", ["", "write"])
def test_what_is_asked_of_a_page_while_its_copy_is_stored_comes_after(
    faults: str, ask: str, write: str
) -> None:
    staged(
        """
    ask, write = more
    stage.write(3, 7)
    stop = stage.hold(STORE, 3)
    flush = Doing(r.flush)
    stop.reached()
    if write:
        Doing(stage.write, 3, 8).answer()
    second = Doing(getattr(r, ask), slice(3, 4))
    assert second.still() and stage.state(3) == "RESIDENT"
    stop.go()
    flush.answer()
    second.answer()
    if ask == "discard":
        assert stage.state(3) == "NEW" and r.stats()["store_stats"]["pages"] == 0
        assert stage.holds(3, 0)
    else:
        assert stage.state(3) == ("REMOTE" if ask == "evict" else "RESIDENT")
        assert stage.times(STORE, 3) == (2 if write else 1)
        comes_back(3, 8 if write else 7)
    """,
        faults, ask, write,
    )


@BOTH
def test_pages_that_are_being_stored_are_passed_over_by_lpet(faults: str) -> None:
    staged(
        """
    for k in range(4):
        stage.write(k, k + 1)
    stop = stage.hold(STORE, 0)
    flush = Doing(r.flush, slice(0, 4))
    stop.reached()
    for k in range(4, 40):
        Doing(stage.write, k, k + 1).answer()
        assert all(stage.state(k) == "RESIDENT" for k in range(4))
    assert count("evictions") > 20 and count("resident") <= 16
    stop.go()
    flush.answer()
    r.evict()
    assert all(stage.holds(k, k + 1) for k in range(40))
    """,
        faults,
    )


@BOTH
def test_a_fault_finds_no_room_until_a_flush_has_ended(faults: str) -> None:
    staged(
        """
    r.resize(2, high=2, low=1)
    stage.write(0, 1)
    stage.write(1, 2)
    stop = stage.hold(STORE, 0)
    flush = Doing(r.flush)
    stop.reached()
    write = Doing(stage.write, 2, 3)
    assert write.still(), "both pages are in the flush's hands"
    stop.go()
    flush.answer()
    write.answer()
    for k in range(3):
        comes_back(k, k + 1)
    """,
        faults,
    )


@BOTH
def test_a_region_is_closed_when_a_flush_under_way_has_ended(faults: str) -> None:
    staged(
        """
    stage.write(3, 7)
    stop = stage.hold(STORE, 3)
    flush = Doing(r.flush)
    stop.reached()
    closing = Doing(r.close)
    assert closing.still() and flush.is_alive()
    stop.go()
    flush.answer()
    closing.answer()
    try:
        r.flush()
        raise SystemExit("a closed region was flushed")
    except ValueError as e:
        assert "closed" in str(e)
    r = region()
    stage = Stage(r)
    """,
        faults,
    )


def test_every_size_of_page_is_flushed_in_place() -> None:
    passes(
        """
    for size in (4096, 16384, 2 << 20):
        with Region(8, local=8, page_size=size) as r:
            a = r.array(np.uint8, (8, size))
            for turn in range(3):
                for k in range(8):
                    a[k, turn::7] = k + 10 * turn
                before = r.stats()["rescues"]
                r.flush()
                assert all((a[k, turn::7] == k + 10 * turn).all() for k in range(8)) and r.check()
                a[2, -1] = 200 + turn
            assert r.stats()["rescues"] == before == 0
            r.evict()
            assert a[2, -1] == 202 and all((a[k, 2::7][:-1] == k + 20).all() for k in range(8))
            del a
        """
    )


def test_a_flush_looks_at_a_page_the_program_gave_back_without_a_fault_of_its_own() -> None:
    passes(
        """
    import mmap
    from edm_real._core import ffi, lib
    with Region(64, local=32) as r:
        a = r.array(np.uint8, (64, 4096))
        a[:16] = 7
        at = int(ffi.cast("uintptr_t", lib.edm_region_memory(r._raw)))
        libc = __import__("ctypes").CDLL(None)
        assert libc.madvise(__import__("ctypes").c_void_p(at + 5 * 4096), 4096, 4) == 0
        r.flush()
        assert r.stats()["writebacks"] == 16
        r.evict()
        assert (a[:5] == 7).all() and not a[5].any() and (a[6:16] == 7).all()
        del a
        """
    )
