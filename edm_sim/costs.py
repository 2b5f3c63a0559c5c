"""What a fault and an eviction cost on the machine itself, apart from store and network.

The defaults are the medians of docs/measurements.md (Linux 6.18, two virtual x86-64 cores,
calm): one number each, whatever goes on beside. Trust their ratios: on a loaded machine waking
a thread costs a tenth of what it does here, and everything else more. Costs.of(calibration)
draws from what was measured on a machine instead.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from edm_policy.errors import UsageError
from edm_workload import Experiment
from edm_workload.calibration import ALONE, SAME, Calibration, Speed, load, mean_of, usual
from edm_workload.units import refuse_unknown


@dataclass(frozen=True)
class Costs:
    """All in nanoseconds.

    between_ns        what the program does for a reference that faults, outside of its latency
    between_near_ns   the same on the page after the last one
    think_ns          one reference, where the trace has no times (calibrated: one that hits)
    upcall_ns         touch to the first line of the SIGBUS handler (2.0 us)
    upcall_return_ns  from the handler back, and the access again (0.45 us)
    monitor_ns        touch to a sleeping handler thread pinned to the same core; with install_ns
                      and monitor_return_ns the 6.1-6.5 us of such a fault
    monitor_busy_ns   the same when the handler is awake already: it reads the next message
    monitor_return_ns waking the faulting thread from UFFDIO_COPY
    decide_ns         one event of the state machine, lock included
    zero_ns           installing a page of zeros (UFFDIO_COPY: 1.15 us)
    install_ns        UFFDIO_COPY of a page that was fetched, and its checksum
    rescue_ns         UFFDIO_COPY of a page from its buffer in the stash
    allow_write_ns    lifting write-protection of one page (0.67 us)
    evict_ns          taking a mapped page out and its bytes into a buffer: vmsplice, MADV_DONTNEED,
                      readv, in batches (0.91-0.96 us); a mark is the same work
    drop_ns           taking out a mapped page that is clean: MADV_DONTNEED (0.55 us)
    batch_ns          once for each batch of these: the system calls themselves
    tlb_ns            the same, if threads run meanwhile: their cores are interrupted to flush their
                      TLBs, which takes each of them, and who waits for it, so long (about 10 us)
    wake_ns           waking a sleeping thread on another core (LPET, a waiting thread)
    ring_ns           what that costs the one who wakes it; nothing while LPET sleeps by the clock
    nap_ns            LPET's shortest nap by the clock (25 us of it asked for)
    spin_ns           who waits for a page in somebody's hands keeps its core so long

    calibration: then all of these are its means (or unused, as it knows what costs depend on),
    and the simulator draws from it, at `speed` times its own.
    """

    think_ns: int = 20
    between_ns: int = 0
    between_near_ns: int = 0
    upcall_ns: int = 2_000
    upcall_return_ns: int = 450
    monitor_ns: int = 3_300
    monitor_busy_ns: int = 1_500
    monitor_return_ns: int = 1_800
    decide_ns: int = 150
    zero_ns: int = 1_150
    install_ns: int = 1_500
    rescue_ns: int = 1_150
    allow_write_ns: int = 670
    evict_ns: int = 950
    drop_ns: int = 550
    batch_ns: int = 1_000
    tlb_ns: int = 10_000
    wake_ns: int = 50_000
    ring_ns: int = 0
    nap_ns: int = 30_000
    spin_ns: int = 30_000
    calibration: Calibration | None = None
    speed: Speed = SAME

    @classmethod
    def of(cls, calibration: Calibration, speed: Speed = SAME) -> Costs:
        """What a calibration says; speed: of the machine now, against that of then."""
        alone = {k: usual(by) for k, by in calibration.faults.items()}
        told = alone["conclude"]
        means = {
            "think_ns": calibration.hit[len(calibration.hit) // 2][1],
            "between_ns": calibration.between_ns,
            "between_near_ns": calibration.between_near_ns,
            "upcall_ns": alone["arrive"],
            "upcall_return_ns": alone["return"],
            "decide_ns": alone["lock"] + alone["decide"],
            "zero_ns": alone["zero"] + told,
            "install_ns": alone["check"] + alone["install"] + told,
            "rescue_ns": alone["rescue"] + told,
            "allow_write_ns": alone["protect"] + told,
            "wake_ns": mean_of(calibration.late),
            "ring_ns": alone["wake"],
            "nap_ns": mean_of(calibration.nap),
            "spin_ns": calibration.spin_ns,
        }
        if calibration.monitor:
            for name, ways in (
                ("monitor_ns", calibration.monitor["arrive"]),
                ("monitor_return_ns", calibration.monitor["return"]),
            ):
                means[name] = mean_of(ways[ALONE if ALONE in ways else "here"])
        whole = {name: round(ns * speed.alone) for name, ns in means.items()}
        # What threads cost one another is in what was measured beside them.
        return replace(cls(), **whole, tlb_ns=0, calibration=calibration, speed=speed)

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name in ("calibration", "speed"):
                continue
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"costs: {f.name} must be whole nanoseconds from 0 up")

    def reclaim_ns(self, out: int, dropped: int) -> int:
        """A batch that takes `out` pages into buffers and drops `dropped` clean ones."""
        pages = out * self.evict_ns + dropped * self.drop_ns
        return pages + self.batch_ns if pages else 0


@dataclass(frozen=True)
class StoreCosts:
    """Service of one page by a store: get, and put as one of a batch; ns.

    measured: get, put and new of a calibration (see there), at `speed` times its own.
    """

    get_ns: int
    put_ns: int
    source: str = ""
    remote: bool = False  # who waits for it is off the core
    measured: dict[str, Any] | None = None
    speed: Speed = SAME
    quick: bool = False  # asked again rather than a clean page's bytes kept
    places: bool = False  # pages are read straight to where they are stored


STORE_COSTS: dict[str, StoreCosts] = {
    "mem": StoreCosts(
        200,
        200,
        "a copy of 4 KiB (docs/measurements.md: memcpy 0.15-0.19 us)",
        quick=True,
        places=True,
    ),
    "file": StoreCosts(2_500, 3_000, "pread and pwrite of 4 KiB in the page cache"),
    "zstd+mem": StoreCosts(
        6_000, 12_000, "zstd level 1 of half-compressible pages, and the copy", quick=True
    ),
    "redis": StoreCosts(
        36_000, 9_500, "Redis 7 on loopback: GET 32-43 us, SET pipelined by 32", True
    ),
}
"""By a store URL's scheme: what the store itself costs, without [store] network."""


