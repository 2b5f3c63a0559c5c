"""A driver that does what commands say, in any order, and knows every page's true content.

It drives the real pager and the model side by side and holds them to the same answers. The
contents are a second opinion that knows nothing of states: whatever the pager decides, no
write may be lost, and the program may never see anything but what it wrote last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from edm_policy._core import ffi, lib

from edm_policy import LogBuffer, Pager, PolicyConfig, replay
from model.pager import COPY, DIRTY, IDLE, WRITE, Model

TORN = -1  # what a failed write may leave in the store


def next_prefetcher(ahead: int) -> tuple[Any, list[Any]]:
    """An edm_prefetcher that wishes for the `ahead` pages after a fault; and what to keep alive."""

    def fault(p: Any, page: int, write: int) -> None:
        lib.edm_prefetch_marked(p, page + 1)
        for k in range(2, ahead + 1):
            lib.edm_prefetch(p, page + k)

    keep = [
        ffi.new("char[]", b"next"),
        ffi.callback("size_t(edm_config *)", lambda c: 0),
        ffi.callback("int(edm_pager *, void *, void *)", lambda p, mem, ctx: 0),
        ffi.callback("void(edm_pager *, uint32_t, int)", fault),
        ffi.callback("void(edm_pager *, uint32_t)", lambda p, page: None),
    ]
    hooks = ffi.new("edm_prefetcher *")
    hooks.name = keep[0]
    hooks.size, hooks.init, hooks.fault, hooks.used, hooks.unused = *keep[1:], keep[4]
    return hooks, keep


class PrefetchingPager(Pager):
    """A Pager with the prefetcher above."""

    def __init__(self, config: PolicyConfig, log: LogBuffer, ahead: int):
        super().__init__(config)
        hooks, self._hooks = next_prefetcher(ahead)
        self._hooks.append(hooks)
        raw = lib.edm_pager_new_with(
            self.config.as_c(), ffi.NULL, ffi.NULL, hooks, ffi.NULL, ffi.NULL, 0
        )
        self.ptr = ffi.gc(raw, lib.edm_pager_free)
        log.attach(self.ptr)


class World:
    """One region's program, frames and store. Events are methods; each checks everything."""

    def __init__(self, config: PolicyConfig, ahead: int = 0):
        self.config = config = config.resolved()
        self.log = LogBuffer()
        self.ahead = ahead
        self.pager = PrefetchingPager(config, self.log, ahead) if ahead else Pager(config, self.log)
        self.model: Any = Model(config, ahead) if ahead or config.evict in MODELLED else None
        n = config.pages
        self.truth = [0] * n  # what the program wrote last
        self.store: dict[int, int] = {}
        self.visible = [False] * n  # mapped where the program looks
        self.writable = [False] * n
        self.installing: dict[int, int] = {}  # page: flags of its command
        self.carrying: dict[int, str] = {}  # held page: the command that edm_done() will end
        self.leaving: dict[int, tuple[bool, int]] = {}  # page: to be written?, what
        self.cleaning: dict[int, int] = {}  # page that stays mapped: the copy that is being stored
        self.writes = 0
        self.limit = config.limit
        self.ops: Counter[str] = Counter()  # commands taken on, and "stored 0|1|2", "failed"
        self.steps = 0

    # ---- driving both ----

    def both(self, event: str, *args: int) -> Any:
        real = getattr(self.pager, event)(*args)
        if self.model is not None:
            wanted = getattr(self.model, event)(*args)
            assert plain(real) == wanted, f"{event}{args}: {plain(real)}, the model says {wanted}"
        return real

    def carry_out(self, commands: list[Any]) -> None:
        """Takes commands on; what takes time is ended by a later step, in any order."""
        for op, page, flags in commands:
            self.ops[op] += 1
            if op in ("ZERO_FILL", "FETCH", "PREFETCH", "RESCUE"):
                assert page not in self.installing, f"{op} of {page} twice"
                if op != "RESCUE":
                    assert self.pager.resident <= self.limit, f"{op} of {page} over the limit"
                if op in ("FETCH", "PREFETCH"):
                    assert self.store.get(page) == self.truth[page], f"{op} {page}: wrong bytes"
                if op == "ZERO_FILL":
                    assert self.truth[page] == 0, f"zeros over what was written to {page}"
                self.installing[page] = flags
            elif op == "EVICT":
                assert page not in self.carrying and page not in self.leaving
                assert page not in self.cleaning
                assert bool(flags & IDLE) == (not self.visible[page])
                self.carrying[page] = op
                self.leaving[page] = (bool(flags & DIRTY), TORN)
            elif op == "CLEAN":
                assert page not in self.carrying and page not in self.cleaning
                assert flags == DIRTY and self.visible[page]
                self.carrying[page] = op
            elif op in ("MARK_IDLE", "ALLOW_WRITE", "DISCARD"):
                assert page not in self.carrying
                assert op == "ALLOW_WRITE" or page not in self.cleaning
                self.carrying[page] = op
                if op == "DISCARD":
                    assert flags & COPY or self.store.get(page, TORN) == TORN
            elif op == "POISON":
                self.visible[page] = False

    # ---- the program ----

    def access(self, page: int, write: bool) -> None:
        """One access: unseen if the page is mapped for it, else a fault."""
        seen = self.visible[page] and (not write or self.writable[page])
        hit = self.consume(page, write)
        if not hit and not seen:
            self.carry_out(self.both("fault", page, write))
        if seen and write:
            self.writes += 1
            self.truth[page] = self.writes
        self.check()

    def consume(self, page: int, write: bool) -> int:
        hit = self.pager.consume(np.array([page], np.uint32), np.array([write], np.uint8))
        if self.model is not None:
            assert hit == self.model.consume(page, write)
        return hit

    def fault(self, page: int, write: bool) -> None:
        """A fault that may be stale: the page may have come meanwhile."""
        self.carry_out(self.both("fault", page, write))
        self.check()

    def touched(self, page: int, write: bool) -> None:
        """The driver learned of an access; to an idle or leaving page, it brings that back."""
        state, held = self.pager.state(page), page in self.carrying
        if state in ("IDLE", "LEAVING") and held:
            self.both("touched", page, write)
            assert self.pager.state(page) == state
        elif state in ("RESIDENT", "IDLE", "LEAVING"):
            new = write and (state != "RESIDENT" or self.writable[page])  # or told of late
            self.both("touched", page, write)
            if state != "RESIDENT":
                self.visible[page] = True
                self.writable[page] = bool(self.pager.word(page) & lib.EDM_DIRTY)
            if new:
                self.writes += 1
                self.truth[page] = self.writes
        else:
            self.both("touched", page, write)
        self.check()

    def request(self, event: str, page: int) -> None:
        """discard, recall or flush."""
        self.carry_out(self.both(event, page))
        self.check()

    def adopt(self, page: int) -> None:
        if self.pager.state(page) == "NEW" and page not in self.carrying:
            self.writes += 1
            self.truth[page] = self.store[page] = self.writes
            self.pager.adopt(page)
            assert self.model is None or self.model.adopt(page)
        self.check()

    # ---- the driver ----

    def installed(self, page: int) -> None:
        flags = self.installing.pop(page)
        self.both("installed", page)
        self.visible[page] = not flags & IDLE
        self.writable[page] = self.visible[page] and bool(flags & WRITE)
        self.check()

    def fetch_failed(self, page: int) -> None:
        del self.installing[page]
        self.carry_out(self.both("fetch_failed", page))
        self.check()

    def reclaim(self, most: int = 0) -> str:
        status, commands = self.both("reclaim", most)
        assert commands or status != "RUNNING", "RUNNING with nothing to do"
        evicted = [c.page for c in commands if c.op == "EVICT"]
        assert len(evicted) == len(set(evicted)) <= (most or self.config.batch)
        self.carry_out(commands)
        self.check()
        return str(status)

    def done(self, page: int) -> None:
        op = self.carrying.pop(page)
        if op in ("ALLOW_WRITE", "LIFT"):
            self.writable[page] = True
        elif op == "CLEAN":
            self.writable[page] = False
            self.cleaning[page] = self.truth[page]
        else:
            self.visible[page] = self.writable[page] = False
        if op == "DISCARD":
            self.truth[page] = 0
            self.store.pop(page, None)
        if op == "EVICT":
            write_back, _ = self.leaving[page]
            self.leaving[page] = (write_back, self.truth[page])
        self.both("done", page)
        self.check()

    @property
    def storing(self) -> list[int]:
        """Pages whose bytes are on their way to the store."""
        return sorted((self.leaving.keys() - self.carrying.keys()) | self.cleaning.keys())

    def stored(self, page: int) -> None:
        if page in self.cleaning:
            self.store[page] = self.cleaning.pop(page)
            assert self.both("stored", page) == 0
            self.ops["cleaned"] += 1
            return self.check()
        write_back, content = self.leaving.pop(page)
        if write_back:
            self.store[page] = content
        rescued = self.pager.state(page) != "LEAVING"
        answer = self.both("stored", page)
        assert (answer == 0) == rescued
        self.ops[f"stored {answer}"] += 1
        self.check()

    def store_failed(self, page: int) -> None:
        self.ops["failed"] += 1
        if page in self.cleaning:
            del self.cleaning[page]
            self.store[page] = TORN
            if self.both("store_failed", page) == 1:
                self.carrying[page] = "LIFT"
            return self.check()
        write_back, _ = self.leaving.pop(page)
        if write_back:
            self.store[page] = TORN
        self.both("store_failed", page)
        self.check()

    def resize(self, low: int, high: int, limit: int) -> None:
        self.both("resize", low, high, limit)
        self.limit = limit
        self.check()

    # ---- what must hold after each step ----

    def check(self) -> None:
        self.steps += 1
        pager, model = self.pager, self.model
        assert pager.check()
        words = [pager.word(n) for n in range(self.config.pages)]
        for n, word in enumerate(words):
            self.check_content(n, word)
        if model is None:
            return
        assert pager.resident == model.resident
        assert pager.leaving == model.leaving
        for n, word in enumerate(words):
            assert word & 0xFF == model_word(model.pages[n]), f"page {n}: {model.pages[n]}"
        assert {k: v for k, v in pager.stats().items() if v} == +model.stats

    def check_content(self, n: int, word: int) -> None:
        state, dirty = self.pager.state(n), word & lib.EDM_DIRTY
        if state == "POISONED" or self.carrying.get(n) == "DISCARD":
            return  # it has no content any more
        if self.carrying.get(n) == "CLEAN":
            return  # it may be written until it is copied
        if not dirty:
            clean = self.store.get(n) if word & lib.EDM_COPY else 0
            clean = self.cleaning.get(n, clean)
            assert clean == self.truth[n], f"page {n} ({state}) counts as clean, and is not"
        if self.writable[n]:
            assert dirty, f"page {n} ({state}) can be written unseen, and counts as clean"
        if state == "RESIDENT" and n not in self.carrying:
            assert self.visible[n], f"page {n} is RESIDENT, and a touch of it would fault for ever"
            assert self.writable[n] or not dirty, f"a write to page {n} would fault for ever"

    def settle(self) -> None:
        """Ends everything under way; then LPET can always reach the low watermark."""
        for _ in range(4 * self.config.pages + 8):
            for page in list(self.installing):
                self.installed(page)
            for page in list(self.carrying):
                self.done(page)
            for page in self.storing:
                self.stored(page)
            if self.reclaim() == "OK":
                break
        else:
            raise AssertionError("LPET does not come to an end")

    def check_identities(self) -> None:
        """What the counters say about each other once everything has settled."""
        while self.installing or self.carrying or self.storing:
            self.settle()
        s, ops = self.pager.stats(), self.ops
        ended = ops["failed"] + ops["cleaned"] + sum(ops[f"stored {k}"] for k in range(3))
        assert ops["EVICT"] + ops["CLEAN"] == ended
        assert s["evictions"] == ops["stored 1"]
        kept = ops["stored 2"] + ops["cleaned"]
        assert s["writebacks"] + s["clean_drops"] == ops["stored 1"] + kept
        assert (s["zero_fills"], s["fetches"]) == (ops["ZERO_FILL"], ops["FETCH"])
        assert s["faults"] == sum(ops[k] for k in ("ZERO_FILL", "FETCH", "RESCUE", "ALLOW_WRITE"))
        assert s["marks"] == ops["MARK_IDLE"]
        assert (s["prefetches"], s["wakes"]) == (ops["PREFETCH"], ops["WAKE_LPET"])
        flagged = sum(bool(self.pager.word(n) & lib.EDM_PREFETCHED) for n in range(len(self.truth)))
        outcomes = s["prefetch_hits"] + s["prefetch_unused"] + s["prefetch_unseen"]
        assert outcomes + flagged == s["prefetches"]

    def check_log(self) -> None:
        """The log of this run, replayed, gives every command again."""
        if not self.ahead:
            records = self.log.records()
            at, got = replay(self.config, records)
            assert at == len(records), f"record {at}: {records[at]}, replayed {got}"


