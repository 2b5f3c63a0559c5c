"""mem: with a cap."""

from __future__ import annotations

import errno

import pytest

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
