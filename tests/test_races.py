"""Races others have paid for, each order forced: no byte is lost, nobody sleeps for ever.

Every test stops a thread at a point of the fault or eviction path, lets another one do its part,
and looks at what the program sees and at whether pager and mapping agree. See stage.py.
"""

from __future__ import annotations

import pytest

from tests.child import passes, run

pytestmark = pytest.mark.uffd
BOTH = pytest.mark.parametrize("faults", ["upcall", "monitor"])

SET = """
    from tests.stage import *
    from tests.faulty import FaultyRegion
    faults, more = sys.argv[1], sys.argv[2:]
    def region(kind=Region, **options):
        # Two handlers: one of them is stopped at a point while the other goes on.
        return kind(64, local=16, faults=faults, handlers=4, deadline_s=5, **options)
    r = region(FaultyRegion)
    stage = Stage(r)
    def is_remote(page, value):
        stage.write(page, value)
        r.evict(slice(page, page + 1))
        assert stage.state(page) == "REMOTE"
        stage.seen.clear()
"""
END = """
    assert r.check()
    stage.end()
    r.close()
"""


def staged(code: str, faults: str, *more: str) -> None:
    passes(SET + code + END, faults, *more, timeout=60)


@BOTH
@pytest.mark.parametrize("write", ["read", "write"])
def test_two_faults_on_one_page_fetch_once(faults: str, write: str) -> None:
    staged(
        """
    is_remote(3, 7)
    fetch, wait = stage.hold(FETCH, 3), stage.hold(WAIT, 3)
    first = Doing(stage.read, 3)
    fetch.reached()
    second = Doing(stage.read, 3) if more[0] == "read" else Doing(stage.write, 3, 9)
    wait.reached()
    wait.go()
    assert first.still() and second.is_alive()
    fetch.go()
    assert first.answer() in (b"\\x07" * 4096, b"\\x09" * 4096) or more[0] == "write"
    second.answer()
    assert stage.times(FETCH, 3) == 1 and stage.state(3) == "RESIDENT"
    assert stage.holds(3, 7 if more[0] == "read" else 9)
    """,
        faults,
        write,
    )


@BOTH
def test_a_fault_while_the_page_is_taken_out_of_sight_waits(faults: str) -> None:
    staged(
        """
    stage.write(3, 7)
    unmap, wait = stage.hold(UNMAP, 3), stage.hold(WAIT, 3)
    evict = Doing(r.evict, slice(3, 4))
    unmap.reached()
    assert stage.state(3) == "LEAVING"
    stage.write(3, 8)  # still mapped: it must not be lost
    unmap.go()
    evict.answer()
    assert stage.state(3) == "REMOTE" and stage.holds(3, 8)
    """,
        faults,
    )


@BOTH
@pytest.mark.parametrize("kept", ["in the stash", "in the store"])
def test_who_waits_for_a_page_waits_for_its_part_of_the_batch(faults: str, kept: str) -> None:
    staged(
        """
    stage.end()
    r.close()
    kind = FaultyRegion if more[0] == "in the stash" else Region
    r = kind(256, local=256, faults=faults, handlers=4, deadline_s=5)
    stage = Stage(r)
    for page in range(100):
        stage.write(page, page)
    r.evict(slice(90, 91))
    assert stage.holds(90, 90)  # clean now: it goes first
    batch, wait = stage.hold(TAKEN, 70), stage.hold(WAIT, 80)
    evict = Doing(r.evict, slice(0, 100))
    batch.reached()
    for page in (90, 0, 31, 63):  # these parts were told
        assert stage.holds(page, page)
    stage.write(63, 1)
    late = Doing(stage.read, 80)
    wait.reached()
    wait.go()
    assert late.still() and evict.is_alive()
    batch.go()
    assert late.answer() == bytes([80]) * 4096
    evict.answer()
    assert stage.holds(63, 1)
    for page in range(100):
        assert stage.holds(page, 1 if page == 63 else page)
    """,
        faults,
        kept,
    )


