"""watch: a region's figures while the program runs, in a notebook or as lines of text.

The figures come over the region's board (c/board.h), by a descriptor of the view's own: it
keeps nothing of the region alive, and a region that is closed answers so.
"""

from __future__ import annotations

import errno
import html
import os
import sys
import threading
from collections import deque
from types import TracebackType
from typing import Any

from edm_policy.errors import UsageError
from edm_real._core import ffi, lib
from edm_real.top import ANSWER_MS, Region, line

LEAST_S = 0.2
KEPT = 120  # intervals of the little curve

_SHOWN = ("faults", "faults/s", "evictions/s", "p50 us", "p99 us", "direct", "lost")
_WIDTH, _HEIGHT = 240, 36


class Watch:
    """A view that renews itself until the region closes, or stop(); also a context manager."""

    def __init__(self, board: int, interval_s: float = 1.0):
        if not interval_s >= LEAST_S:
            raise UsageError(
                f"interval {interval_s:g} s: at least {LEAST_S:g} s, for people to read"
            )
        if board < 0:
            raise UsageError("this region cannot be watched: it was opened with watch=False")
        self._fd = os.open(f"/proc/self/fd/{board}", os.O_RDWR | os.O_CLOEXEC)
        self._interval_s = interval_s
        self._now: Region | None = None
        self._before: Region | None = None
        self._rates: deque[float] = deque(maxlen=KEPT)
        self._end = threading.Event()
        self.closed = False
        self._look()
        self._handle = _notebook_display(self)
        self._thread = threading.Thread(target=self._run, name="edm-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the view; what it showed last stays."""
        self._end.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _look(self) -> bool:
        """Asks once; whether anything is new. A process under heavy load may answer late."""
        raw = ffi.new("edm_figures *")
        error = lib.edm_board_ask(self._fd, ANSWER_MS, raw)
        if error:
            self.closed = error != -errno.ETIMEDOUT
            return self.closed
        before, now = self._now, Region("region", raw)
        new = before is None or before.counters() != now.counters()
        # What has settled is shown once more, with rates of nothing.
        new = new or (self._before is not None and self._before.counters() != now.counters())
        self._before, self._now = before, now
        if before is not None:
            self._rates.append(float(now.row(before)["faults/s"] or 0.0))
        return new

    def _run(self) -> None:
        try:
            while not self._end.wait(self._interval_s) and not self.closed:
                if self._look():
                    self._show()
        finally:
            os.close(self._fd)

    def _show(self) -> None:
        if self._handle is not None:
            self._handle.update(self)
        else:
            print(self.text(), file=sys.stderr, flush=True)

    def text(self) -> str:
        """The figures in one line of key=value."""
        if self.closed or self._now is None:
            return "watch ends: the region is closed"
        return line(self._now, self._before)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self._html()}

    def _html(self) -> str:
        if self._now is None:
            return "<p>the region is closed</p>"
        row = self._now.row(self._before)
        state = "closed" if self.closed else "live"
        share = row["resident"] / row["limit"] if row["limit"] else 0.0
        cells = "".join(
            f'<td style="text-align:right;padding:0 1em 0 0">{_figure(row[name])}<br>'
            f'<small style="opacity:.65">{name.replace(" us", " µs")}</small></td>'
            for name in _SHOWN
        )
        about = html.escape(self._now.about().partition(": ")[2])
        return (
            f'<div style="font-variant-numeric:tabular-nums"><b>{html.escape(row["region"])}</b> '
            f"({state}): {row['resident']:.1f} of {row['limit']:.1f} MiB local, "
            f"{row['MiB']:,.0f} MiB in all "
            f'<progress value="{min(1.0, share):.3f}" max="1"></progress>'
            f"<table><tr>{cells}<td>{self._curve()}</td></tr></table>"
            f'<small style="opacity:.65">{about}</small></div>'
        )

    def _curve(self) -> str:
        """Faults a second, the newest on the right."""
        rates = list(self._rates)
        if len(rates) < 2:
            return ""
        top = max(*rates, 1.0)
        step = _WIDTH / (KEPT - 1)
        first = _WIDTH - (len(rates) - 1) * step
        points = " ".join(
            f"{first + i * step:.1f},{_HEIGHT - 1 - r / top * (_HEIGHT - 4):.1f}"
            for i, r in enumerate(rates)
        )
        return (
            f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="faults a second">'
            f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="1.5"/></svg>'
            f'<br><small style="opacity:.65">faults/s, at most {top:,.0f}</small>'
        )


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.1f}"


def _notebook_display(view: Watch) -> Any:
    """The handle of a display in a notebook that renews itself; None outside of one."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return display(view, display_id=True)
