"""The stress run: every evictor, threads on random pages, and a control thread that does the rest.

    python -m tests.stress FAULTS SECONDS SEED       FAULTS: upcall or monitor

Eight C threads (Region.replay) read and write random pages of a region eight times its local
memory. Each write gives the page a new version and leaves the 511 before it in its other words;
each read looks at all of them, so a lost, stale or torn page is seen at once. Meanwhile a
control thread flushes, prefaults, evicts, resizes, and writes, checks and discards pages of
its own. After each turn region and pager must agree to the last page. Store, dirty tracking and
prefetcher follow from the seed; what runs is printed before it runs.
"""

from __future__ import annotations

import faulthandler
import itertools
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

from edm_policy import EdmError, evictors, prefetchers
from edm_real import Region

PAGES, OWN, LOCAL, THREADS = 2048, 256, 256, 8
REFS = 20_000
TURN_S = 60.0  # a turn that takes longer hangs: the process ends, with the stacks


def opens(store: str) -> bool:
    """False where the C library that it needs was not there when this was built."""
    try:
        Region(4, local=2, store=store).close()
    except EdmError:
        return False
    return True


def choices(seed: int) -> Iterator[dict[str, str]]:
    """Every evictor in turn, for ever; what else there is to choose at random."""
    rng = np.random.default_rng(seed)
    evict = {n: e.needs for n, e in evictors().items() if not e.needs_future}
    stores = [s for s in ("mem:", "file:", "zstd+mem:", "lz4+mem:") if opens(s)]
    fetch = [n for n in prefetchers() if n != "planned"]
    observe = ["auto", "auto", "exact"]
    for name in itertools.cycle(evict):
        yield {
            "evict": name,
            "observe": evict[name] if evict[name] == "exact" else str(rng.choice(observe)),
            "prefetch": str(rng.choice(fetch)),
            "store": str(rng.choice(stores)),
            "dirty": str(rng.choice(["exact", "always"])),
            "reclaim": str(rng.choice(["thread", "thread", "faulter"])),
        }


class Control(threading.Thread):
    """Does all that may be done beside running threads, at random, until told to stop."""

    def __init__(self, region: Region, seed: int):
        super().__init__()
        self.region, self.rng = region, np.random.default_rng(seed)
        self.own = region._array_at((PAGES - OWN) * 4096, OWN * 4096).reshape(OWN, 4096)
        self.held = np.zeros(OWN, np.uint8)  # what each of its own pages holds
        self.over, self.error = threading.Event(), ""
        self.own[:] = 0

    def run(self) -> None:
        try:
            while not self.over.is_set():
                getattr(self, str(self.rng.choice(self.ACTS)))()
        except Exception as e:
            self.error = f"{type(e).__name__}: {e}"

    ACTS = ("flush", "prefault", "evict", "resize", "write", "look", "discard")

    def some(self, of: int, most: int) -> slice:
        first = int(self.rng.integers(of))
        return slice(first, min(of, first + 1 + int(self.rng.integers(most))))

    def flush(self) -> None:
        self.region.flush(self.some(PAGES, 200))

    def prefault(self) -> None:
        self.region.prefault(self.some(PAGES, 60), write=bool(self.rng.integers(2)))

    def evict(self) -> None:
        self.region.evict(self.some(PAGES, 100))

    def resize(self) -> None:
        self.region.resize(int(self.rng.integers(LOCAL // 2, LOCAL + 1)))

    def write(self) -> None:
        where, value = self.some(OWN, 30), int(self.rng.integers(1, 256))
        self.own[where] = value
        self.held[where] = value

    def look(self) -> None:
        where = self.some(OWN, 30)
        if not (self.own[where] == self.held[where, None]).all():
            raise EdmError(f"pages {where} of the control thread are not what it wrote")

    def discard(self) -> None:
        where = self.some(OWN, 30)
        first = PAGES - OWN
        self.region.discard(slice(first + where.start, first + where.stop))
        self.held[where] = 0


def turn(options: dict[str, str], faults: str, seed: int) -> dict[str, int]:
    """One region, one replay. Raises EdmError for a byte that is not what was written."""
    rng = np.random.default_rng(seed)
    page = rng.integers(0, PAGES - OWN, REFS, dtype=np.uint32)
    write = (rng.random(REFS) < 0.5).astype(np.uint8)
    handlers = int(rng.integers(1, 5))
    with Region(PAGES, local=LOCAL, faults=faults, handlers=handlers, seed=seed, **options) as r:  # type: ignore[arg-type]
        control = Control(r, seed)
        control.start()
        try:
            result = r.replay(
                page, write, threads=THREADS, fill=True, chunk=64, pages=PAGES - OWN, whole=True
            )
        finally:
            control.over.set()
            control.join()
        if control.error:
            raise EdmError(f"control thread: {control.error}")
        control.look()
        stats = r.stats()
        if not result["verified"] or result["extra"]["lost"]:
            raise EdmError(f"not verified: {result['extra']}")
        if result["extra"]["verified_pages"] != PAGES - OWN:
            raise EdmError(f"pages were not looked at: {result['extra']}")
        if stats["resident"] > LOCAL:
            raise EdmError(f"{stats['resident']} pages are resident, the limit is {LOCAL}")
        if not r.check():
            raise EdmError("pager, mapping and stash do not agree")
        control.own = np.empty(0, np.uint8)  # or the region cannot be closed
    return {k: int(stats[k]) for k in ("faults", "rescues", "evictions", "discards", "prefetches")}


def main(faults: str, seconds: float, seed: int) -> int:
    """Turns until the time is over, and all evictors had one. 1: one failed."""
    end, total, turns = time.monotonic() + seconds, dict[str, int](), 0
    for turns, options in enumerate(choices(seed)):
        if time.monotonic() > end:
            break
        print(f"{turns}: {faults} {options}", flush=True)
        faulthandler.dump_traceback_later(TURN_S, exit=True)
        try:
            counts = turn(options, faults, seed + turns)
        except EdmError as error:
            print(f"FAILED: {error}")
            return 1
        total = {k: total.get(k, 0) + n for k, n in counts.items()}
    print(f"{turns} turns, {total}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
