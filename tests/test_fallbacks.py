"""What older and narrower kernels lack: the runtime does without, and keeps its promises.

Each lack is forced by a preloaded C library (old_kernel.c) that answers as such a kernel would,
and counts that it was asked: a fallback that was not taken is a failure here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child import HEAD, passes, run
from tests.compiled import ROOT, shared_library

pytestmark = pytest.mark.uffd
LACKS = (
    *("madvise", "pidfd", "vmsplice", "pipes", "bigpipes", "poison", "device", "kernel"),
    "features,madvise,device",  # about Linux 5.11
    "features,pidfd,vmsplice,pipes,bigpipes,device",  # nothing but what cannot be done without
)
BOTH = pytest.mark.parametrize("faults", ["upcall", "monitor"])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    return shared_library(ROOT / "tests" / "old_kernel.c", folder / "old_kernel.so")


@pytest.fixture
def lack(
    request: pytest.FixtureRequest, library: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Children lack it."""
    lack = str(request.param)
    if set(lack.split(",")) & {"device", "kernel"} and not unprivileged():
        pytest.skip("neither root nor vm.unprivileged_userfaultfd: no other way than the device")
    before = os.environ.get("LD_PRELOAD", "")
    monkeypatch.setenv("LD_PRELOAD", f"{before} {library}".strip())
    monkeypatch.setenv("EDM_OLD_KERNEL", lack)
    yield lack


def unprivileged() -> bool:
    """The system call userfaultfd is to be had."""
    return os.geteuid() == 0 or Path("/proc/sys/vm/unprivileged_userfaultfd").read_text() == "1\n"


LACKING = """
    import ctypes
    faults, lack = sys.argv[1:]
    refusals = ctypes.CDLL(None).old_kernel_refusals
    refusals.restype = ctypes.c_long
    def region(pages=512, local=64, **more):
        return Region(pages, local=local, faults=faults, **more)
"""


@BOTH
@pytest.mark.parametrize("lack", LACKS, indirect=True)
def test_content_survives_threads_prefetching_and_everything_a_program_asks_for(
    faults: str, lack: str
) -> None:
    passes(
        LACKING
        + """
    rng = np.random.default_rng(2)
    page = rng.integers(0, 512, 6000, dtype=np.uint32)
    write = (rng.random(6000) < 0.5).astype(np.uint8)
    kinds = ("exact", "nextn", 1), ("always", "none", 1), ("exact", "stride", 4)
    for dirty, prefetch, size in kinds:
        with region(dirty=dirty, prefetch=prefetch, page_size=size * 4096) as r:
            got = r.replay(page, write, threads=4, fill=True, whole=True, chunk=64)
            assert got["verified"] and not got["extra"]["lost"] and got["evictions"] > 1000, got
            assert r.check() and r.stats()["resident"] <= 64
    r = region()
    a = r.array(np.uint8, (512, 4096))
    a[:] = np.arange(512, dtype=np.uint16)[:, None] % 251
    r.flush()
    stored = r.stats()["writebacks"]
    same = lambda: all((a[k] == k % 251).all() for k in range(512))
    assert same() and same() and r.stats()["writebacks"] == stored
    r.evict(slice(0, 100))
    r.prefault(slice(0, 50), write=True)
    r.resize(32)
    r.advise(slice(60, 80), "willneed")
    assert same() and r.check() and r.stats()["resident"] <= 32
    r.discard(slice(10, 20))
    assert not a[10:20].any()
    a[10:20] = np.arange(10, 20)[:, None]
    assert same() and r.check() and r.stats()["lost_pages"] == 0
    access = r.stats()["uffd"]
    wanted = {"kernel": "user-mode-only", "device": "syscall"}
    for word, name in wanted.items():
        assert word not in lack.split(",") or access == name, access
    assert refusals() > 0, "the fallback was not needed"
    del a, same
    r.close()
    """,
        faults,
        lack,
    )


