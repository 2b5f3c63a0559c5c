"""The model's clock: a SimPy environment whose time is integer nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import simpy

if TYPE_CHECKING:

    class Clock(simpy.Environment):
        """A simpy.Environment that began at 0 and is only ever advanced by whole nanoseconds."""

        @property
        def now(self) -> int: ...

else:
    Clock = simpy.Environment
