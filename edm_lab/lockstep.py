"""Lockstep: do both worlds decide the same, reference by reference?

One thread, eviction before the faulter goes on, the number of the reference as the
clock. The simulator and real memory must then write identical decision logs; the first
record in which they part is reported with what led to it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edm_real
import edm_sim
from edm_policy.log import describe, load_log
from edm_workload import Experiment


@dataclass(frozen=True)
class Lockstep:
    """One experiment in both worlds.

    records: length of the simulator's log. differs_at: index of the first record that is
    not the same, or None. digest: sha256 of the simulator's records, 12 hex digits.
    """

    workload: str
    evict: str
    observe: str
    records: int
    faults: int
    evictions: int
    digest: str
    differs_at: int | None
    context: str
    verified: bool | None
    logs: tuple[Path, Path]

    @property
    def identical(self) -> bool:
        return self.differs_at is None

    def row(self) -> dict[str, Any]:
        """A row of the table the command prints."""
        return {
            "workload": Path(self.workload).stem if "/" in self.workload else self.workload,
            "evict": self.evict,
            "observe": self.observe,
            "faults": self.faults,
            "evictions": self.evictions,
            "records": self.records,
            "sha256": self.digest,
            "identical": self.identical,
            "verified": self.verified,
        }


def first_difference(a: NDArray[Any], b: NDArray[Any]) -> int | None:
    """Index of the first record in which two logs part, or None."""
    n = min(len(a), len(b))
    unequal = np.flatnonzero(a[:n] != b[:n])
    if len(unequal):
        return int(unequal[0])
    return None if len(a) == len(b) else n


def lockstep(experiment: Experiment, folder: Path) -> Lockstep:
    """Runs the experiment in both worlds in lockstep; logs go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    experiment = experiment.with_(lockstep=True, threads=1)
    name = f"{experiment.workload.trace}-{experiment.policy.evict}"
    stem = "".join(c if c.isalnum() or c in ".-" else "_" for c in Path(name).name)
    paths = folder / f"{stem}.sim.log", folder / f"{stem}.real.log"
    simulated = edm_sim.run(experiment, log=paths[0])
    real = edm_real.run(experiment, log=paths[1])
    a, b = load_log(paths[0])[1], load_log(paths[1])[1]
    at = first_difference(a, b)
    return Lockstep(
        workload=experiment.workload.trace,
        evict=experiment.policy.evict,
        observe=simulated.observe,
        records=len(a),
        faults=simulated.faults,
        evictions=simulated.evictions,
        digest=hashlib.sha256(a.tobytes()).hexdigest()[:12],
        differs_at=at,
        context="" if at is None else _context(a, b, at),
        verified=real.verified,
        logs=paths,
    )


def _context(a: NDArray[Any], b: NDArray[Any], at: int) -> str:
    """The records before the parting, and the two that differ."""
    lines = [f"  {i:>8}  both  {describe(a[i])}" for i in range(max(0, at - 4), at)]
    for name, log in (("sim", a), ("real", b)):
        lines.append(f"  {at:>8}  {name:<4}  {describe(log[at]) if at < len(log) else '(ended)'}")
    return "\n".join(lines)
