"""The model's clock: a SimPy environment whose time is integer nanoseconds, made fast.

Half of what a simulated fault costs is SimPy's bookkeeping. Two things make it less, and
neither changes what happens or in which order (a test runs models under both):

- skip: a process that would sleep while nobody else does anything moves the clock instead.
- timeout and run do what SimPy's do, written out in one call each. They use SimPy's private
  queue (`_queue`, `_now`, `_eid`), which has been the same since SimPy 3.
"""

from __future__ import annotations

from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import simpy
from simpy.events import NORMAL, Timeout


class Clock(simpy.Environment):
    """A simpy.Environment that began at 0 and is only ever advanced by whole nanoseconds."""

    if TYPE_CHECKING:

        @property
        def now(self) -> int: ...

        _now: int

    else:
        now = property(attrgetter("_now"))

    _alone = False  # the event under way resumes one process only

    def skip(self, ns: int) -> bool:
        """Moves the clock if nothing else happens until then, that instant included; a caller
        that gets False sleeps: `if not clock.skip(ns): yield clock.timeout(ns)`."""
        then, queue = self._now + ns, self._queue
        if not self._alone or (queue and queue[0][0] <= then):
            return False
        self._now = then
        return True

    def timeout(self, delay: int, value: Any = None) -> Timeout:  # type: ignore[override]
        """An event after `delay` ns."""
        if delay < 0:
            raise ValueError(f"Negative delay {delay}")
        event = Timeout.__new__(Timeout)
        event.env, event.callbacks, event._value, event._ok = self, [], value, True
        event._delay = delay
        heappush(self._queue, (self._now + delay, NORMAL, next(self._eid), event))
        return event

    def run(self, until: Any = None) -> Any:
        """Until nothing is left to happen, or as simpy.Environment.run does."""
        if until is not None:
            return super().run(until)
        queue = self._queue
        try:
            while queue:
                self._now, _, _, event = heappop(queue)  # type: ignore[assignment]
                callbacks = event.callbacks
                event.callbacks = None  # type: ignore[assignment]
                self._alone = len(callbacks) == 1
                for callback in callbacks:
                    callback(event)
                if not event._ok and not hasattr(event, "_defused"):
                    raise event._value
        finally:
            self._alone = False
        return None
