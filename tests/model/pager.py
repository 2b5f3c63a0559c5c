"""What pager.h promises, in plain Python: events in, commands out. No claim to speed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edm_policy import PolicyConfig
from model.evictors import BUSY, EVICTORS, UNUSED, USED

WRITE, DIRTY, LEAVING, KEEP, IDLE, COPY, DIRECT = 1, 2, 4, 8, 16, 32, 64
LSPT = ("FETCHING", "RESIDENT", "IDLE", "LEAVING")
MOST = 512  # commands in one answer
WRITES = 4  # misses in a row, of writes, for which what is read ahead is writable
LOOKS = 4  # the same for reclaim, for each eviction asked for


@dataclass
class Page:
    state: str = "NEW"
    dirty: bool = False
    copy: bool = False
    held: bool = False
    pending: bool = False  # NEW, REMOTE: announced; FETCHING, LEAVING: its place is kept;
    # RESIDENT: a copy of it is on its way to the store
    prefetched: bool = False


class Model:
    """The pager. `ahead`: a prefetcher that wishes for that many pages after a fault, the next one
    as a marker."""

    def __init__(self, config: PolicyConfig, ahead: int = 0):
        self.config = config
        self.low, self.high, self.limit = config.low or 0, config.high or 0, config.limit
        self.observe = config.observe
        self.always = config.dirty == "always"
        self.ahead = ahead
        self.pages = [Page() for _ in range(config.pages)]
        self.ref: set[int] = set()
        self.commands: list[tuple[str, int, int]] = []
        self.stats: Counter[str] = Counter()
        self.session = 0
        self.in_session = self.awake = False
        self.passed = 0
        self.room = self.wished = self.writes = 0
        self.evictor = EVICTORS[config.evict](self, config.seed)

    # ---- looking ----

    @property
    def resident(self) -> int:
        return sum(page.state in LSPT for page in self.pages)

    @property
    def listed(self) -> int:
        """Pages in the evictor's hands."""
        return sum(
            page.state in ("RESIDENT", "IDLE") or (page.state in LSPT and page.pending)
            for page in self.pages
        )

    @property
    def leaving(self) -> int:
        return sum(page.state == "LEAVING" for page in self.pages)

    @property
    def high_now(self) -> int:
        """Where LPET wakes: lower than high when prefetching wants the room."""
        if self.high >= len(self.pages):
            return self.high
        return min(self.high, self.limit - min(self.room, self.limit // 4))

    @property
    def low_now(self) -> int:
        return max(0, self.high_now - (self.high - self.low))

    def takeable(self, n: int) -> bool:
        page = self.pages[n]
        return page.state in ("RESIDENT", "IDLE") and not page.held and not page.pending

    def cleaning(self, n: int) -> bool:
        return self.pages[n].state == "RESIDENT" and self.pages[n].pending

    def state(self, n: int) -> str:
        return self.pages[n].state

    def used(self, n: int) -> int:
        """Was it used since it was last looked at? Asking is the next look."""
        if self.observe == "exact":
            was = n in self.ref
            self.ref.discard(n)
            return USED if was else UNUSED
        if self.observe == "faults":
            return UNUSED
        if not self.takeable(n):
            self.passed += 1
            return BUSY if self.commands or self.passed > self.resident else USED
        page = self.pages[n]
        if page.state == "IDLE":
            return UNUSED
        if len(self.commands) >= self.answer_most - 1:
            return BUSY
        self.prefetch_lost(n)
        page.state, page.held = "IDLE", True
        self.stats["marks"] += 1
        self.say("MARK_IDLE", n)
        return USED

    # ---- answering ----

    def say(self, op: str, n: int, flags: int = 0) -> None:
        self.commands.append((op, n, flags))

    def answer(self) -> list[tuple[str, int, int]]:
        said, self.commands = self.commands, []
        return said

    def wake(self, here: int, busy: int) -> None:
        """Not when the pages this answer takes in hand, `busy`, are more than LPET could leave."""
        full = here >= self.high_now and self.high < len(self.pages)
        if not self.awake and full and busy <= self.low_now:
            self.awake = True
            self.stats["wakes"] += 1
            self.say("WAKE_LPET", 0)

    def prefetch_seen(self, n: int) -> None:
        self.pages[n].prefetched = False
        self.stats["prefetch_hits"] += 1

    def prefetch_lost(self, n: int) -> None:
        """Its use cannot be learned of any more; a page that was mapped may have been used."""
        page = self.pages[n]
        if page.prefetched:
            page.prefetched = False
            unseen = page.state == "RESIDENT" and self.observe != "exact"
            self.stats["prefetch_unseen" if unseen else "prefetch_unused"] += 1

    def see_use(self, n: int) -> None:
        if self.pages[n].prefetched:
            self.prefetch_seen(n)
        self.evictor.touch(n)

    def read_ahead(self, n: int, write: bool) -> None:
        self.wished = 0
        self.writes = min(self.writes + 1, WRITES) if write else 0
        for m in range(n + 1, min(n + 1 + self.ahead, len(self.pages))):
            page = self.pages[m]
            if page.state != "REMOTE" or page.held or page.pending:
                continue
            self.wished += 1
            if self.resident < self.limit:
                marker = m == n + 1
                page.state, page.prefetched, page.held = "FETCHING", True, marker
                self.stats["prefetches"] += 1
                self.stats["prefetch_marks"] += marker
                page.dirty = self.writes == WRITES and not marker and not self.always
                write = self.always or page.dirty
                self.say("PREFETCH", m, (IDLE if marker else 0) | (WRITE if write else 0))
        fades = self.room - (self.room + 7) // 8
        self.room = self.wished if self.wished >= self.room else fades
        if self.wished:
            self.wake(self.resident - self.leaving, len(self.commands))

    # ---- events ----

    def fault(self, n: int, write: bool) -> list[tuple[str, int, int]]:
        page = self.pages[n]
        if page.state == "POISONED":
            self.say("POISON", n)
        elif page.state == "FETCHING" or page.held:
            self.stats["waits"] += 1
            self.say("WAIT", n)
            if page.state == "FETCHING" and page.prefetched:
                self.stats["prefetch_late"] += 1
                self.stats["prefetch_mark_hits"] += page.held
                self.prefetch_seen(n)
                self.read_ahead(n, write)
        elif page.state == "RESIDENT" and write and not page.dirty:
            page.dirty = page.held = True
            self.stats["faults"] += 1
            self.stats["write_faults"] += 1
            self.say("ALLOW_WRITE", n)
            hit = page.prefetched
            self.see_use(n)
            if hit:
                self.read_ahead(n, write)
        elif page.state == "RESIDENT":
            self.stats["retries"] += 1
            self.say("RETRY", n)
        elif page.state in ("NEW", "REMOTE"):
            self.miss(n, write)
        else:
            self.rescue(n, write)
        return self.answer()

    def miss(self, n: int, write: bool) -> None:
        page = self.pages[n]
        here = self.resident - self.leaving
        if self.resident >= self.limit:
            self.stats["stalls"] += not page.pending
            self.say("RECLAIM", n, DIRECT if page.pending else 0)
            page.pending = True
            self.wake(here, 0)
            return
        write = write or self.always
        page.pending = False
        page.state = "FETCHING"
        page.dirty = write
        self.stats["faults"] += 1
        self.stats["fetches" if page.copy else "zero_fills"] += 1
        self.say("FETCH" if page.copy else "ZERO_FILL", n, WRITE if write else 0)
        self.read_ahead(n, write)
        self.wake(here, len(self.commands))

    def rescue(self, n: int, write: bool) -> None:
        page = self.pages[n]
        leaving = page.state == "LEAVING"
        has_place = not leaving or page.pending
        page.state, page.pending = "FETCHING", True
        page.dirty = page.dirty or write or self.always
        page.held = leaving
        self.stats["faults"] += 1
        self.stats["rescues"] += 1
        self.say("RESCUE", n, (LEAVING if leaving else 0) | (WRITE if page.dirty else 0))
        if page.prefetched:
            self.stats["prefetch_mark_hits"] += 1
            self.prefetch_seen(n)
            self.read_ahead(n, write)
        (self.evictor.touch if has_place else self.evictor.keep)(n)

    def installed(self, n: int) -> None:
        page = self.pages[n]
        marker = page.held and not page.pending
        page.state = "IDLE" if marker else "RESIDENT"
        page.held = page.held and not marker
        page.dirty = page.dirty or self.always
        if not page.pending:
            self.evictor.insert(n)
        page.pending = False

    def fetch_failed(self, n: int) -> list[tuple[str, int, int]]:
        page = self.pages[n]
        if page.pending:
            self.evictor.remove(n)
        else:
            page.held = False
        self.prefetch_lost(n)
        page.state, page.pending, page.dirty = "POISONED", False, False
        self.stats["store_errors"] += 1
        self.stats["poisoned"] += 1
        self.say("POISON", n)
        return self.answer()

    def touched(self, n: int, write: bool) -> None:
        page = self.pages[n]
        write = write and page.state != "RESIDENT"  # an old one: it would have asked
        if page.state == "LEAVING" and not page.held:
            has_place, page.pending, page.held = page.pending, False, True
            page.state = "RESIDENT"
            self.stats["rescues"] += 1
            if has_place:
                self.see_use(n)
            else:
                self.evictor.keep(n)
        elif page.state == "RESIDENT" or (page.state == "IDLE" and not page.held):
            self.stats["prefetch_mark_hits"] += page.state == "IDLE" and page.prefetched
            page.state = "RESIDENT"
            self.see_use(n)
        else:
            return
        page.dirty = page.dirty or write or self.always

    def consume(self, n: int, write: bool) -> int:
        page = self.pages[n]
        if page.state != "RESIDENT" or (write and not page.dirty):
            return 0
        self.stats["refs"] += 1
        if self.observe == "exact":
            self.see_use(n)
        return 1

    def send_away(self, n: int, extra: int) -> None:
        page = self.pages[n]
        flags = extra | (DIRTY if page.dirty else 0) | (IDLE if page.state == "IDLE" else 0)
        mapped = page.state == "RESIDENT" and self.observe != "exact"
        if mapped or not extra & KEEP:
            self.prefetch_lost(n)
        page.state, page.held = "LEAVING", True
        page.pending = bool(extra & KEEP)
        self.say("EVICT", n, flags)

    def reclaim(self, most: int) -> tuple[str, list[tuple[str, int, int]]]:
        if not 0 < most <= self.config.batch:
            most = self.config.batch
        self.stats["reclaims"] += 1
        self.passed = 0
        if not self.in_session:
            self.in_session = True
            self.session += 1
        self.answer_most = min(MOST, LOOKS * most)
        evicted = skipped = 0
        while self.resident - self.leaving > self.low_now:
            if evicted == most or len(self.commands) >= self.answer_most:
                return "RUNNING", self.answer()
            victim = self.evictor.choose()
            if victim >= 0 and self.takeable(victim):
                self.send_away(victim, 0)
                evicted += 1
                continue
            if victim >= 0:
                self.evictor.keep(victim)
                skipped += 1
            if victim < 0 or skipped >= self.listed:
                return ("RUNNING" if self.commands else "FAIL"), self.answer()
        self.in_session = self.awake = False
        return "OK", self.answer()

    def done(self, n: int) -> None:
        self.pages[n].held = False

    def stored(self, n: int) -> int:
        page = self.pages[n]
        if self.cleaning(n):
            page.pending, page.copy = False, True
            self.stats["writebacks"] += 1
            return 0
        if page.state != "LEAVING":
            page.held = False
            page.copy = page.copy or page.dirty or page.state == "POISONED"
            return 0
        self.stats["writebacks" if page.dirty else "clean_drops"] += 1
        page.copy = page.copy or page.dirty
        page.dirty = False
        if page.pending:
            page.state, page.pending = "IDLE", False
            return 2
        self.stats["evictions"] += 1
        page.state = "REMOTE" if page.copy else "NEW"
        return 1

    def store_failed(self, n: int) -> int:
        page = self.pages[n]
        self.stats["store_errors"] += 1
        if self.cleaning(n):
            page.pending = False
            if page.dirty:
                return 0
            page.dirty = page.held = True
            return 1
        if page.state != "LEAVING":
            page.held = False
            return 0
        page.state = "IDLE"
        if not page.pending:
            self.evictor.keep(n)
        page.pending = False
        return 2

    def discard(self, n: int) -> list[tuple[str, int, int]]:
        page = self.pages[n]
        if page.held or page.state in ("FETCHING", "LEAVING") or self.cleaning(n):
            self.say("WAIT", n)
        elif page.state != "NEW":
            if page.state in ("RESIDENT", "IDLE"):
                self.evictor.remove(n)
            self.prefetch_lost(n)
            flags = (IDLE if page.state == "IDLE" else 0) | (COPY if page.copy else 0)
            self.pages[n] = Page(held=True)
            self.stats["discards"] += 1
            self.say("DISCARD", n, flags)
        return self.answer()

    def recall(self, n: int) -> list[tuple[str, int, int]]:
        if self.takeable(n):
            self.evictor.remove(n)
            self.send_away(n, 0)
        elif self.pages[n].state in LSPT:
            self.say("WAIT", n)
        return self.answer()

    def flush(self, n: int) -> list[tuple[str, int, int]]:
        page = self.pages[n]
        if page.dirty or self.cleaning(n):
            if self.takeable(n) and page.state == "RESIDENT" and not self.always:
                page.dirty, page.held, page.pending = False, True, True
                self.say("CLEAN", n, DIRTY)
            elif self.takeable(n):
                self.send_away(n, KEEP)
            else:
                self.say("WAIT", n)
        return self.answer()

    def adopt(self, n: int) -> bool:
        page = self.pages[n]
        if page.state != "NEW" or page.held:
            return False
        page.state, page.copy = "REMOTE", True
        return True

    def resize(self, low: int, high: int, limit: int) -> None:
        self.low, self.high, self.limit = low, high, limit
