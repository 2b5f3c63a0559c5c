"""Paged memory end to end: what a program sees, in both fault modes, on both embedded stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.child import passes, run

pytestmark = pytest.mark.uffd
BOTH = pytest.mark.parametrize("faults", ["upcall", "monitor"])


@pytest.fixture(params=["mem", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "mem:" if request.param == "mem" else f"file:{tmp_path}/pages"


@BOTH
@pytest.mark.parametrize("evict", ["lpet", "fifo"])
def test_sorted_in_place(faults: str, evict: str, store: str) -> None:
    passes(
        """
        faults, store, evict = sys.argv[1:]
        with Region("8MiB", local="2MiB", store=store, faults=faults, evict=evict) as r:
            want = np.random.default_rng(1).random(2**20)
            a = r.array(np.float64, want.size)
            a[:] = want
            a.sort()
            want.sort()
            assert (a == want).all()
            assert r.check()
            s = r.stats()
            assert s["resident"] <= s["limit"] == 512 and s["fetches"] > 1000, s
            del a
        """,
        faults,
        store,
        evict,
    )


@BOTH
def test_threads_write_and_check_their_own_pages(faults: str, store: str) -> None:
    passes(
        """
        bad = []
        with Region("8MiB", local="1MiB", store=sys.argv[2], faults=sys.argv[1]) as r:
            a = r.array(np.uint64, (4, 2**18))
            def work(k):
                mine = a[k]
                for turn in range(3):
                    want = np.arange(mine.size, dtype=np.uint64) * (k + 1) + turn
                    mine[:] = want
                    bad.append(int((mine != want).sum()))
            threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            assert r.check()
            del a, work, threads
        assert bad == [0] * 12, bad
        """,
        faults,
        store,
    )


@BOTH
@pytest.mark.parametrize("dirty", ["exact", "always"])
@pytest.mark.parametrize("evict", ["lpet", "fifo", "lru", "random"])
def test_replay_finds_every_byte_where_it_was_written(faults: str, evict: str, dirty: str) -> None:
    passes(
        """
        rng = np.random.default_rng(2)
        page = rng.integers(0, 2048, 40000, dtype=np.uint32)
        write = (rng.random(40000) < 0.3).astype(np.uint8)
        faults, evict, dirty = sys.argv[1:]
        with Region(2048, local="25%", faults=faults, evict=evict, dirty=dirty) as r:
            for threads, fill in ((1, True), (3, False)):
                result = r.replay(page, write, threads=threads, fill=fill)
                assert result["verified"] and result["extra"]["verified_pages"] == 2048, result
                assert result["refs"] == 40000 and result["fetches"] > 20000 * fill, result
                assert r.check()
                r.discard()
        """,
        faults,
        evict,
        dirty,
    )


SEED = """
    from edm_policy.pager import STATES
    from edm_real._core import lib
    pages, low = {"five": (25, 15), "ten": (21, 10)}[sys.argv[2]]
    limits = {"local": 20, "high": 20, "low": low, "reclaim": "faulter"}
    with Region(pages, evict="lpet", faults=sys.argv[1], **limits) as r:
        a = r.array(np.uint64, (pages, 512))
        def state(k):
            return STATES[lib.edm_page_state(lib.edm_region_pager(r._raw), k)]
        def out(pages):
            return [state(k) for k in pages] == ["REMOTE"] * len(pages)
        if sys.argv[2] == "five":
            area = [range(5 * k, 5 * k + 5) for k in range(5)]
            for k in range(20):
                a[k] = 1000 + k
            assert r.stats()["resident"] == 20 and r.stats()["evictions"] == 0
            for k in area[4]:
                a[k] = 1000 + k
            assert out(area[0]) and r.stats()["evictions"] == 5 and r.stats()["resident"] == 20
            for k in [*area[1], *area[2]]:
                assert a[k, 7] == 1000 + k
            assert (a[0] == 1000).all()
            rest = [*area[1], *area[2], *area[4]]
            assert out(area[3]) and not any(state(k) == "REMOTE" for k in rest)
        else:
            for k in range(21):
                a[k] = 1000 + k
            assert out(range(10)), [state(k) for k in range(21)]
        for k in range(pages):
            assert (a[k] == 1000 + k).all()
        assert r.check()
        del a
"""


@BOTH
@pytest.mark.parametrize("scenario", ["five", "ten"])
def test_the_seed_scenarios(faults: str, scenario: str) -> None:
    passes(SEED, faults, scenario)


LOCKSTEP = """
    from edm_policy.log import RECORD, replay
    rng = np.random.default_rng(5)
    page = (rng.random(30000) ** 3 * 1000).astype(np.uint32)
    write = (rng.random(30000) < 0.3).astype(np.uint8)
    names = dict(zip(("evict", "faults", "observe", "prefetch"), sys.argv[1:5]))
    with Region(1000, local=200, lockstep=True, **names) as r:
        import tempfile
        with tempfile.TemporaryFile() as f:
            r.log_to(f)
            result = r.replay(page, write)
            assert result["verified"], result
            f.seek(0)
            log = np.frombuffer(f.read(), RECORD)
        assert len(log) > 30000
        at, got = replay(r.config, log)
        assert at == len(log), (at, log[at], got)
        assert r.check()
