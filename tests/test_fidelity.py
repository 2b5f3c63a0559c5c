"""The simulator against real memory: that the model does not get worse, and runs replay.

Counts are held strictly. Times only grossly, and as ratios to the real runs' repeat error: a
machine under test is no quiet one. fidelity.json has the bounds; docs/fidelity.md the figures of
a quiet machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edm_policy import load_log, replay, save_log

pytestmark = pytest.mark.uffd
BOUNDS = json.loads(Path(__file__).with_name("fidelity.json").read_text())
SIZE = ["--pages", "8192", "--refs", "60000"]


def command(*args: str, code: int = 0, timeout: float = 300) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *args], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "c.json"
    said = command("edm_real", "calibrate", "--quick", "-o", str(path), "--quiet")
    assert "repeat error" in said and "mem: get" in said
    return path


@pytest.mark.parametrize(
    "options",
    [
        ["--trace", "zipf:1.0"],
        ["--trace", "uniform", "--evict", "fifo", "--threads", "2"],
        ["--trace", "phases", "--store", "file:"],
    ],
    ids=lambda options: "-".join(options[1::2]),
)
def test_the_model_is_no_worse_than_it_was(
    calibration: Path, tmp_path: Path, options: list[str]
) -> None:
    out = tmp_path / "out.json"
    said = command(
        *("edm_lab", "compare", *options, *SIZE, "--repeats", "3", "-o", str(out)),
        *("--calibration", str(calibration), "--plot", str(tmp_path / "plot.png")),
    )
    assert "where the time went" in said and str(calibration) in said
    assert (tmp_path / "plot.png").stat().st_size > 5000
    runs = json.loads(out.read_text())["results"]
    sim = [r for r in runs if r["driver"] == "sim"]
    real = [r for r in runs if r["driver"] == "real"]
    assert len(sim) == 1 and len(real) == 3 and all(r["verified"] for r in real)
    for name in ("faults", "evictions", "writebacks"):
        values = np.array([r[name] for r in real], float)
        spread = np.ptp(values) / 2
        error = abs(sim[0][name] - np.median(values))
        bound = BOUNDS["counts_of_threads" if "--threads" in options else "counts"]
        assert error <= max(bound * np.median(values), 2 * spread), (name, values)
    elapsed = np.array([r["elapsed_s"] for r in real])
    error = abs(sim[0]["elapsed_s"] / np.median(elapsed) - 1)
    repeat = np.ptp(elapsed) / 2 / np.median(elapsed)
    others = json.loads(calibration.read_text())["metadata"]["others"]
    if others > BOUNDS["others"]:
        return  # other programs took the cores while it was calibrated: times mean nothing
    bound = max(BOUNDS["elapsed_grossly"], BOUNDS["elapsed_over_repeat"] * repeat)
    assert error <= bound, f"elapsed {error:.0%} off, repeat error {repeat:.0%}"


def test_the_log_of_eight_threads_replays_to_the_same_commands(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    command(
        *("edm_real", "replay", "zipf:1.0", "--pages", "2048", "--refs", "60000", "--quiet"),
        *("--threads", "8", "--local", "20%", "--log", str(log)),
    )
    said = command("edm_lab", "replay-log", str(log))
    config, records, head = load_log(log)
    assert head["threads"] == 8 and len(records) > 50_000
    assert "yes" in said and f"{len(records):,}" in said

    # A decision that was changed is found, and shown.
    changed = records.copy()
    evictions = np.flatnonzero(changed["kind"] == 0x80 | 12)
    at = int(evictions[len(evictions) // 2])
    changed["page"][at] ^= 1
    assert replay(config, changed)[0] == at
    save_log(tmp_path / "changed.log", config, changed, driver="real", workload="zipf:1.0")
    said = command("edm_lab", "replay-log", str(tmp_path / "changed.log"), code=1)
    assert f"parts at record {at}" in said and "EVICT" in said
    (tmp_path / "no.log").write_text("nothing\n")
    assert "not a decision log" in command(
        "edm_lab", "replay-log", str(tmp_path / "no.log"), code=1
    )
