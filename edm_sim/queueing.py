"""Servers with a first-come, first-served queue, without an event of their own.

When a job arrives its end is known: the earliest free server takes it (Lindley 1952 for one
server, Kiefer and Wolfowitz 1955 for c). So a visit costs the caller the one timeout until
its end, and nothing is simulated for jobs that wait. Arrivals must come in order of time,
which holds when they are made at the moment they happen.

The length of the queue is integrated over time beside that, from the moments jobs come and
begin, and not from their waits: so Little's law (L = lambda W; Little 1961), which over a run
that ends empty is an identity of whole nanoseconds, checks the one against the other.
"""

from __future__ import annotations

from collections import deque
from heapq import heapreplace


class Server:
    """`servers` alike behind one queue. Times are integer nanoseconds."""

    def __init__(self, servers: int = 1):
        self.free_at = [0] * servers
        self.jobs = 0
        self.busy_ns = 0
        self.waited_ns = 0
        self._last = 0
        self._begins: deque[int] = deque()  # of the jobs that wait, in their order
        self._area = 0  # job-nanoseconds in the queue up to _area_to
        self._area_to = 0

    def admit(self, now: int, service_ns: int) -> int:
        """A job that needs `service_ns` arrives now: when it is done."""
        if now < self._last:
            raise AssertionError(f"arrival at {now} after one at {self._last}")
        self._last = now
        self.jobs += 1
        self.busy_ns += service_ns
        free = self.free_at[0]
        if free <= now:
            end = now + service_ns
        else:
            if self._begins:
                self._advance(now)
            if not self._begins:
                self._area_to = now
            self._begins.append(free)
            self.waited_ns += free - now
            end = free + service_ns
        heapreplace(self.free_at, end)
        return end

    def block(self, until: int) -> None:
        """Nobody is taken on before `until`."""
        self.free_at = sorted(max(free, until) for free in self.free_at)

    def _advance(self, now: int) -> None:
        """Integrates the queue up to `now`; who has begun by then has left it."""
        begins, area, at = self._begins, self._area, self._area_to
        while begins and begins[0] <= now:
            area += len(begins) * (begins[0] - at)
            at = begins.popleft()
        self._area = area + len(begins) * (now - at)
        self._area_to = now

    def queue(self, now: int) -> int:
        """Jobs that wait, those in service not counted."""
        if self._begins:
            self._advance(now)
        return len(self._begins)

    def backlog_ns(self, now: int) -> int:
        """How long a job that arrived now would wait."""
        return max(0, self.free_at[0] - now)

    def check(self, name: str) -> None:
        """At the end of a run. Raises AssertionError where Little's law does not hold."""
        end = max(self.free_at)
        if self.queue(end):
            raise AssertionError(f"{name}: jobs still wait when the last one has ended")
        if self._area != self.waited_ns:
            raise AssertionError(
                f"{name}: the queue's integral is {self._area} ns, its jobs waited {self.waited_ns}"
            )
        if self.busy_ns > end * len(self.free_at):
            raise AssertionError(f"{name}: more work than time")