"""


@BOTH
@pytest.mark.parametrize("observe", ["idle", "exact"])
@pytest.mark.parametrize("evict", ["lpet", "lru"])
def test_a_lockstep_log_replays_to_itself(faults: str, observe: str, evict: str) -> None:
    passes(LOCKSTEP, evict, faults, observe, "none")


def test_a_lockstep_log_with_prefetching_replays_to_itself() -> None:
    passes(LOCKSTEP, "lpet", "upcall", "idle", "nextn")


@BOTH
def test_prefetched_pages_hold_what_was_written(faults: str) -> None:
    passes(
        """
        page = np.resize(np.arange(2048, dtype=np.uint32), 10000)
        with Region(2048, local="25%", faults=sys.argv[1], prefetch="nextn") as r:
            result = r.replay(page, np.ones(10000, np.uint8), fill=True, threads=2)
            assert result["verified"] and result["prefetches"] > 1000, result
            assert r.check()
        """,
        faults,
    )


def test_larger_pages() -> None:
    passes(
        """
        for size in (16384, 2**21):
            with Region("64MiB", local="25%", page_size=size) as r:
                assert r.pages == 2**26 // size
                a = r.array(np.uint32, 2**24)
                a[:] = np.arange(2**24)
                assert (a == np.arange(2**24)).all() and r.check()
                del a
        """
    )


def test_all_but_a_little_of_the_budget_is_used() -> None:
    passes(
        """
        page = np.random.default_rng(1).integers(0, 16384, 100_000, dtype=np.uint32)
        with Region(16384, local="25%", evict="fifo") as r:
            result = r.replay(page, fill=True)
            hits = 1 - result["faults"] / result["refs"]
            assert abs(hits - r.config.high / 16384) < 0.005, (hits, r.config)
        """
    )


def test_closing_under_a_live_view_is_refused() -> None:
    passes(
        """
        r = Region("1MiB", local="256KiB")
        a = r.array(np.uint8, 100)
        for view in (a, a[3:5], r.memoryview()):
            try:
                r.close()
            except BufferError:
                pass
            else:
                raise SystemExit("closed under a view")
            a[0] = 1
        del a, view
        r.close()
        r.close()
        """
    )


def test_arrays_outlive_a_region_nobody_closed() -> None:
    passes(
        """
        a = Region("1MiB", local="64KiB").array(np.uint64, 2**16)
        a[:] = np.arange(a.size)
        assert (a == np.arange(a.size)).all()
        """
    )


def test_a_forked_child_cannot_read_zeros_and_ends_well() -> None:
    passes(
        """
        r = Region("1MiB", local="64KiB")
        a = r.array(np.uint64, 2**16)
        a[:] = 7
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os._exit(int(a[0]))
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (a == 7).all()
        del a
        r.close()
        """
    )


def test_foreign_addresses_reach_the_earlier_handler() -> None:
    done = run(
        """
        import faulthandler, mmap, tempfile
        faulthandler.enable()
        r = Region("1MiB", local="64KiB")
        r.array(np.uint8, 10)[:] = 1
        f = tempfile.TemporaryFile()
        f.truncate(8192)
        m = mmap.mmap(f.fileno(), 8192)
        f.truncate(0)
        m[5000]
        """
    )
    assert done.returncode == -7
    assert "Fatal Python error: Bus error" in done.stderr


def test_the_handler_is_restored_by_the_last_region() -> None:
    passes(
        """
        import ctypes
        libc = ctypes.CDLL(None)
        def handler():
            old = ctypes.create_string_buffer(512)
            libc.sigaction(signal.SIGBUS, None, old)
            return old.raw[:8]
        before = handler()
        r, s = Region("1MiB"), Region("1MiB")
        during = handler()
        r.close()
        assert handler() == during != before
        s.close()
        assert handler() == before
        """
    )


def test_a_system_call_needs_prefault_under_upcall() -> None:
    passes(
        """
        with Region("4MiB", local="1MiB") as r:
            a = r.array(np.uint8, 65536)
            with open("/dev/zero", "rb", buffering=0) as f:
                try:
                    f.readinto(a)
                except OSError as e:
                    assert e.errno == errno.EFAULT
                else:
                    raise SystemExit("no EFAULT")
                r.prefault(a, write=True)
                assert f.readinto(a) == 65536
            try:
                r.prefault()
            except UsageError as e:
                assert "limit" in str(e)
            else:
                raise SystemExit("prefault beyond the limit")
            del a
        with Region("4MiB", local="1MiB", faults="monitor") as r:
            a = r.array(np.uint8, 65536)
            with open("/dev/zero", "rb", buffering=0) as f:
                assert f.readinto(a) == 65536
            del a
        """
    )


def test_flush_evict_discard_resize() -> None:
    passes(
        """
        with Region("4MiB", local="1MiB") as r:
            a = r.array(np.uint64, 2**19)
            a[:] = 5
            r.flush()
            assert r.stats()["store_stats"]["pages"] == 1024
            before = r.stats()["writebacks"]
            r.flush()
            assert r.stats()["writebacks"] == before
            r.evict()
            assert r.stats()["resident"] == 0 and r.check()
            assert (a[:512] == 5).all()
            r.discard(slice(0, 10))
            assert (a[: 10 * 512] == 0).all() and (a[10 * 512 :] == 5).all()
            r.resize("128KiB")
            for k in range(100):
                a[k * 512 : k * 512 + 600] += 1
            assert r.stats()["resident"] <= 32 and r.check(), r.stats()
            del a
        """
    )


@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_where_all_pages_have_room_none_leaves(faults: str) -> None:
    passes(
        """
        import time
        with Region(256, local="100%", faults=sys.argv[1], prefetch="nextn") as r:
            a = r.array(np.uint64, (256, 512))
            a[:, 3] = np.arange(256)
            assert a[:, 3].sum() == 255 * 128
            s = r.stats()
            assert (s["resident"], s["wakes"], s["evictions"]) == (256, 0, 0), s
            r.resize(local=128)
            give_up = time.monotonic() + 10
            while r.stats()["resident"] > 128 and time.monotonic() < give_up:
                time.sleep(0.01)
            assert r.stats()["resident"] <= 128, r.stats()
            assert (a[:, 3] == np.arange(256)).all() and r.check()
            del a
        """,
        faults,
    )


def test_a_second_read_only_pass_writes_nothing_back() -> None:
    passes(
        """
        with Region("4MiB", local="1MiB") as r:
            a = r.array(np.uint64, 2**19)
            a[:] = 5
            r.flush()
            before = r.stats()["writebacks"]
            assert a.sum() == 5 * 2**19 and a.sum() == 5 * 2**19
            assert r.stats()["writebacks"] == before
            del a
        """
    )


def test_many_regions_leak_nothing() -> None:
    passes(
        """
        def held():
            return len(os.listdir("/proc/self/fd")), sum(1 for _ in open("/proc/self/maps"))
        def some(n):
            regions = [Region("1MiB", local="64KiB") for _ in range(n)]
            for k, r in enumerate(regions):
                a = r.array(np.uint8, 2**20)
                a[::4096] = k
            for k, r in enumerate(regions):
                assert (r.array(np.uint8, 0).size == 0)
            del a
            for r in regions:
                r.close()
        some(3)
        before = held()
        for _ in range(10):
            some(20)
        after = held()
        assert after[0] == before[0] and after[1] <= before[1] + 20, (before, after)
        """
    )


def test_ctrl_c_ends_a_replay_within_a_second() -> None:
    passes(
        """
        import time
        page = np.random.default_rng(1).integers(0, 4096, 20_000_000, dtype=np.uint32)
        with Region(4096, local="10%") as r:
            threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            start = time.monotonic()
            try:
                r.replay(page)
            except KeyboardInterrupt:
                assert time.monotonic() - start < 1.5
            else:
                raise SystemExit("not interrupted")
        """
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"evict": "nosuch"}, "unknown evictor 'nosuch'"),
        ({"store": "nosuch:"}, "unknown store 'nosuch'; there are: mem:"),
        ({"low": 300, "high": 200}, "must be low < high <= limit"),
        ({"evict": "lru", "observe": "faults"}, "needs observation idle"),
        ({"store": "mem:x"}, "mem: takes no path"),
        ({"page_size": 5000}, "page_size 5000"),
        ({"faults": "upcal"}, "did you mean upcall"),
    ],
)
def test_a_wrong_request_is_one_clear_line(options: dict[str, object], says: str) -> None:
    from edm_policy import EdmError
    from edm_real import Region

    with pytest.raises(EdmError) as caught:
        Region("4MiB", **options)  # type: ignore[arg-type]
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_replay_fills_pages_with_the_rows_it_is_given() -> None:
    """In turn, and verified: what is not written again must be there in the end."""
    passes(
        """
        content = np.random.default_rng(1).integers(0, 256, (48, 4096), dtype=np.uint8)
        pages = np.random.default_rng(2).integers(0, 256, 5000).astype(np.uint32)
        with Region(256, local=64) as r:
            done = r.replay(pages, (pages % 5 == 0).astype(np.uint8), fill=content)
            assert done["verified"] and done["extra"]["verified_pages"] == 256
            a = r.array(np.uint8, (256, 4096))
            assert all((a[k] == content[k % 48]).all() for k in range(256) if k % 5)
            del a
            for bad in (content[:, :100], content[:0], content[0]):
                try:
                    r.replay(pages, fill=bad)
                except UsageError as error:
                    assert "shape (n, 4096)" in str(error)
                else:
                    raise AssertionError(bad.shape)
        """
    )
