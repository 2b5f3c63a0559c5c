"""The near handler of monitor mode (c/near.c): who serves, and what the program sees of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edm_real import Region
from tests.child import passes

pytestmark = pytest.mark.uffd
PAGES = 4096
CORES = os.sched_getaffinity(0)
ALLOWED = ["grep", "Cpus_allowed_list", "/proc/self/status"]
several_cores = pytest.mark.skipif(len(CORES) < 2, reason="a single core: nobody is moved")


def threads(name: str) -> list[int]:
    """Numbers of this process's threads of that name."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            found.append(int(task.name))
    return found


def ran_ns(name: str) -> int:
    """Processor time of this process's threads of that name."""
    of = (Path(f"/proc/self/task/{tid}/schedstat").read_text() for tid in threads(name))
    return sum(int(text.split()[0]) for text in of)


def touches(words: Any, n: int, first: int = 0) -> None:
    """n pages in a row, a fault each (or nearly so), as seen by Python."""
    for i in range(first, first + n):
        words[i % PAGES, 0] += 1


@several_cores
def test_it_serves_a_thread_that_faults_alone() -> None:
    with Region(PAGES, local="25%", faults="monitor") as r:
        page = np.arange(40_000, dtype=np.uint32) % PAGES
        assert r.replay(page, write=np.ones(len(page), np.uint8), fill=True)["verified"]
        near, plain = ran_ns("edm-near"), ran_ns("edm-handler")
    assert near > plain / 2


@several_cores
@pytest.mark.parametrize("beside", [0, 1])
def test_threads_and_children_may_run_anywhere(beside: int) -> None:
    """Whatever the handlers do with the faulting thread's core, what it starts does not inherit."""
    seen: list[set[int]] = []
    children = {subprocess.run(ALLOWED, capture_output=True, check=True).stdout}
    stop = False

    def fault_too(words: Any) -> None:
        while not stop:
            touches(words, 16)

    with Region(PAGES, local="25%", faults="monitor") as r:
        words = r.array(np.int64, (PAGES, 512))
        others = [threading.Thread(target=fault_too, args=(words,)) for _ in range(beside)]
        for other in others:
            other.start()
        for i in range(150):
            touches(words, 40, first=40 * i)
            seen.append(os.sched_getaffinity(0))
            touches(words, 40, first=40 * i + 2000)
            new = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
            new.start()
            new.join()
            if i % 10 == 0:
                touches(words, 40, first=40 * i + 1000)
                children.add(subprocess.run(ALLOWED, capture_output=True, check=True).stdout)
        stop = True
        for other in others:
            other.join()
        del words
    assert [s for s in seen if s != CORES] == []
    assert len(children) == 1


@several_cores
def test_it_gives_way_to_a_second_thread_and_to_silence() -> None:
    with Region(PAGES, local="25%", faults="monitor") as r:
        words = r.array(np.int64, (PAGES, 512))
        touches(words, 2000)
        other = threading.Thread(target=touches, args=(words, 2000, 1000))
        other.start()
        other.join(20)
        assert not other.is_alive()
        give_up = time.monotonic() + 5
        while any(os.sched_getaffinity(tid) != CORES for tid in threads("edm-lpet")):
            assert time.monotonic() < give_up, "LPET is kept off a core though nobody faults"
            time.sleep(0.01)
        del words, other


@several_cores
def test_a_core_that_others_want_does_not_hold_it_up() -> None:
    """Ordinary programs on every core: an idle thread would get a thousandth of one."""
    spin = "while True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(len(CORES))]
    try:
        for hog, core in zip(hogs, sorted(CORES), strict=True):
            os.sched_setaffinity(hog.pid, {core})
        with Region(PAGES, local="25%", faults="monitor") as r:
            page = np.arange(3 * PAGES, dtype=np.uint32) % PAGES
            got = r.replay(page, write=np.ones(len(page), np.uint8), fill=True)
            worst_ms = got["latency_us"]["max"] / 1000
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert got["verified"]
    assert worst_ms < 300


@several_cores
def test_pages_are_right_when_handlers_take_turns() -> None:
    """One thread faults, two, one again, so that each handler serves, some thousand times."""
    page = np.arange(12_000, dtype=np.uint32) * 7 % PAGES
    write = np.ones(len(page), np.uint8)
    with Region(PAGES, local="25%", faults="monitor", evict="lpet") as r:
        assert r.replay(page, write=write, fill=True)["verified"]
        for seed in range(6):
            got = r.replay(page, write=write, threads=1 + seed % 2, seed=seed)
            assert got["faults"] > 0
        assert r.stats()["lost_pages"] == 0


@several_cores
def test_one_that_is_held_up_becomes_an_ordinary_thread() -> None:
    """What it holds, others may wait for: it must not wait for an idle core then."""
    passes(
        """
    from tests.stage import *
    class Who(Stage):
        def _at(self, ctx, point, page):
            if (point, page) in self.stops:
                self.who = threading.get_native_id()
            super()._at(ctx, point, page)
    def number(name):
        tasks = map(int, os.listdir("/proc/self/task"))
        return next(t for t in tasks if open(f"/proc/self/task/{t}/comm").read().strip() == name)
    def write_all(pages):
        for page in pages:
            stage.write(page, 7)
    with Region(4096, local=4096, faults="monitor", deadline_s=5) as r:
        stage, near = Who(r), number("edm-near")
        for last in range(200, 4000, 200):
            held = stage.hold(INSTALL, last)
            writing = Doing(write_all, range(last - 199, last + 1))
            held.reached()
            if stage.who == near:
                break
            held.go()
            writing.answer()
        assert stage.who == near
        give_up = time.monotonic() + 5
        while os.sched_getscheduler(near) != os.SCHED_OTHER:
            assert time.monotonic() < give_up, "it is idle still"
            time.sleep(0.001)
        stage.write(4001, 8)  # the plain handler serves meanwhile
        assert writing.still()
        held.go()
        writing.answer()
        assert stage.holds(last, 7) and stage.holds(4001, 8)
        stage.end()
    """
    )