@BOTH
def test_a_first_write_while_a_clean_page_is_taken_out_of_sight_waits(faults: str) -> None:
    staged(
        """
    is_remote(3, 7)
    assert stage.holds(3, 7)  # clean now, write-protected
    unmap, wait = stage.hold(UNMAP, 3), stage.hold(WAIT, 3)
    evict = Doing(r.evict, slice(3, 4))
    unmap.reached()
    write = Doing(stage.write, 3, 8)
    wait.reached()
    wait.go()
    assert write.still()
    unmap.go()
    evict.answer()
    write.answer()
    assert stage.holds(3, 8) and stage.state(3) == "RESIDENT"
    r.evict(slice(3, 4))
    assert stage.holds(3, 8)
    """,
        faults,
    )


@BOTH
@pytest.mark.parametrize("point", ["STORE", "STORED"])
@pytest.mark.parametrize("write", ["read", "write"])
def test_a_page_being_written_back_is_served_from_the_stash(
    faults: str, point: str, write: str
) -> None:
    staged(
        """
    point = {"STORE": STORE, "STORED": STORED}[more[0]]
    stage.write(3, 7)
    stop = stage.hold(point, 3)
    evict = Doing(r.evict, slice(3, 4))
    stop.reached()
    assert stage.state(3) == "LEAVING"
    before = r.stats()["store_stats"]["gets"]
    assert stage.holds(3, 7)
    assert stage.state(3) == "RESIDENT" and r.stats()["rescues"] == 1
    if more[1] == "write":
        stage.write(3, 9)
    assert evict.is_alive()
    stop.go()
    evict.answer()
    want = 9 if more[1] == "write" else 7
    assert stage.holds(3, want) and r.stats()["store_stats"]["gets"] == before
    r.evict(slice(3, 4))
    assert stage.state(3) == "REMOTE" and stage.holds(3, want)
    """,
        faults,
        point,
        write,
    )


@BOTH
def test_a_write_back_ends_while_its_page_is_being_rescued(faults: str) -> None:
    staged(
        """
    stage.write(3, 7)
    stop, install = stage.hold(STORE, 3), stage.hold(INSTALL, 3)
    evict = Doing(r.evict, slice(3, 4))
    stop.reached()
    rescue = Doing(stage.write, 3, 8)
    install.reached()
    stop.go()
    evict.answer()  # the buffer may not be given to others yet: the rescuer copies from it
    for k in range(20, 30):
        stage.write(k, k)
        r.evict(slice(k, k + 1))
    install.go()
    rescue.answer()
    assert stage.holds(3, 8)
    r.evict()
    assert stage.holds(3, 8) and all(stage.holds(k, k) for k in range(20, 30))
    """,
        faults,
    )


@BOTH
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_rescue_while_the_write_back_fails(faults: str, when: str) -> None:
    staged(
        """
    stage.write(3, 7)
    r.fail(put=1)
    stop, install = stage.hold(STORE, 3), stage.hold(INSTALL, 3)
    evict = Doing(r.evict, slice(3, 4))
    stop.reached()
    rescue = Doing(stage.write, 3, 8)
    install.reached()
    if more[0] == "before":
        install.go()
        rescue.answer()
    stop.go()
    try:
        evict.answer()
    except WritebackError:
        pass
    install.go()
    rescue.answer()
    assert stage.holds(3, 8) and stage.state(3) == "RESIDENT"
    r.fail()
    r.evict()
    assert stage.state(3) == "REMOTE" and stage.holds(3, 8)
    assert r.stats()["lost_pages"] == 0 and r.stats()["failed_writebacks"] == 1
    """,
        faults,
        when,
    )


@BOTH
def test_a_discard_during_a_fetch_comes_after_it(faults: str) -> None:
    staged(
        """
    is_remote(3, 7)
    install = stage.hold(INSTALL, 3)
    read = Doing(stage.read, 3)
    install.reached()
    discard = Doing(r.discard, slice(3, 4))
    assert discard.still()
    install.go()
    discard.answer()
    read.answer()
    assert stage.holds(3, 0)
    """,
        faults,
    )


@BOTH
def test_a_discard_during_a_write_back_comes_after_it(faults: str) -> None:
    staged(
        """
    stage.write(3, 7)
    stop = stage.hold(STORE, 3)
    evict = Doing(r.evict, slice(3, 4))
    stop.reached()
    discard = Doing(r.discard, slice(3, 4))
    assert discard.still()
    stop.go()
    evict.answer()
    discard.answer()
    assert stage.state(3) == "NEW" and r.stats()["store_stats"]["pages"] == 0
    assert stage.holds(3, 0)
    """,
        faults,
    )


