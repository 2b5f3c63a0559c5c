"""tune: one seed is one search, what it finds can run, and the gains are what was measured."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import edm_sim
from edm_lab.tune import Bound, Candidate, Tuned, tune
from edm_lab.tune_command import summary
from edm_lab.tune_space import at_limit, marks, tunable_evictors
from edm_policy import UsageError, evictors
from edm_workload import Experiment, Result

SMALL = Experiment.from_options(trace="phases", pages=400, refs=4000, local="25%")
SEARCH = {"trials": 24, "real": False, "jobs": 1}


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edm_lab", "tune", *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )


def test_one_seed_is_one_search_with_any_number_of_workers():
    one = tune(SMALL, "elapsed", **SEARCH)
    assert one.trials == tune(SMALL, "elapsed", **{**SEARCH, "jobs": 2}).trials
    assert one.trials != tune(SMALL, "elapsed", **SEARCH, seed=2).trials
    assert one.trials[0]["evict"] == tunable_evictors()[0]  # every evictor plain, first


def test_best_is_the_best_of_what_was_simulated_and_every_kind_once():
    tuned = tune(SMALL, "elapsed", **SEARCH)
    values = [t["value"] for t in tuned.trials if t["value"] is not None]
    assert tuned.winner.predicted == min(values) < tuned.default.predicted
    assert len({c.kind for c in tuned.best}) == len(tuned.best) == 3
    again = edm_sim.run(tuned.winner.experiment)
    assert again.elapsed_s == tuned.winner.predicted
    assert tuned.predicted_gain == 1 - again.elapsed_s / edm_sim.run(SMALL).elapsed_s


def test_knobs_that_are_kept_stay_as_given():
    base = SMALL.with_(evict="sieve", prefetch="nextn:max=8", batch=32)
    tuned = tune(base, "p99", **SEARCH, keep=("evict", "prefetch", "watermarks"))
    for candidate in tuned.best:
        policy = candidate.experiment.policy
        assert (policy.evict, policy.prefetch) == ("sieve", "nextn:max=8")
        assert policy.high is None and policy.low is None


def test_observations_are_those_real_memory_can_give():
    assert marks("fifo") == ["faults"] and marks("lru") == ["idle"]
    assert marks("s3fifo") == ["idle", "faults"]
    for name in tunable_evictors():
        assert "exact" not in marks(name) and evictors()[name].needs in marks(name)


def test_local_is_the_least_that_keeps_the_bound():
    bound = Bound.parse("faults=40%")
    tuned = tune(SMALL, "local", bound=bound, **SEARCH)
    step = 400 // 200
    for candidate in (tuned.default, tuned.winner):
        limit = candidate.experiment.resolve().limit
        here = edm_sim.run(candidate.experiment)
        below = edm_sim.run(at_limit(candidate.experiment, limit - step))
        assert here.faults <= 0.4 * here.refs < below.faults
    assert tuned.winner.predicted < tuned.default.predicted


def test_local_without_a_bound_is_no_slower_than_the_experiment_as_given():
    tuned = tune(SMALL, "local", **SEARCH)
    given = edm_sim.run(SMALL)
    assert edm_sim.run(tuned.winner.experiment).elapsed_s <= given.elapsed_s
    assert tuned.default.predicted == given.limit > tuned.winner.predicted


def test_ctrl_c_ends_the_search_and_keeps_the_best_so_far():
    told = []

    def progress(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            signal.raise_signal(signal.SIGINT)

    tuned = tune(SMALL, "elapsed", trials=1000, real=False, jobs=1, progress=progress)
    assert tuned.stopped == "search" and len(tuned.trials) == 8
    assert "Ctrl-C" in summary(tuned) and tuned.best


def test_ctrl_c_before_the_first_point_is_ctrl_c(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["edm_lab.tune"], "simulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(SMALL, "elapsed", trials=4, real=False, jobs=1)


def test_ctrl_c_during_the_measurement_keeps_what_was_measured(monkeypatch):
    left = [None] * 5

    def run(experiment: Experiment) -> Result:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return replace(edm_sim.run(experiment), driver="real", verified=True)

    monkeypatch.setattr("edm_real.run", run)
    tuned = tune(SMALL, "elapsed", trials=12, jobs=1, few=2, repeats=3)
    assert tuned.stopped == "measurement"
    assert [len(c.measured) for c in (tuned.default, *tuned.best)] == [2, 2, 1]
    assert tuned.measured_gain == tuned.predicted_gain > 0


def test_gains_are_of_medians_and_the_winner_is_the_best_measured():
    def candidate(predicted: float, *measured: float) -> Candidate:
        return Candidate(SMALL, predicted, list(measured))

    tuned = Tuned("elapsed", None, candidate(10, 20, 22, 99), [], [], 1)
    tuned.best = [candidate(5, 18, 19, 30), candidate(6, 11, 1, 12)]
    assert tuned.winner is tuned.best[1]
    assert tuned.predicted_gain == pytest.approx(0.4)
    assert tuned.measured_gain == pytest.approx(0.5)
    assert "(1.25 of it)" in summary(tuned)
    tuned.best[1].measured = [23.0]
    tuned.best[0].measured = [23.0]
    assert tuned.winner is tuned.default and "nothing better" in summary(tuned)


@pytest.mark.parametrize(
    ("text", "bound"),
    [("slowdown=1.5", Bound("slowdown", 1.5)), ("faults=5%", Bound("faults", 0.05))],
)
def test_bounds_are_read(text, bound):
    assert Bound.parse(text) == bound


@pytest.mark.parametrize("text", ["slowdown", "faults=0", "speed=2", "faults=some"])
def test_bad_bounds_are_refused(text):
    with pytest.raises(UsageError):
        Bound.parse(text)


def test_usage_errors_are_one_line(tmp_path):
    for args in (("--bound", "slowdown=2"), ("--keep", "evcit"), ("--trials", "0")):
        done = command("--simulate-only", "--trace", "loop", *args, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert not list(tmp_path.iterdir())


@pytest.mark.uffd
def test_command_measures_and_writes_the_winner(tmp_path):
    sizes = ("--trace", "phases", "--pages", "1024", "--refs", "20000")
    search = ("--trials", "20", "--repeats", "2", "--best", "2", "--jobs", "1", "--quiet")
    search += ("--calibration", "default")
    done = command(*sizes, *search, "--toml", "w.toml", "-o", "w.json", cwd=tmp_path)
    assert done.returncode == 0
    assert not re.sub(r"warning: calibrated.*\n", "", done.stderr)
    assert re.search(r"predicted gain \d+\.\d%, measured gain -?\d+\.\d%", done.stdout) or (
        "nothing better" in done.stdout
    )
    winner = Experiment.load(tmp_path / "w.toml")
    assert winner.workload == SMALL.with_(refs=20000).workload
    from edm_workload.result import load_document

    results, metadata = load_document(tmp_path / "w.json")
    assert len(results) == 3 * (1 + 2) and all(r.verified for r in results if r.driver == "real")
    chosen = next(c for c in metadata["tune"]["candidates"] if c["winner"])
    assert Experiment.from_tables(chosen["experiment"]).policy == winner.policy
