"""Cores that threads take turns on.

A thread keeps its core until it sleeps, or, while another one is ready, until the next tick: as on
Linux with the kernel's voluntary preemption, a woken thread does not push a running one aside, and
the kernel looks whose turn it is when its clock ticks. Turns change where the model can be
interrupted, at the ends of computing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any

import simpy

from edm_sim.clock import Clock

SLICE_NS = 4_000_000

Steps = Generator[simpy.Event, Any, Any]


class Thread:
    """Somebody who needs a core: `until` it can lose it, `on` whether it has one."""

    __slots__ = ("on", "until")

    def __init__(self) -> None:
        self.on = False
        self.until = 0


class Cores:
    """`n` of them."""

    def __init__(self, env: Clock, n: int, slice_ns: int = SLICE_NS):
        self.env, self.free, self.slice_ns = env, n, slice_ns
        self.running: list[Thread] = []
        self.ready: deque[tuple[Thread, simpy.Event]] = deque()
        self.waited_ns = 0

    def enter(self, thread: Thread) -> Steps:
        """Waits for a core."""
        if self.free:
            self.free -= 1
            self._give(thread)
            return
        turn = self.env.event()
        if not self.ready:
            for other in self.running:
                if other.until <= self.env.now:
                    other.until = self._next_tick()
        self.ready.append((thread, turn))
        begin = self.env.now
        yield turn
        self.waited_ns += self.env.now - begin

    def _give(self, thread: Thread) -> None:
        thread.on, thread.until = True, self._next_tick()
        self.running.append(thread)

    def _next_tick(self) -> int:
        return (self.env.now // self.slice_ns + 1) * self.slice_ns

    def leave(self, thread: Thread) -> None:
        """The thread sleeps or ends; also one that was taken away while it waited."""
        if not thread.on:
            self.ready = deque(entry for entry in self.ready if entry[0] is not thread)
            return
        thread.on = False
        self.running.remove(thread)
        if self.ready:
            following, turn = self.ready.popleft()
            self._give(following)
            turn.succeed()
        else:
            self.free += 1

    def over(self, thread: Thread) -> bool:
        """Is it another one's turn?"""
        return bool(self.ready) and self.env.now >= thread.until

    def turn(self, thread: Thread) -> Steps:
        """Lets the others run first."""
        self.leave(thread)
        yield from self.enter(thread)
