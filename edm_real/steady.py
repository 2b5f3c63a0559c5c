"""Whether the machine is still the one it was.

The host of a virtual machine moves its cores: now they share a cache, now they do not, and what two
threads share then takes several times as long (two threads' faults on two cores of an EPYC: a
median of 6.7 us at 60 ns there and back, 8.4 at 330). It stays so for seconds to minutes.
"""

from __future__ import annotations

import time

from edm_real._core import lib

PATIENCE_S = 10.0
"""For so long, in all, the cores are waited for to be where they were, unless told otherwise."""

LOOK_S = 0.5

MOVES, OFTEN_S = 6, 15.0
"""A host that moved the cores so many times, and on average more often than that, goes on to:
there is nothing to wait for (an EPYC: 90 and 430 ns by turns, half a second to some seconds)."""


def core_distance_ns() -> float:
    """What a cache line takes from the first core this thread may run on to the second, and back:
    some ms of measuring. 0: there is but one, or others leave too little of them to tell."""
    found = [float(lib.edm_core_distance_ns()) for _ in range(2)]
    return min(found)


def _same(one: float, other: float) -> bool:
    return not one or not other or 1 / 2 < one / other < 2  # 60 to 110 share a cache


class Steady:
    """Runs that are held against each other should find the cores equally far apart.

    distance_ns: as it shall be; 0: as it is now. gave_up: it became another one for good, or does
    so again and again (restless; where that is known beforehand, nothing is waited for).
    """

    def __init__(
        self, distance_ns: float = 0.0, patience_s: float = PATIENCE_S, restless: bool = False
    ):
        self.distance_ns = distance_ns or core_distance_ns()
        self.restless = self.gave_up = restless
        self._left_s = 0.0 if restless else patience_s
        self._began, self._moves, self._there = time.monotonic(), 0, True

    def settle(self) -> None:
        """Waits until the cores are as far apart as they shall be, while patience lasts. Then they
        shall be as they are (distance_ns changes), and nothing is waited for any more."""
        while not self.gave_up:
            if self.holds() and not self.restless:
                return
            if self._left_s <= LOOK_S or self.restless:
                self.distance_ns, self._left_s, self.gave_up = core_distance_ns(), 0.0, True
                return
            time.sleep(LOOK_S)
            self._left_s -= LOOK_S

    def holds(self) -> bool:
        """They are where they shall be, or that is no longer asked for."""
        if self._left_s <= 0:
            return True
        there = _same(core_distance_ns(), self.distance_ns)
        self._moves += self._there and not there
        self._there = there
        often = (time.monotonic() - self._began) / OFTEN_S < self._moves
        self.restless = often and self._moves >= MOVES
        return there
