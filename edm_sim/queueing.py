"""Servers with a first-come, first-served queue, without an event of their own.

When a job arrives its end is known: the earliest free server takes it (Lindley 1952 for one
server, Kiefer and Wolfowitz 1955 for c). So a visit costs the caller the one timeout until
its end, and nothing is simulated for jobs that wait. Arrivals must come in order of time,
which holds when they are made at the moment they happen.
"""

from __future__ import annotations

from heapq import heapreplace


class Server:
    """`servers` alike behind one queue. Times are integer nanoseconds."""

    def __init__(self, servers: int = 1):
        self.free_at = [0] * servers
        self.jobs = 0
        self.busy_ns = 0
        self.waited_ns = 0
        self._last = 0

    def admit(self, now: int, service_ns: int) -> int:
        """A job that needs `service_ns` arrives now: when it is done."""
        if now < self._last:
            raise AssertionError(f"arrival at {now} after one at {self._last}")
        self._last = now
        free = self.free_at[0]
        begin = free if free > now else now
        end = begin + service_ns
        heapreplace(self.free_at, end)
        self.jobs += 1
        self.busy_ns += service_ns
        self.waited_ns += begin - now
        return end

    def backlog_ns(self, now: int) -> int:
        """How long a job that arrived now would wait."""
        return max(0, self.free_at[0] - now)
