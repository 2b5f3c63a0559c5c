"""What happened, event by event: on request, as it costs memory and time."""

from __future__ import annotations

import pandas as pd
from edm_policy._core import lib

_NAMES = {
    lib.EDM_ZERO_FILL: "zero_fill",
    lib.EDM_FETCH: "fetch",
    lib.EDM_RESCUE: "rescue",
    lib.EDM_ALLOW_WRITE: "allow_write",
    lib.EDM_POISON: "poison",
    lib.EDM_WAIT: "wait",
    lib.EDM_RETRY: "retry",
}
EVICT, WRITEBACK, STORE_FAILED, HAND_OVER = "evict", "writeback", "store_failed", "hand_over"
COLUMNS = ("t_ns", "instance", "thread", "page", "event", "duration_ns")


class Recorder:
    """Collects events. thread is -1 for LPET and for what other machines ask."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, str, int]] = []

    def fault(self, t: int, instance: int, thread: int, page: int, op: int, duration: int) -> None:
        """A fault touched at t, resolved by command `op`, its thread resumed after duration."""
        self._rows.append((t, instance, thread, page, _NAMES[op], duration))

    def page(self, t: int, instance: int, page: int, event: str, duration: int) -> None:
        self._rows.append((t, instance, -1, page, event, duration))

    def frame(self) -> pd.DataFrame:
        """Columns t_ns, instance, thread, page, event, duration_ns, in order of t_ns."""
        frame = pd.DataFrame(self._rows, columns=list(COLUMNS))
        return frame.sort_values("t_ns", kind="stable", ignore_index=True)
