"""How LPET sleeps between sessions, and when it notices a ring: await_ring in edm_real/c/evict.c.

Where rings come at a steady pace it sleeps by the clock: most of the time until the next one is
due, then in short naps, up to twice that time. A ring costs next to nothing then, and is noticed
when the nap under way ends. Where they come seldom, or later, it sleeps until it is woken.
"""

from __future__ import annotations

from edm_policy._core import lib

from edm_sim.draws import Machine

LOOK_NS, STEADY_NS = lib.EDM_LOOK_NS, lib.EDM_STEADY_NS


class Rest:
    """LPET's sleep. idle_ns: how long the waits before lasted."""

    def __init__(self, draw: Machine) -> None:
        self._draw = draw
        self.idle_ns = STEADY_NS

    def rung(self, waited_ns: int) -> int | None:
        """Rung for after so long: ns until it notices; None: it must be woken."""
        idle = self.idle_ns
        if idle >= STEADY_NS:
            return None
        late_ns = self._draw.nap() - LOOK_NS  # every nap takes so much longer than it was to
        ends = idle * 3 // 4 + late_ns if idle > 2 * LOOK_NS else 0
        step = max(idle // 16, LOOK_NS) + late_ns
        while ends < waited_ns:
            if ends >= 2 * idle:
                return None
            ends += max(1, step)
        return ends - waited_ns

    def ended(self, took_ns: int) -> None:
        """It works again, after so long."""
        steady = took_ns < STEADY_NS and self.idle_ns < STEADY_NS
        self.idle_ns = (3 * self.idle_ns + took_ns) // 4 if steady else took_ns
