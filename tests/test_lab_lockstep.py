"""Both worlds decide the same, reference by reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.uffd

from edm_lab.compare_command import observations  # noqa: E402
from edm_lab.lockstep import first_difference, lockstep  # noqa: E402
from edm_policy import evictors, prefetchers  # noqa: E402
from edm_policy.log import RECORD  # noqa: E402
from edm_workload import Experiment  # noqa: E402
from edm_workload.trace import bundled_trace  # noqa: E402

SMALL = {"pages": 1024, "refs": 8000, "local": "25%"}
PAIRS = [(name, observe) for name in evictors() for observe in observations(name)]


@pytest.mark.parametrize(("evict", "observe"), PAIRS)
@pytest.mark.parametrize("trace", ["zipf:1.0", "loop", "phases"])
def test_identical_logs(tmp_path: Path, trace: str, evict: str, observe: str) -> None:
    e = Experiment.from_options(trace=trace, evict=evict, observe=observe, **SMALL)
    same = lockstep(e, tmp_path)
    assert same.identical, same.context
    assert same.records > 8000
    assert same.verified


@pytest.mark.parametrize("faults", ["upcall", "monitor"])
@pytest.mark.parametrize("store", ["mem:", "file:"])
def test_identical_logs_on_the_real_trace(tmp_path: Path, faults: str, store: str) -> None:
    e = Experiment.from_options(
        trace=str(bundled_trace()), refs=20_000, local="10%", faults=faults, store=store
    )
    same = lockstep(e, tmp_path)
    assert same.identical, same.context
    assert same.evictions > 1000


@pytest.mark.parametrize("prefetch", [name for name in prefetchers() if name != "none"])
@pytest.mark.parametrize("trace", ["loop", "zipf:1.0"])
def test_identical_logs_with_prefetching(tmp_path: Path, trace: str, prefetch: str) -> None:
    e = Experiment.from_options(trace=trace, prefetch=prefetch, **SMALL)
    same = lockstep(e, tmp_path)
    assert same.identical, same.context


def test_identical_logs_under_auto_limits_and_always_dirty(tmp_path: Path) -> None:
    e = Experiment.from_options(
        trace="phases", dirty="always", auto_min=64, auto_target=20_000, auto_interval=2000, **SMALL
    )
    same = lockstep(e, tmp_path)
    assert same.identical, same.context


def test_a_difference_is_found_where_it_is() -> None:
    log = np.zeros(10, RECORD)
    other = log.copy()
    assert first_difference(log, other) is None
    other["page"][7] = 1
    assert first_difference(log, other) == 7
    assert first_difference(log, log[:4]) == 4
