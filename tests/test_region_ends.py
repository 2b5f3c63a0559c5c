"""What a region leaves behind: no memory, mappings, descriptors; and signals as they were."""

from __future__ import annotations

import pytest

from tests.child import passes, run

pytestmark = pytest.mark.uffd
BOTH = pytest.mark.parametrize("faults", ["upcall", "monitor"])


@BOTH
def test_a_thousand_regions_a_hundred_at_once_leave_nothing(faults: str) -> None:
    passes(
        """
        import gc
        def held():
            gc.collect()
            with open("/proc/self/statm") as f:
                kib = int(f.read().split()[1]) * 4
            with open("/proc/self/maps") as f:
                maps = sum(1 for _ in f)
            threads = len(os.listdir("/proc/self/task"))
            return len(os.listdir("/proc/self/fd")), threads, maps, kib
        def hundred():
            stores = ("mem:", "file:")
            regions = [
                Region(64, local=8, store=stores[k % 2], faults=sys.argv[1]) for k in range(100)
            ]
            for k, r in enumerate(regions):
                a = r.array(np.uint8, (64, 4096))
                a[:] = k
                del a
            for k, r in enumerate(regions):
                if k % 3 == 0:
                    r.prefault(slice(0, 4))
                if k % 5:
                    r.close()
            del r, regions  # a fifth of them are never closed
        hundred()
        before = held()
        for _ in range(10):
            hundred()
        after = held()
        assert after[:2] == before[:2], (before, after)
        assert after[2] <= before[2] + 10 and after[3] <= before[3] + 4096, (before, after)
        """,
        faults,
        timeout=120,
    )


CIRCLE = """
    import ctypes, faulthandler, mmap, tempfile
    source = '''
        #define _GNU_SOURCE
        #include <signal.h>
        #include <unistd.h>
        static struct sigaction before;
        static void on_top(int n, siginfo_t *i, void *c) {
            (void)!write(1, "top ", 4);
            before.sa_sigaction(n, i, c);
        }
        void put_on_top(void) {
            struct sigaction a = {.sa_sigaction = on_top, .sa_flags = SA_SIGINFO};
            sigaction(SIGBUS, &a, &before);
        }
    '''
    import subprocess
    with tempfile.TemporaryDirectory() as d:
        build = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", f"{d}/top.so"]
        subprocess.run(build, input=source, text=True, check=True)
        top = ctypes.CDLL(f"{d}/top.so")
    def foreign_fault():
        f = tempfile.TemporaryFile()
        f.truncate(8192)
        m = mmap.mmap(f.fileno(), 8192)
        f.truncate(0)
        m[5000]
"""


def test_a_handler_over_ours_still_lets_faults_through() -> None:
    passes(
        CIRCLE
        + """
    with Region("1MiB", local="64KiB") as r:
        top.put_on_top()
        a = r.array(np.uint8, 2**20)
        a[:] = 3
        assert (a == 3).all()
        del a
    with Region("1MiB", local="64KiB") as r:
        a = r.array(np.uint8, 2**20)
        a[:] = 3
        assert (a == 3).all()
        del a
    """
    )


def test_handlers_that_pass_on_to_each_other_end() -> None:
    done = run(
        CIRCLE
        + """
    r = Region("1MiB", local="64KiB")
    top.put_on_top()
    r.close()
    s = Region("1MiB", local="64KiB")  # ours over theirs over ours
    foreign_fault()
    """
    )
    assert done.returncode == -7 and 0 < done.stdout.count("top ") <= 3, done


def test_faulthandler_has_its_signal_back_after_the_last_close() -> None:
    done = run(
        CIRCLE
        + """
    faulthandler.enable()
    with Region("1MiB", local="64KiB") as r:
        a = r.array(np.uint8, 10)
        a[:] = 1
        del a
    foreign_fault()
    """
    )
    assert done.returncode == -7 and "Fatal Python error: Bus error" in done.stderr


@BOTH
def test_a_python_signal_handler_may_touch_paged_memory(faults: str) -> None:
    passes(
        """
        with Region("4MiB", local="256KiB", faults=sys.argv[1]) as r:
            a = r.array(np.uint64, 2**19)
            a[:] = 1
            touched = []
            def on_alarm(*_):
                touched.append(int(a[(len(touched) * 4999) % a.size]))
            signal.signal(signal.SIGALRM, on_alarm)
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            for turn in range(20):
                assert a.sum() == 2**19
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert touched and set(touched) == {1}
            del a, on_alarm
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        """,
        faults,
    )


@BOTH
def test_a_child_by_fork_neither_reads_zeros_nor_harms_its_parent(faults: str) -> None:
    passes(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with Region("1MiB", local="64KiB", faults=sys.argv[1]) as r:
            a = r.array(np.uint8, (256, 4096))
            a[:] = 7
            for page in (0, 255):  # one that is out, one that is in
                child = os.fork()
                if child == 0:
                    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
                    os._exit(100 + int(a[page, 0]))
                status = os.waitpid(child, 0)[1]
                assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV, status
            assert (a == 7).all() and r.check()
            del a
        """,
        faults,
    )
