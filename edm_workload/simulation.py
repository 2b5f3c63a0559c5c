"""[sim]: the knobs of the simulated world that real memory has no counterpart for.

Real memory ignores the section. A duration is a number of microseconds, or a distribution:
"exp:MEAN", "uniform:LOW-HIGH", "lognormal:P50-P99", "pareto:LEAST-ALPHA".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edm_policy.errors import UsageError
from edm_workload.units import Size, parse_pages, refuse_unknown

Duration = float | int | str

PLACEMENTS = ("hash", "least", "local", "ring", "order")
READS = ("one", "first", "hedged")
TIMES = ("trace", "none")
FAILURES = {
    "crash": ("unit", "at_ms", "for_ms", "keep"),
    "slow": ("unit", "at_ms", "for_ms", "factor"),
    "stall": ("unit", "instance", "at_ms", "for_ms"),
    "partition": ("unit", "instance", "at_ms", "for_ms"),
    "spot": ("instance", "at_ms", "notice_ms", "away_ms"),
}
"""Kinds of failure and what each is told; see Sim.failures."""


@dataclass(frozen=True)
class Sim:
    """One instance with a Disc unless more is asked for.

    calibration  what the machine's own work costs: a file of `edm_real calibrate`, "default" (that
                 of the machine the simulator was made on) or "none": the cost table, as if nothing
                 is given
    think_ns     computing between two references, where the trace has no times (None: the
                 cost table's)
    times        "trace": the program computes between references as the trace says, where it has
                 times; "none": not, as a replay on real memory
    cores        of each instance; 0: one for every thread
    handlers     DM-Handler threads under faults = "monitor"
    spinning     such handlers poll: no wake-up, and each takes a core
    instances    each runs the workload; seeds (and so synthetic traces) differ by one
    shared       the instances share one region: pages are handed over through the DMS
    emus         memory units; 0: pages are on the Disc
    emu_pages    capacity of one EMU (0: no limit); what fits nowhere goes to the Disc
    emu_service  time of a page at an EMU, emu_servers at a time; or a table of those that are not
                 1.0: { 1 = "lognormal:200-20000", 2 = 5 }
    emu_network  between DMS and EMU, a preset or table as [store] network
    placement    of a page on EMUs: hash, least (loaded), local (neighbours together), ring
                 (consistent hashing, as the store striped:), order (EMU 1 first, as replicated:)
    replicas     EMUs that get each page
    read         one: the first replica that is up; first: ask all, take the first answer;
                 hedged: ask another one when the first has not answered after hedge_us
    dms          whether requests pass a DMS as a server of its own even with no EMU
    dml_service, dml_servers      the DMS's read side
    xpet_service, xpet_servers    its write side
    retry_us     a lost message is sent again after this, doubled each time
    deadline_ms  then the page's request fails: the page is poisoned, or stays resident
    failures     tables: kind = crash | slow | stall | partition | spot, at_ms, for_ms,
                 unit = K or instance = K; crash: keep = true restarts with its pages;
                 slow: factor; spot: notice_ms to flush, then away_ms until it resumes elsewhere
    """

    calibration: str | None = None
    think_ns: int | None = None
    times: str = "trace"
    cores: int = 0
    handlers: int = 1
    spinning: bool = False
    instances: int = 1
    shared: bool = False
    emus: int = 0
    emu_pages: Size = 0
    emu_service: Duration | dict[str, Duration] = 1.0
    emu_servers: int = 1
    emu_network: str | dict[str, float] = "none"
    placement: str = "hash"
    replicas: int = 1
    read: str = "one"
    hedge_us: float = 50.0
    dms: bool = False
    dml_service: Duration = 1.0
    dml_servers: int = 1
    xpet_service: Duration = 1.0
    xpet_servers: int = 1
    retry_us: float = 1000.0
    deadline_ms: float = 100.0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def service_of(self, emu: int) -> Duration:
        """emu_service of EMU 1 .. emus. Raises UsageError for a table with an EMU there is not."""
        if not isinstance(self.emu_service, Mapping):
            return self.emu_service
        services = {int(unit): duration for unit, duration in self.emu_service.items()}
        if unknown := [unit for unit in services if not 1 <= unit <= self.emus]:
            raise UsageError(f"emu_service: there is no EMU {unknown[0]}, only 1 to {self.emus}")
        return services.get(emu, 1.0)

    @property
    def rack(self) -> bool:
        """Whether requests go over a network of machines, and not to the next Disc."""
        several = self.instances > 1 or self.shared
        return self.dms or self.emus > 0 or several or bool(self.failures)


_LEAST = {
    **{"think_ns": 0, "cores": 0, "handlers": 1, "instances": 1, "emus": 0},
    **{"emu_servers": 1, "replicas": 1, "dml_servers": 1, "xpet_servers": 1},
}
_CHOICES = {"placement": PLACEMENTS, "read": READS, "times": TIMES}
_SERVICES = ("emu_service", "dml_service", "xpet_service")
_NUMBERS = ("hedge_us", "retry_us", "deadline_ms")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def check_sim(key: str, value: Any) -> None:
    """Refuse a value of the wrong kind or range, naming the key. Raises UsageError."""
    if key in _LEAST:
        if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[key]:
            raise UsageError(f"{key}: {value!r} must be a whole number from {_LEAST[key]} up")
    elif key == "calibration":
        if not isinstance(value, str) or not value:
            raise UsageError(f'calibration: {value!r} must be a file, "default" or "none"')
    elif key in ("spinning", "shared", "dms"):
        if not isinstance(value, bool):
            raise UsageError(f"{key}: {value!r} must be true or false")
    elif key == "emu_pages":
        parse_pages(value, base=2**32, what=key, least=0)
    elif key in _CHOICES:
        if value not in _CHOICES[key]:
            refuse_unknown(key, str(value), _CHOICES[key])
    elif key == "emu_service" and isinstance(value, Mapping):
        for unit, duration in value.items():
            if not str(unit).isdecimal():
                raise UsageError(f"emu_service: {unit!r} must be the number of an EMU, from 1 up")
            check_sim(key, duration)
    elif key in _SERVICES:
        if not _number(value) and not isinstance(value, str):
            raise UsageError(f'{key}: {value!r} must be microseconds or text such as "exp:2.0"')
    elif key in _NUMBERS:
        if not _number(value):
            raise UsageError(f"{key}: {value!r} must be a number from 0 up")
    elif key == "failures":
        for failure in value if isinstance(value, list) else [value]:
            _check_failure(failure)


def _check_failure(failure: Any) -> None:
    if not isinstance(failure, Mapping) or "kind" not in failure or "at_ms" not in failure:
        raise UsageError(f"failures: {failure!r} needs at least kind and at_ms")
    kind = failure["kind"]
    if kind not in FAILURES:
        refuse_unknown("failure", str(kind), FAILURES)
    for key, value in failure.items():
        if key == "kind":
            continue
        if key not in FAILURES[kind]:
            refuse_unknown(f"failure {kind}: key", key, FAILURES[kind])
        if key == "keep" and not isinstance(value, bool):
            raise UsageError(f"failure {kind}: keep must be true or false, not {value!r}")
        if key != "keep" and not _number(value):
            raise UsageError(f"failure {kind}: {key} must be a number from 0 up, not {value!r}")
