"""top: the live figures of another process's regions. See c/board.h for how they come here."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edm_policy.errors import EdmError, UsageError
from edm_real._core import ffi, lib
from edm_real.figures import POLICY_FIELDS, RUNTIME_FIELDS, STORE_FIELDS, latency_us
from edm_workload.result import rows_table, table_console

if TYPE_CHECKING:
    from rich.console import Group

BOARD = "/memfd:edm-region"
ANSWER_MS = 1000
MIB = 1 << 20
FAULTS = ("upcall", "monitor")


@dataclass(frozen=True)
class Region:
    """One answer. at_ns: the monotonic clock. Sizes of the watermarks are in pages."""

    key: str
    raw: Any

    @property
    def at_ns(self) -> int:
        return int(self.raw.now_ns)

    def counters(self) -> dict[str, int]:
        """All counters, by the names of Region.stats()."""
        parts = ((self.raw.policy, POLICY_FIELDS), (self.raw.runtime, RUNTIME_FIELDS))
        return {name: int(getattr(part, name)) for part, fields in parts for name in fields}

    def store(self) -> dict[str, int]:
        return {name: int(getattr(self.raw.store, name)) for name in STORE_FIELDS}

    def row(self, before: Region | None) -> dict[str, Any]:
        """Figures to show: rates and latencies since `before`, or since the region was opened."""
        raw, c = self.raw, self.raw.config
        now, then = self.counters(), before.counters() if before else {}
        seconds = (self.at_ns - before.at_ns) / 1e9 if before else 0.0
        latency = ffi.new("edm_latency *")
        lib.edm_board_latency(raw, before.raw if before else ffi.NULL, latency)
        us = latency_us(latency)

        def rate(name: str) -> float | None:
            return (now[name] - then[name]) / seconds if seconds > 0 else None

        scale = raw.page_size / MIB
        return {
            "region": ffi.string(raw.name).decode(errors="replace") or self.key,
            "MiB": c.pages * scale,
            "resident": now["resident"] * scale,
            "low": c.low * scale,
            "high": c.high * scale,
            "limit": c.limit * scale,
            "faults": now["faults"],
            "faults/s": rate("faults"),
            "evictions/s": rate("evictions"),
            "p50 us": us.get("p50"),
            "p99 us": us.get("p99"),
            "direct": now["direct_reclaims"],
            "lost": now["lost_pages"],
        }

    def about(self) -> str:
        """Its settings and its store, in a line."""
        c, s = self.raw.config, self.store()
        text = [ffi.string(t).decode(errors="replace") for t in (c.evict, c.prefetch, self.raw.url)]
        store = ", ".join(f"{name} {value:,}" for name, value in s.items() if value)
        return (
            f"{self.key}: {FAULTS[self.raw.faults_mode]}, evict {text[0]}, prefetch {text[1]}, "
            f"store {text[2]}: {store or 'not used yet'}"
        )


def look(pid: int) -> list[Region]:
    """The regions of a process, each with its figures of this moment.

    Raises EdmError in one line: no such process, not permitted, no regions, no answer.
    """
    found, silent = [], 0
    for fd in _boards(pid):
        raw = ffi.new("edm_figures *")
        try:
            board = os.open(fd, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # closed meanwhile
        except PermissionError:
            raise _refused(pid) from None
        try:
            error = lib.edm_board_ask(board, ANSWER_MS, raw)
        finally:
            os.close(board)
        silent += error == -errno.ETIMEDOUT
        if not error and raw.pid == _own_pid(pid):
            found.append(Region(fd.name, raw))
    if not found and silent:
        raise EdmError(f"process {pid} does not answer; is it stopped? (kill -CONT {pid})")
    if not found:
        raise EdmError(
            f"process {pid} has no open region of this version; a Region with watch=True shows here"
        )
    return found


def _refused(pid: int) -> EdmError:
    return EdmError(f"process {pid} belongs to somebody else; run it as that user, or with sudo")


def _boards(pid: int) -> list[Path]:
    folder = Path(f"/proc/{pid}/fd")
    try:
        fds = sorted(folder.iterdir(), key=lambda fd: int(fd.name))
    except (FileNotFoundError, ProcessLookupError):
        raise EdmError(f"there is no process {pid}; ps shows which there are") from None
    except PermissionError:
        raise _refused(pid) from None
    boards = []
    for fd in fds:
        try:
            if os.readlink(fd).startswith(BOARD):
                boards.append(fd)
        except OSError:
            continue  # closed meanwhile
    return boards


def _own_pid(pid: int) -> int:
    """What the process itself takes for its number: another one in a container."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    except OSError:
        pass  # it has ended
    return pid


def line(region: Region, before: Region | None) -> str:
    """One region in one line of key=value, for logs."""
    shown = [f"time={time.strftime('%Y-%m-%dT%H:%M:%S')}"]
    for name, value in region.row(before).items():
        text = "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
        shown.append(f"{name.replace(' ', '_')}={text.replace(' ', '_')}")
    return " ".join(shown)


def screen(pid: int, regions: list[Region], before: dict[str, Region]) -> Group:
    from rich.console import Group
    from rich.text import Text

    table = rows_table([r.row(before.get(r.key)) for r in regions])
    lines = "\n".join(r.about() for r in regions)
    title = f"process {pid}, {len(regions)} regions; sizes in MiB; rates and latencies of faults"
    return Group(Text(title), table, Text(lines))


def follow(pid: int, interval_s: float, plain: bool, once: bool) -> None:
    """Shows the regions every interval until the process or its last region is gone, or Ctrl-C.

    Raises EdmError when there is nothing to show at the start.
    """
    if interval_s <= 0:
        raise UsageError(f"interval: {interval_s:g} s; more than 0")
    regions = look(pid)
    if once:
        time.sleep(min(interval_s, 1.0))  # rates need two looks
    if plain:
        return _repeat(pid, regions, interval_s, once, _print_plain)
    if once or not sys.stdout.isatty():
        console = table_console()
        return _repeat(
            pid, regions, interval_s, once, lambda now, old: console.print(screen(pid, now, old))
        )
    from rich.live import Live

    with Live(screen(pid, regions, {}), auto_refresh=False, screen=False) as live:
        _repeat(
            pid,
            regions,
            interval_s,
            once,
            lambda now, old: live.update(screen(pid, now, old), refresh=True),
        )


def _print_plain(now: list[Region], before: dict[str, Region]) -> None:
    for region in now:
        print(line(region, before.get(region.key)), flush=True)


def _repeat(
    pid: int,
    regions: list[Region],
    interval_s: float,
    once: bool,
    show: Callable[[list[Region], dict[str, Region]], None],
) -> None:
    while True:
        if not once:
            time.sleep(interval_s)
        before = {r.key: r for r in regions}
        try:
            regions = look(pid)
        except EdmError as error:
            print(f"top ends: {error}", file=sys.stderr)
            return
        show(regions, before)
        if once:
            return
