"""Stores that fail: no wrong byte reaches the program, no thread hangs past the deadline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.child import passes, run

pytestmark = pytest.mark.uffd
BOTH = pytest.mark.parametrize("faults", ["upcall", "monitor"])

SPOILED = """
    faults, path = sys.argv[1:]
    store = f"file:{path}?keep=1"
    r = Region("1MiB", local="64KiB", store=store, faults=faults, deadline_s=0.2)
    a = r.array(np.uint8, 2**20)
    a[:] = 3
    r.flush()
    r.evict()
    with open(path, "r+b") as f:
        f.seek(20 * 4096 + 77)
        f.write(b"\\x04")
"""


@BOTH
def test_a_flipped_bit_is_found(faults: str, tmp_path: Path) -> None:
    passes(
        SPOILED
        + """
    try:
        r.prefault(slice(20, 21))
    except PageLostError as e:
        assert e.page == 20 and path in str(e) and e.errno == errno.EBADMSG
    else:
        raise SystemExit("the wrong byte was handed out")
    assert (a[:20 * 4096] == 3).all() and (a[21 * 4096:] == 3).all()
    r.discard(slice(20, 21))
    assert (a[20 * 4096:21 * 4096] == 0).all()
    del a
    r.close()
    """,
        faults,
        f"{tmp_path}/p",
    )


@BOTH
@pytest.mark.parametrize("fill", [False, True])
def test_a_full_store_ends_a_replay_after_one_deadline(faults: str, fill: bool) -> None:
    passes(
        """
    import time
    faults, fill = sys.argv[1:]
    trace = np.arange(512, dtype=np.uint32)
    with Region(512, local=64, store="mem:?cap=64KiB", faults=faults, deadline_s=0.3) as r:
        begin = time.monotonic()
        out = r.replay(trace, write=np.ones(512, np.uint8), threads=2, fill=bool(int(fill)))
        assert time.monotonic() - begin < 5, time.monotonic() - begin
        assert 1 <= out["extra"]["lost"] <= 4 and not out["verified"], out["extra"]
        assert r.lost_pages == 0  # nothing was lost: there was no place for more
    """,
        faults,
        str(int(fill)),
    )


@BOTH
def test_an_access_to_a_lost_page_ends_in_sigbus(faults: str, tmp_path: Path) -> None:
    done = run(SPOILED + "\n    print(a[20 * 4096], flush=True)\n", faults, f"{tmp_path}/p")
    assert done.returncode == -7 and done.stdout == ""
    said = f"edm_real: page 20 is lost: store file:{tmp_path}/p?keep=1: its bytes are not those"
    assert said in done.stderr


@BOTH
def test_replay_names_the_lost_page(faults: str, tmp_path: Path) -> None:
    passes(
        """
        faults, path = sys.argv[1:]
        store = f"file:{path}?keep=1"
        with Region(110, local=32, store=store, faults=faults, deadline_s=0.1) as r:
            page = np.resize(np.arange(110, dtype=np.uint32), 1024)
            assert r.replay(page, np.ones(1024, np.uint8))["verified"]
            r.evict()
            with open(path, "r+b") as f:
                f.truncate(100 * 4096 + 10)
            lost = 0
            try:
                r.replay(np.arange(95, 101, dtype=np.uint32))
            except PageLostError as e:
                lost = e.page
            assert lost >= 100, lost
        """,
        faults,
        f"{tmp_path}/p",
    )


def test_a_failed_write_back_keeps_the_page(tmp_path: Path) -> None:
    passes(
        """
        import resource
        with Region(64, local=32, store=f"file:{sys.argv[1]}", deadline_s=0.2) as r:
            a = r.array(np.uint64, (64, 512))
            for k in range(20):
                a[k] = k + 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 4096, resource.RLIM_INFINITY))
            try:
                r.flush()
            except WritebackError as e:
                assert "File too large" in str(e), e
            else:
                raise SystemExit("a failed flush went unseen")
            assert all((a[k] == k + 1).all() for k in range(20)) and r.check()
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            r.flush()
            r.evict()
            assert all((a[k] == k + 1).all() for k in range(20)) and r.check()
            del a
        """,
        f"{tmp_path}/p",
    )


def test_a_store_that_takes_nothing_does_not_hang_the_program(tmp_path: Path) -> None:
    done = run(
        """
        import resource
        r = Region(64, local=8, store=f"file:{sys.argv[1]}", deadline_s=0.3)
        a = r.array(np.uint64, (64, 512))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for k in range(64):
            a[k] = k
        """,
        f"{tmp_path}/p",
        timeout=20,
    )
    assert done.returncode == -7
    assert "edm_real: no room in local memory for page" in done.stderr
    assert f"store file:{tmp_path}/p refused pages until the deadline: File too" in done.stderr
