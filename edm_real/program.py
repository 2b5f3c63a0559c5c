"""run: an unmodified program in less memory. preload/preload.h says how; this starts it.

Figures come from the preloaded library, one report for each process that opened a region, as it
ends: a process that is killed by a signal leaves none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edm_policy.config import PolicyConfig, evictor_info
from edm_policy.custom import EvictionPolicy, Prefetcher, load_policy
from edm_policy.errors import CannotError, EdmError, UsageError
from edm_real._core import ffi, lib
from edm_real.figures import POLICY_FIELDS, RUNTIME_FIELDS, STORE_FIELDS, latency_us
from edm_real.region import HANDLERS_MOST
from edm_real.store_url import resolved, shaped
from edm_workload import Result
from edm_workload.metadata import redact
from edm_workload.units import PAGE_SIZE, Size, parse_pages, seconds_to_ns

FAULTS_MONITOR = 1
LEAST_PAGES = 64  # of a region, and of its local memory
_RESULT = {f.name for f in fields(Result)}
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Settings:
    """How a program is paged. local: of each process; region: address space that can be paged, of
    each process, at the most; least: smaller pieces of memory are not paged. store None: a
    temporary file. The other fields are Region's."""

    local: Size = "64MiB"
    region: Size = "16GiB"
    least: Size = "64KiB"
    store: str | None = None
    network: str = "none"
    evict: str = "lpet"
    prefetch: str = "none"
    dirty: str = "exact"
    low: Size | None = None
    high: Size | None = None
    batch: int = 64
    seed: int = 1
    handlers: int = 1
    deadline_s: float = 5.0

    @property
    def url(self) -> str:
        """The store as C is given it."""
        return resolved(shaped(self.store or "file:", self.network, self.seed))

    def policy(self) -> PolicyConfig:
        """Raises UsageError for what makes no sense."""
        for spec, kind in ((self.evict, EvictionPolicy), (self.prefetch, Prefetcher)):
            if load_policy(spec, kind):
                raise UsageError(f"policy {spec} is Python, and the program has none; use a C one")
        if evictor_info(self.evict).needs_future:
            raise UsageError(f"{self.evict} must know the future; run it in the simulator")
        pages = parse_pages(self.region, None, "region")
        limit = min(parse_pages(self.local, pages, "local"), pages)
        for name, value in (("region", pages), ("local", limit)):
            # One instruction may need several pages at once; with fewer it never ends.
            if value < LEAST_PAGES:
                least = f"{LEAST_PAGES * PAGE_SIZE >> 10}KiB"
                raise UsageError(
                    f"{name}: {value} pages are too few for a program; give {least} or more"
                )

        def mark(value: Size | None, what: str) -> int | None:
            return None if value is None else parse_pages(value, limit, what, 0)

        return PolicyConfig(
            pages=pages,
            limit=limit,
            low=mark(self.low, "low"),
            high=mark(self.high, "high"),
            evict=self.evict,
            prefetch=self.prefetch,
            dirty=self.dirty,
            batch=self.batch,
            seed=self.seed,
        ).resolved(offered="idle")


@dataclass(frozen=True)
class Report:
    """What one process did. most: bytes paged at once, at the most; left_out: found no room."""

    pid: int
    result: Result
    most: int
    left_out: int


@dataclass(frozen=True)
class Finished:
    """code: the program's exit code; 128 + the signal's number if one ended it."""

    code: int
    reports: list[Report]


def library() -> Path:
    """The library that is preloaded. CannotError if it was not built."""
    found = sorted(Path(__file__).parent.glob("_preload*.so"))
    if not found:
        raise CannotError(
            "edm_real/_preload was not built (it needs gcc and glibc): make setup shows why"
        )
    return found[0]


def _config(settings: Settings, policy: PolicyConfig) -> str:
    config = ffi.new("edm_run_config *")
    policy.fill(config.region.policy)
    config.region.page_size = PAGE_SIZE
    config.region.faults = FAULTS_MONITOR
    config.region.kernel_faults = True
    if not 1 <= settings.handlers <= HANDLERS_MOST:
        raise UsageError(f"handlers: {settings.handlers} cannot be; 1 to {HANDLERS_MOST}")
    config.region.handlers = settings.handlers
    config.region.deadline_ns = seconds_to_ns(settings.deadline_s, "deadline")
    config.region.seed = settings.seed
    config.least = max(1, parse_pages(settings.least, None, "least")) * PAGE_SIZE
    return ffi.buffer(config)[:].hex()


def _try_store(url: str, pages: int) -> None:
    """The line about a store that cannot be opened is said once, before the program begins."""
    why = ffi.new("char[512]")
    store = lib.edm_store_open(url.encode(), PAGE_SIZE, pages, why, 512)
    if store == ffi.NULL:
        text = ffi.string(why).decode()
        raise UsageError(text) if text.startswith("unknown store") else EdmError(text)
    store.ops.close(store)


