"""Eight threads, random pages, a control thread: no lost, stale or torn page. See stress.py.

EDM_STRESS_SECONDS: how long in all (60; 1800 by hand), half of it in each fault mode.
EDM_STRESS_SEED: chosen from the clock if it is not given, and printed when a run fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.child import ROOT

pytestmark = [pytest.mark.uffd, pytest.mark.slow]
SECONDS = float(os.environ.get("EDM_STRESS_SECONDS", "60"))
SEED = os.environ.get("EDM_STRESS_SEED", str(1 if os.environ.get("CI") else int(time.time())))


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_no_page_is_lost_stale_or_torn(faults: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stress", faults, str(SECONDS / 2), SEED],
        capture_output=True,
        text=True,
        timeout=SECONDS / 2 + 200,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"seed {SEED}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
