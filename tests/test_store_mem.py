"""mem: a cap, and places for pages."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from edm_real._core import ffi

from tests.child import passes
from tests.store import Store, random_pages


def test_a_page_beyond_the_cap_is_refused_and_others_replaced() -> None:
    with Store("mem:?cap=16KiB") as store:
        assert store.put(range(5), random_pages(5)) == [0, 0, 0, 0, -errno.ENOSPC]
        data = random_pages(1, 2)
        assert store.put([2], data) == [0] and (store.get([2])[0] == data).all()
        assert store.get([4])[1] == [-errno.ENOENT]
        store.delete([0])
        assert store.put([4], data) == [0]


def test_a_page_that_is_written_to_its_place_is_there() -> None:
    with Store("mem:?cap=8KiB") as store:
        old, new = random_pages(1, 1), random_pages(1, 2)
        assert store.put([3], old) == [0]
        for page in (3, 5):
            place = store.raw.ops.place(store.raw, page)
            np.frombuffer(ffi.buffer(ffi.cast("char *", place), 4096), np.uint8)[:] = new[0]
        data, results = store.get([3, 5])
        assert results == [0, 0] and (data == new[0]).all()
        assert store.raw.ops.place(store.raw, 6) == ffi.NULL, "beyond the cap"
        stats = store.stats()
        assert (stats["puts"], stats["pages"], stats["bytes_held"]) == (3, 2, 8192)
        store.delete([3])
        assert store.raw.ops.place(store.raw, 6) != ffi.NULL
    with Store("mem:?placed=0") as store:
        assert store.raw.ops.place(store.raw, 1) == ffi.NULL


@pytest.mark.uffd
@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_discarded_pages_leave_no_copy_there_marked_ones_neither(faults: str) -> None:
    passes(
        """
        with Region(1024, local=256, evict="lpet:adapt=0", faults=sys.argv[1]) as r:
            a = r.array(np.uint64, (1024, 512))
            for k in range(20_000):  # 64 pages are marked and rescued, and never leave
                a[k % 64, 0] += 1
                a[65 + k % 959, 0] += 1  # 64 is only read, below
            assert r.stats()["rescues"] > 100 and a[:, 0].sum() == 40_000
            del a
            r.discard(slice(0, 1024))
            assert r.check() and r.stats()["store_stats"]["pages"] == 0, r.stats()["store_stats"]
        """,
        faults,
    )


@pytest.mark.uffd
def test_a_full_store_keeps_pages_in_local_memory() -> None:
    passes(
        """
        with Region(64, local=32, store="mem:?cap=32KiB", deadline_s=0.2) as r:
            a = r.array(np.uint64, (64, 512))
            for k in range(24):
                a[k] = k + 1
            try:
                r.flush()
            except WritebackError as e:
                assert "No space left" in str(e), e
            else:
                raise SystemExit("a full store went unseen")
            assert all((a[k] == k + 1).all() for k in range(24)) and r.check()
            del a
        """
    )


@pytest.mark.uffd
def test_a_replay_over_a_full_store_ends_soon_with_its_reason_and_the_fix() -> None:
    passes(
        """
        from time import monotonic
        from edm_real import run
        from edm_workload import Experiment
        begin = monotonic()
        try:
            run(Experiment.from_options(trace="uniform", pages=512, refs=3000, local="25%",
                                        store="mem:?cap=64KiB"))
        except EdmError as e:
            says = "store mem:?cap=64KiB is full, and so is local memory; make room there"
            assert says in str(e) and "\\n" not in str(e), e
            assert monotonic() - begin < 8, "it went on to twice the deadline"
        else:
            raise SystemExit("a full store went unseen")
        """
    )


@pytest.mark.uffd
def test_a_program_waits_for_a_full_store_until_its_deadline() -> None:
    passes(
        """
        from time import monotonic
        with Region(64, local=8, store="mem:?cap=32KiB", deadline_s=1) as r:
            begin = monotonic()
            assert r.replay(np.arange(64, dtype=np.uint32), fill=True)["extra"]["lost"]
            assert monotonic() - begin > 1.9, "who might have made room was not waited for"
        """
    )