DEFAULT_CALIBRATION = Path(__file__).with_name("calibration.json")


def costs_of(experiment: Experiment) -> Costs:
    """What an experiment's [sim] calibration says. Raises EdmError for a file that is none."""
    named = experiment.sim.calibration
    if named is None or named == "none":
        return Costs()
    return Costs.of(load(DEFAULT_CALIBRATION if named == "default" else named))


def store_costs(url: str, costs: Costs | None = None) -> StoreCosts:
    """For a store URL: a calibration's, where it knows this store. Raises UsageError for a scheme
    that has no costs here."""
    scheme, places = url.partition(":")[0], "placed=0" not in url
    if scheme not in STORE_COSTS and scheme.startswith(("redis", "valkey")):
        scheme = "redis"
    calibration = costs.calibration if costs else None
    if costs and calibration and scheme in calibration.stores:
        found = calibration.stores[scheme]
        size, ns = found["put"]["sizes"][-1]
        return StoreCosts(
            round(usual(found["get"]) * costs.speed.alone),
            round(ns / size * costs.speed.alone),
            calibration.name(),
            measured=found,
            speed=costs.speed,
            quick=scheme in STORE_COSTS and STORE_COSTS[scheme].quick,
            places=places and scheme in STORE_COSTS and STORE_COSTS[scheme].places,
        )
    if scheme in STORE_COSTS:
        known = STORE_COSTS[scheme]
        return replace(known, places=places and known.places)
    refuse_unknown("store", url, [f"{s}:" for s in STORE_COSTS])
