"""Pages that others ask for, pages others may know, and leaving altogether."""

from __future__ import annotations

from collections.abc import Callable

import simpy
from edm_policy._core import lib

from edm_sim import recorder as record
from edm_sim.dms import StoreError
from edm_sim.network import Link
from edm_sim.reclaim import Reclaim, Steps
from edm_sim.references import Share
from edm_sim.spt import NOBODY

FLUSH_BATCH = 64


class Sharing(Reclaim):
    """The part of an Instance that deals with other instances, through the DMS."""

    on_core: Callable[[Share], Steps]
    off_core: Callable[[Share], None]

    def ask(self, share: Share, page: int) -> Steps:
        """A page that is new here: the DMS may know it."""
        number, page_there = self.number, self.base + page
        while lib.edm_page_state(self.ptr, page) == lib.EDM_NEW:
            if self.spt.owner[page_there] == number:
                return
            self.off_core(share)
            failed = False
            try:
                yield from self.dms.ask(number, page_there)  # type: ignore[attr-defined]
            except StoreError:
                failed = True
            yield from self.on_core(share)
            if failed:
                continue
            if self.spt.owner[page_there] != number and self.spt.known(page_there):
                lib.edm_adopt(self.ptr, page, self.env.now)

    def give_up(self, page_there: int) -> Steps:
        """The DMS asks for the page: evicts it, whatever it takes."""
        page, begin = page_there - self.base, self.env.now
        while not self.gone and self.spt.owner[page_there] == self.number:
            lib.edm_recall(self.ptr, page, self.env.now, self.out.ptr)
            commands = self.out.all()
            if not commands:  # claimed, and not touched yet
                self.spt.give(page_there, self.number)
            elif commands[0][0] == lib.EDM_WAIT:
                yield self.event_of(page)
            else:
                yield from self._carry_out(commands)
        self._note(page, record.HAND_OVER, begin)

    def evacuate(self, until: int) -> Steps:
        """Stores every page and leaves; what is not stored at `until` is left behind.

        Pages in somebody's hands are passed over, so it takes several rounds.
        """
        env, worked = self.env, True
        while worked and lib.edm_resident(self.ptr) and env.now < until:
            worked = False
            for first in range(0, self.pager.config.pages, FLUSH_BATCH):
                commands = self._recall_range(first, first + FLUSH_BATCH)
                if commands:
                    worked = True
                    flush = env.process(self._carry_out(commands))
                    yield flush | env.timeout(until - env.now)
                if env.now >= until:
                    return
            if self.under_way:
                worked = True
                yield self._next_progress() | env.timeout(until - env.now)

    def _recall_range(self, first: int, end: int) -> list[tuple[int, int, int]]:
        commands: list[tuple[int, int, int]] = []
        for page in range(first, min(end, self.pager.config.pages)):
            lib.edm_recall(self.ptr, page, self.env.now, self.out.ptr)
            commands += [c for c in self.out.all() if c[0] == lib.EDM_EVICT]
        return commands

    def abandon(self) -> None:
        """The machine is taken back: pages whose last content was only here are lost."""
        self.gone = True
        for thread in self.threads:
            if thread.is_alive:
                waits_for = thread.target
                if isinstance(waits_for, simpy.Timeout) and isinstance(waits_for.value, Link):
                    waits_for.value.cut_off += 1
                thread.interrupt()
        self.wake_all()
        for page in range(self.pager.config.pages):
            there = self.base + page
            if self.spt.owner[there] != self.number:
                continue
            dirty = lib.edm_page_word(self.ptr, page) & lib.EDM_DIRTY
            if dirty or there in self.spt.fragile:
                self.spt.copies.pop(there, None)
                self.spt.fragile.discard(there)
                self.spt.lose(there)
            self.spt.owner[there] = NOBODY
