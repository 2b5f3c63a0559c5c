"""What a fault and an eviction cost on the machine itself, apart from store and network.

The defaults are medians of measurements on Linux 6.18 (two virtual x86-64 cores, idle);
a calibration replaces them (Costs(**measured)). Trust their ratios: on a loaded machine
waking a thread costs a tenth of what it does here, and everything else more.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

from edm_policy.errors import UsageError
from edm_workload.units import refuse_unknown


@dataclass(frozen=True)
class Costs:
    """All in nanoseconds.

    think_ns          one reference that hits, where the trace has no times
    upcall_ns         SIGBUS delivery to the faulting thread, up to the handler's first line
    upcall_return_ns  sigreturn, and the access again; with upcall_ns and install_ns this makes
                      the measured 6.5-9 us of a fault resolved in its own thread
    monitor_ns        fault message to a sleeping handler thread, which is woken (60-140 us for
                      the whole fault, two wake-ups of it)
    monitor_busy_ns   the same when the handler is awake already: poll and read only
    monitor_return_ns waking the faulting thread from UFFDIO_COPY or MOVE
    decide_ns         one event of the state machine, lock included
    zero_ns           UFFDIO_ZEROPAGE or a recycled zero frame
    install_ns        UFFDIO_COPY of one page, no fault (2.5 us)
    rescue_ns         UFFDIO_MOVE of one scattered page (1.4-1.9 us)
    allow_write_ns    lifting write-protection of one page (1.1-1.3 us)
    move_run_ns       UFFDIO_MOVE to the stash: each run of neighbouring pages
    move_page_ns      and each page of it (0.11-0.34 us)
    drop_ns           giving a frame back, in batches of 64 (0.8-2.4 us)
    wake_ns           waking a sleeping thread on another core (LPET)
    """

    think_ns: int = 20
    upcall_ns: int = 3_500
    upcall_return_ns: int = 1_000
    monitor_ns: int = 55_000
    monitor_busy_ns: int = 3_000
    monitor_return_ns: int = 55_000
    decide_ns: int = 200
    zero_ns: int = 2_000
    install_ns: int = 2_500
    rescue_ns: int = 1_600
    allow_write_ns: int = 1_200
    move_run_ns: int = 1_400
    move_page_ns: int = 200
    drop_ns: int = 1_000
    wake_ns: int = 50_000

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"costs: {f.name} must be whole nanoseconds from 0 up")

    def move_ns(self, pages: list[int]) -> int:
        """Taking `pages` out of sight: neighbours in the list move as one run."""
        if not pages:
            return 0
        runs = 1 + sum(b != a + 1 for a, b in pairwise(pages))
        return runs * self.move_run_ns + len(pages) * self.move_page_ns


@dataclass(frozen=True)
class StoreCosts:
    """Service of one page by an embedded store: get and put, ns. put is per page of a batch."""

    get_ns: int
    put_ns: int
    source: str = ""


STORE_COSTS: dict[str, StoreCosts] = {
    "mem": StoreCosts(500, 500, "a copy of 4 KiB between cold buffers"),
    "file": StoreCosts(2_500, 3_000, "pread and pwrite of 4 KiB in the page cache"),
    "zstd+mem": StoreCosts(6_000, 12_000, "zstd level 1 of half-compressible pages, and the copy"),
    "redis": StoreCosts(36_000, 9_500, "Redis 7 on loopback: GET 32-43 us, SET pipelined by 32"),
}
"""By a store URL's scheme: what the store itself costs, without [store] network."""


def store_costs(url: str) -> StoreCosts:
    """For a store URL. Raises UsageError for a scheme that has no costs here."""
    scheme = url.partition(":")[0]
    if scheme in STORE_COSTS:
        return STORE_COSTS[scheme]
    if scheme.startswith(("redis", "valkey")):
        return STORE_COSTS["redis"]
    refuse_unknown("store", url, [f"{s}:" for s in STORE_COSTS])
