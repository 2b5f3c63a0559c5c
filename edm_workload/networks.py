"""Networks and devices between a program and its pages: presets, and tables of one's own.

A network here is the round trip for one 4 KiB page (request out, page back) without
queueing: a lognormal through p50 and p99, plus the page's own time on the wire. The
simulator draws from it, the real backend shapes a store with it, so one name means one
thing in both worlds. Presets are typical figures of public sources or our measurements;
calibrate against your own machine where it matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edm_policy.errors import UsageError
from edm_workload.units import PAGE_SIZE, refuse_unknown


@dataclass(frozen=True)
class Network:
    """Of the round trip p50_us and p99_us, of one direction gbit (0: not limited), and loss."""

    p50_us: float
    p99_us: float
    gbit: float = 0.0
    loss: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.p50_us <= self.p99_us:
            raise UsageError(
                f"network: p50_us {self.p50_us:g} must not be above p99_us {self.p99_us:g}"
            )
        if not 0 <= self.loss < 1:
            raise UsageError(f"network: a loss of {self.loss:g} cannot be; give 0 to below 1")
        if self.gbit < 0:
            raise UsageError(f"network: gbit {self.gbit:g} must be 0 (not limited) or more")

    def wire_ns(self, pages: int = 1) -> int:
        """Time `pages` pages occupy the link."""
        return round(pages * PAGE_SIZE * 8 / self.gbit) if self.gbit else 0


NETWORKS: dict[str, Network] = {
    "cxl": Network(
        *(0.4, 1.2, 200.0),
        source="Sun et al., Demystifying CXL Memory, MICRO 2023; Li et al., Pond, ASPLOS 2023: "
        "200-400 ns a load, ~25 GB/s a x8 device",
    ),
    "rdma": Network(
        *(4.3, 9.0, 56.0),
        source="Al Maruf and Chowdhury, Leap, USENIX ATC 2020: 4.3 us a 4 KiB page over RDMA",
    ),
    "zram": Network(
        *(3.5, 12.0, 0.0),
        source="measured: swap on zram (lz4), p50 6.6 us a fault, 2.2-3.5 of them the kernel's",
    ),
    "redis-loopback": Network(
        *(36.0, 70.0, 0.0),
        source="measured: Redis 7 GET of 4 KiB on loopback with hiredis, 32-43 us",
    ),
    "nvme": Network(
        *(80.0, 160.0, 25.0),
        source="data sheets of datacentre TLC drives (Intel P4510): 77 us typical random read, "
        "3.2 GB/s",
    ),
    "ssd": Network(
        *(130.0, 500.0, 4.4),
        source="data sheets of SATA drives (Intel S4510): about 100-130 us at depth 1, 550 MB/s",
    ),
    "hdd": Network(
        *(12_000.0, 25_000.0, 1.6),
        source="7200 rpm drives: 8 ms seek and 4.2 ms half a turn, 200 MB/s",
    ),
    "tcp-az": Network(
        *(120.0, 400.0, 10.0),
        source="typical of two virtual machines in one availability zone; varies by cloud and size",
    ),
    "tcp-cross-az": Network(
        *(700.0, 1_800.0, 5.0),
        source="typical between zones of a region; 5 Gbit/s is EC2's limit for one flow",
    ),
}
"""Name -> network. "none" is no network at all."""


def network(spec: str | Mapping[str, Any]) -> Network | None:
    """The network of an experiment's [store] network: None for "none", else a preset or a table.

    A table needs p50_us; p99_us is p50_us unless given. Raises UsageError for an unknown
    name or values that cannot be.
    """
    if not isinstance(spec, str):
        table = dict(spec)
        if "p50_us" not in table:
            raise UsageError("network: a table needs p50_us; write { p50_us = 100, p99_us = 300 }")
        return Network(**{"p99_us": table["p50_us"], **table})
    if spec == "none":
        return None
    if spec not in NETWORKS:
        refuse_unknown("network", spec, ["none", *NETWORKS])
    return NETWORKS[spec]