@BOTH
@pytest.mark.parametrize("lack", ["poison", "kernel", LACKS[-1]], indirect=True)
def test_a_lost_page_is_a_signal_and_comes_back_when_discarded(
    faults: str, lack: str, tmp_path: Path
) -> None:
    """With the fault as the program's, in threads, and in the replay, which tells of it."""
    passes(
        LACKING
        + """
    import time
    from tests.faulty import FaultyRegion
    r = FaultyRegion(512, local=64, faults=faults, deadline_s=0.2)
    page = np.arange(512, dtype=np.uint32)
    r.replay(page, np.ones(512, np.uint8))
    r.evict()
    r.fail(get=1)
    start = time.monotonic()
    try:
        r.replay(page[:8], threads=4, chunk=1, pages=8)
    except PageLostError as e:
        assert e.page < 8, e
    else:
        raise AssertionError("nothing was lost")
    assert time.monotonic() - start < 10
    r.fail()
    assert r.stats()["lost_pages"] == 8, r.stats()["lost_pages"]
    r.discard(slice(0, 8))
    got = r.replay(page[:8], np.ones(8, np.uint8), pages=8)
    assert got["verified"] and not got["extra"]["lost"] and r.check(), got
    r.close()
    """,
        faults,
        lack,
    )
    done = run(
        LACKING
        + """
    from tests.faulty import FaultyRegion
    r = FaultyRegion(512, local=64, faults=faults, deadline_s=0.2)
    a = r.array(np.uint8, (512, 4096))
    a[:] = 5
    r.evict()
    r.fail(get=1)
    print("now", flush=True)
    print(int(a[3].sum()), flush=True)
    """,
        faults,
        lack,
    )
    assert (done.returncode, done.stdout) == (-7, "now\n"), done


@BOTH
@pytest.mark.parametrize("lack", ["poison"], indirect=True)
def test_no_room_is_a_signal_at_the_deadline(faults: str, lack: str) -> None:
    done = run(
        LACKING
        + """
    from tests.faulty import FaultyRegion
    r = FaultyRegion(512, local=64, faults=faults, deadline_s=0.2)
    a = r.array(np.uint8, (512, 4096))
    r.fail(put=1)
    print("now", flush=True)
    a[:] = 1
    print("wrong")
    """,
        faults,
        lack,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (-7, "now\n"), done


@BOTH
@pytest.mark.parametrize("lack", ["protect"], indirect=True)
def test_a_page_that_cannot_be_protected_is_not_taken_for_flushed(faults: str, lack: str) -> None:
    passes(
        LACKING + """
    r = region(64, 64)
    a = r.array(np.uint8, (64, 4096))
    a[::2] = 7
    try:
        r.flush()
        raise SystemExit("flushed")
    except WritebackError as e:
        assert "Cannot allocate memory" in str(e), e
    assert refusals() == 1 and r.stats()["failed_writebacks"] == 32 and r.check()
    assert r.stats()["writebacks"] == 0
    a[::2] = 8
    r.evict()
    assert (a[::2] == 8).all() and not a[1::2].any()
    del a
    r.close()
    """,
        faults, lack,
    )


def test_system_calls_under_monitor_need_more_than_user_mode(library: Path) -> None:
    """user-mode-only: EFAULT, never wrong bytes; all else serves them."""
    code = (
        HEAD
        + """
r = Region(64, local=16, faults="monitor")
a = r.array(np.uint8, (64, 4096))
a[:] = 7
r.evict()
to, of = os.pipe()
try:
    os.write(of, a[3])
    assert os.read(to, 4096) == bytes([7]) * 4096
    print("served")
except OSError as e:
    print(errno.errorcode[e.errno])
"""
    )
    for lack, said in (("kernel", "EFAULT"), ("device", "served")):
        if not unprivileged():
            pytest.skip("only the device is to be had")
        env = os.environ | {"LD_PRELOAD": str(library), "EDM_OLD_KERNEL": lack}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=env,
            timeout=30,
            cwd=ROOT,
        )
        assert done.stdout == said + "\n", done