MODELLED = ("lpet", "fifo", "lru", "random")


def plain(answer: Any) -> Any:
    """An answer of the real pager as the model gives it."""
    if isinstance(answer, tuple):
        return (answer[0], [tuple(c) for c in answer[1]])
    if isinstance(answer, list):
        return [tuple(c) for c in answer]
    return answer


def model_word(page: Any) -> int:
    flags = (
        (page.dirty, lib.EDM_DIRTY),
        (page.copy, lib.EDM_COPY),
        (page.held, lib.EDM_HELD),
        (page.pending, lib.EDM_PENDING),
        (page.prefetched, lib.EDM_PREFETCHED),
    )
    state: int = getattr(lib, "EDM_" + page.state)
    return state | sum(bit for is_set, bit in flags if is_set)


def random_step(world: World, draw: Callable[[int], int]) -> None:
    """One step chosen by `draw`, which gives an integer below its argument."""
    page, write = draw(world.config.pages), draw(3) == 0
    ready = world.storing
    choices: list[Callable[[], Any]] = [
        *[lambda: world.access(page, write)] * 4,
        lambda: world.fault(page, write),
        *[lambda: world.reclaim(draw(4))] * 2,
        lambda: world.touched(page, write),
        lambda: world.request(("discard", "recall", "flush")[draw(3)], page),
    ]
    if draw(12) == 0:
        limit = 1 + draw(world.config.pages)
        high = 1 + draw(limit)
        choices = [
            lambda: world.resize(draw(high), high, limit),
            lambda: world.adopt(page),
            world.settle,
        ]
    for waiting, good, bad in (
        (sorted(world.installing), world.installed, world.fetch_failed),
        (sorted(world.carrying), world.done, None),
        (ready, world.stored, world.store_failed),
    ):
        if waiting:
            end = bad if bad and draw(8) == 0 else good
            choices += [lambda end=end, at=waiting: end(at[draw(len(at))])] * 3  # type: ignore[misc]
    choices[draw(len(choices))]()
