"""clock-pro: LIRS on a clock: hot pages, cold pages, and cold pages gone but still on test.

One circular list of entries. An entry is hot (always resident) or cold; a cold one is resident
or not, and on test or not; one not resident is always on test (its test over, it is removed).
Resident entries have a reference bit. Three hands each stand at an entry and move in the direction
"next"; they have no position only while the list is empty. The HEAD is the place just behind
(previous to) the hot hand. mc, the target number of resident cold pages, starts as
max(1, floor(C / 100)) and stays in 1..C. Nhot counts hot entries, Nout those not resident.

  insert e at the head: into an empty list: all three hands stand at e. Else e is linked
      in between the hot hand's entry and the one previous to it.
  unlink e: every hand standing at e moves to the next entry first (none if e was alone).
  e to the head: unlink, then insert at the head.
  end the test of e: test = 0 and mc = max(mc - 1, 1); if e is not resident it is unlinked.
  A cold entry e is EXPIRING if it is on test, and not resident or its bit is 0.

Hit: the entry's bit = 1; nothing moves.
Miss on x, in this order:
  1. If x has an entry (not resident, on test): mc = min(mc + 1, C), the entry is unlinked, and x
     counts as known.
  2. If C pages are resident: COLD.
  3. x gets a new entry, resident, bit 0, at the head: hot if x is known, or if nothing was ever
     evicted and Nhot < C - mc; else cold and on test.
  4. HOT.
COLD, until one page has left: let e = the first resident cold entry from the cold hand on
(at least one exists). The cold hand stands at e. Then
  bit 0: e leaves. The cold hand moves to the next entry. If e is on test it stays, not
         resident, then TEST; else it is unlinked. Done.
  bit 1, on test: mc = min(mc + 1, C); e becomes hot, bit 0, test 0, and goes to the head; then HOT.
  bit 1, not on test: bit 0, test = 1, e goes to the head.
HOT, while Nhot > C - mc: let e = the entry at the hot hand; the hand moves to the next entry;
then if e is hot with bit 1: bit 0. Hot with bit 0: it becomes cold, not on test.
  Cold and expiring: end its test. Any other: nothing. (As the head is just behind the hot hand,
  passing an entry leaves it at the head.)
TEST, while Nout > C: let e = the entry at the test hand; the hand moves to the next entry;
if e is cold and expiring: end its test.

Bounds: Nhot <= C - mc after every reference, Nout <= C.
Source: Jiang, Chen and Zhang, "CLOCK-Pro: an effective improvement of the CLOCK replacement",
USENIX ATC 2005. What the paper leaves open is fixed here: the start (hot pages first, as LIRS
does), when a hit on test is counted (when the cold hand finds the bit), and that a page on test
whose bit is set is left to the cold hand. No parameters. C >= 1.
"""

from __future__ import annotations

from .base import Reference


class Entry:
    """A place in the circular list."""

    def __init__(self, page: int, hot: bool) -> None:
        self.page = page
        self.hot = hot
        self.resident = True
        self.on_test = not hot
        self.referenced = False
        self.prev = self
        self.next = self

    def expiring(self) -> bool:
        return not self.hot and self.on_test and not (self.resident and self.referenced)


class ClockPro(Reference):
    name = "clock-pro"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.cold_target = max(1, size // 100)
        self.entries: dict[int, Entry] = {}
        self.hands: dict[str, Entry] = {}  # hot, cold and test; empty while the list is
        self.hot_count = 0
        self.out_count = 0
        self.ever_evicted = False

    def hit(self, page: int) -> None:
        self.entries[page].referenced = True

    def miss(self, page: int) -> None:
        known = page in self.entries
        if known:
            self.raise_target()
            self.unlink(self.entries[page])
            self.out_count -= 1
        if self.full():
            self.evict()
        filling = not self.ever_evicted and self.hot_count < self.size - self.cold_target
        entry = Entry(page, hot=known or filling)
        self.hot_count += entry.hot
        self.link_at_head(entry)
        self.run_hot_hand()

    # The list.

    def link_at_head(self, entry: Entry) -> None:
        self.entries[entry.page] = entry
        if not self.hands:
            entry.prev = entry.next = entry
            self.hands = {"hot": entry, "cold": entry, "test": entry}
            return
        after = self.hands["hot"]
        entry.prev, entry.next = after.prev, after
        after.prev.next = entry
        after.prev = entry

    def unlink(self, entry: Entry) -> None:
        del self.entries[entry.page]
        if entry.next is entry:
            self.hands = {}
            return
        for name, at in self.hands.items():
            if at is entry:
                self.hands[name] = entry.next
        entry.prev.next = entry.next
        entry.next.prev = entry.prev

    def move_to_head(self, entry: Entry) -> None:
        self.unlink(entry)
        self.link_at_head(entry)

    def pass_entry(self, hand: str) -> Entry:
        """Move a hand to the next entry; give the one it stood at."""
        entry = self.hands[hand]
        self.hands[hand] = entry.next
        return entry

    # The target, and the end of tests.

    def raise_target(self) -> None:
        self.cold_target = min(self.cold_target + 1, self.size)

    def end_test(self, entry: Entry) -> None:
        entry.on_test = False
        self.cold_target = max(self.cold_target - 1, 1)
        if not entry.resident:
            self.unlink(entry)
            self.out_count -= 1

    # The hands.

    def evict(self) -> None:
        while True:
            entry = self.hands["cold"]
            while entry.hot or not entry.resident:
                entry = entry.next
            self.hands["cold"] = entry
            if not entry.referenced:
                self.drop(entry)
                return
            entry.referenced = False
            if entry.on_test:
                self.raise_target()
                entry.on_test = False
                entry.hot = True
                self.hot_count += 1
                self.move_to_head(entry)
                self.run_hot_hand()
            else:
                entry.on_test = True
                self.move_to_head(entry)

    def drop(self, entry: Entry) -> None:
        self.ever_evicted = True
        self.leave(entry.page)
        self.pass_entry("cold")
        if entry.on_test:
            entry.resident = False
            self.out_count += 1
            self.run_test_hand()
        else:
            self.unlink(entry)

    def run_hot_hand(self) -> None:
        while self.hot_count > self.size - self.cold_target:
            entry = self.pass_entry("hot")
            if entry.hot and entry.referenced:
                entry.referenced = False
            elif entry.hot:
                entry.hot = False
                self.hot_count -= 1
            elif entry.expiring():
                self.end_test(entry)

    def run_test_hand(self) -> None:
        while self.out_count > self.size:
            entry = self.pass_entry("test")
            if entry.expiring():
                self.end_test(entry)