def run_program(command: list[str], settings: Settings) -> Finished:
    """Runs a program with its large pieces of memory paged; its input and output are ours.

    Raises UsageError for settings that make no sense or a program that is not there, EdmError for a
    store that cannot be opened. A machine without a full userfaultfd ends the program with 77.
    """
    policy = settings.policy()
    config = _config(settings, policy)
    preload = library()
    _try_store(settings.url, policy.pages)
    with tempfile.NamedTemporaryFile(prefix="edm-run-") as reports:
        before = os.environ.get("LD_PRELOAD")
        environment = os.environ | {
            "LD_PRELOAD": f"{preload} {before}" if before else str(preload),
            "EDM_RUN_CONFIG": config,
            "EDM_RUN_STORE": settings.url,
            "EDM_RUN_REPORT": reports.name,
        }
        code = _wait(command, environment)
        data = Path(reports.name).read_bytes()
    size = ffi.sizeof("edm_run_report")
    found = []
    for at in range(0, len(data) - size + 1, size):
        raw = ffi.new("edm_run_report *")
        ffi.memmove(raw, data[at : at + size], size)
        found.append(_report(raw, settings, policy, command))
    return Finished(code, found)


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """The program's exit code. Ctrl-C is the program's to answer; other signals are passed on."""
    children: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: Any) -> None:
        for child in children:
            child.send_signal(number)

    def leave(number: int, _: Any) -> None:  # not SIG_IGN: the program would inherit that
        pass

    handlers = dict.fromkeys((signal.SIGINT, signal.SIGQUIT), leave)
    handlers |= dict.fromkeys(_FORWARDED, forward)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        children.append(subprocess.Popen(command, env=environment))
        code = children[0].wait()
    except OSError as error:
        raise UsageError(f"{command[0]}: {error.strerror}; give a program to run") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _report(raw: Any, settings: Settings, policy: PolicyConfig, command: list[str]) -> Report:
    figures = raw.figures
    counts: dict[str, Any] = {name: int(getattr(figures.policy, name)) for name in POLICY_FIELDS}
    runtime = {name: int(getattr(figures.runtime, name)) for name in RUNTIME_FIELDS}
    latency = ffi.new("edm_latency *")
    lib.edm_board_latency(ffi.addressof(raw, "figures"), ffi.NULL, latency)
    name = ffi.string(figures.name).decode(errors="replace")
    extra = {
        "command": command,
        "program": name,
        "pid": int(figures.pid),
        "paged_bytes_most": int(raw.most),
        "unpaged_bytes": int(raw.left_out),
        **{k: v for k, v in counts.items() if k not in _RESULT},
        **runtime,
        "store_stats": {key: int(getattr(figures.store, key)) for key in STORE_FIELDS},
    }
    result = Result(
        driver="real",
        workload=name,
        evict=settings.evict,
        prefetch=settings.prefetch,
        observe=policy.observe,
        store=redact(settings.store or "file:"),
        faults_mode="monitor",
        pages=policy.pages,
        low=policy.low or 0,
        high=policy.high or 0,
        limit=policy.limit,
        **{k: v for k, v in counts.items() if k in _RESULT},
        elapsed_s=raw.elapsed_ns / 1e9,
        latency_us=latency_us(latency[0]),
        seed=settings.seed,
        extra=extra,
    )
    return Report(int(figures.pid), result, int(raw.most), int(raw.left_out))


def summary(finished: Finished, settings: Settings) -> str:
    """A line a process, for stderr."""
    paged = [r for r in finished.reports if r.most]
    if not paged:
        why = (
            f"it asked for no piece of memory of {settings.least} or more"
            if finished.reports
            else "it is linked statically, set-user-ID, or was ended by a signal"
        )
        return f"edm run: nothing was paged, or is known of it: {why}"
    lines = []
    for report in paged:
        r, mib = report.result, 1 << 20
        full = f"; {report.left_out / mib:,.1f} MiB NOT paged, --region is full"
        never = "; local memory is the whole --region, so nothing ever leaves"
        lines.append(
            f"edm run: {r.workload}: {report.most / mib:,.1f} MiB in "
            f"{r.limit * PAGE_SIZE / mib:,.1f} MiB, {r.faults:,} faults "
            f"(mean {r.latency_us.get('mean', 0):.1f} us), "
            f"{r.fetches:,} fetched, {r.writebacks:,} written back, {r.elapsed_s:.2f} s"
            + (full if report.left_out else "")
            + (never if r.limit >= r.pages else "")
        )
    return "\n".join(lines)