@BOTH
def test_a_flush_during_a_fault_comes_after_it(faults: str) -> None:
    staged(
        """
    is_remote(3, 7)
    installed = stage.hold(INSTALLED, 3)
    write = Doing(stage.write, 3, 8)
    installed.reached()
    flush = Doing(r.flush)
    assert flush.still()
    installed.go()
    write.answer()
    flush.answer()
    r.flush()
    stage.seen.clear()
    r.evict()
    assert stage.times(STORE, 3) == 0 and stage.holds(3, 8)
    """,
        faults,
    )


@BOTH
def test_the_limit_shrinks_while_pages_leave(faults: str) -> None:
    staged(
        """
    for k in range(10):
        stage.write(k, k + 1)
    stop = stage.hold(STORE, 3)
    evict = Doing(r.evict, slice(0, 8))
    stop.reached()
    r.resize(4)
    write = Doing(stage.write, 40, 99)
    write.still(0.1)
    stop.go()
    evict.answer()
    write.answer()
    assert stage.holds(40, 99) and all(stage.holds(k, k + 1) for k in range(10))
    assert r.stats()["resident"] <= 4, r.stats()
    """,
        faults,
    )


@BOTH
def test_a_fault_finds_no_room_until_a_page_under_way_has_left(faults: str) -> None:
    staged(
        """
    r.resize(2, high=2, low=1)
    stage.write(0, 1)
    stop = stage.hold(STORE, 0)
    evict = Doing(r.evict, slice(0, 1))
    stop.reached()
    Doing(stage.write, 1, 2).answer()
    second = Doing(stage.write, 2, 3)
    second.still(0.1)
    stop.go()
    evict.answer()
    second.answer()
    assert all(stage.holds(k, k + 1) for k in range(3))
    """,
        faults,
    )


@BOTH
def test_room_that_is_made_before_a_fault_waits_for_it_is_not_waited_for(faults: str) -> None:
    staged(
        """
    r.resize(2, high=2, low=1)
    took = []
    for k in range(0, 9, 3):
        stage.write(k, 1)
        stop = stage.hold(STORE, k)
        evict = Doing(r.evict, slice(k, k + 1))
        stop.reached()
        Doing(stage.write, k + 1, 2).answer()
        full = stage.hold(WAIT, k + 2)
        second = Doing(stage.write, k + 2, 3)
        full.reached()  # it was told that there is no room
        stop.go()
        evict.answer()  # now there is
        begin = time.monotonic()
        full.go()
        second.answer()
        took.append(time.monotonic() - begin)
        r.evict()
    assert min(took) < 0.09, took  # who sleeps through it looks again after 0.1 s
    """,
        faults,
    )


@BOTH
def test_an_eviction_waits_for_the_fetch_and_then_takes_the_page(faults: str) -> None:
    staged(
        """
    is_remote(3, 7)
    installed = stage.hold(INSTALLED, 3)
    write = Doing(stage.write, 3, 8)
    installed.reached()
    evict = Doing(r.evict, slice(3, 4))
    assert evict.still()
    installed.go()
    evict.answer()
    write.answer()
    assert stage.holds(3, 8)
    """,
        faults,
    )


@BOTH
def test_a_fault_is_let_through_before_the_region_is_closed(faults: str) -> None:
    """Whoever is inside of a fault gets the page, or a signal: never a page of zeros."""
    done = run(
        SET
        + """
    is_remote(3, 7)
    install = stage.hold(INSTALL, 3)
    seen = []
    def look():
        page = stage.read(3)
        print("zeros" if page == bytes(4096) else "page", flush=True)
    read = Doing(look)
    install.reached()
    closing = Doing(r.close)
    assert closing.still()
    install.go()
    closing.answer()
    read.answer()
    """,
        faults,
        timeout=60,
    )
    assert "zeros" not in done.stdout, done
    assert done.returncode in (0, -7, -11), done
    assert done.returncode or "page" in done.stdout, done
