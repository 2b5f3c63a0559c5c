"""Policies in Python on real memory: the simulator's decisions, and errors that cost no page."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from child import ROOT, passes

pytestmark = pytest.mark.uffd


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    """mine.py can be imported in children, too."""
    path = f"{ROOT / 'tests'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.mark.parametrize("spec", ["SecondChance", "Lru"])
@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_lockstep_logs_of_both_worlds_are_the_same(tmp_path, spec, faults):
    passes(
        """
        from pathlib import Path
        from edm_lab.lockstep import lockstep
        from edm_policy.log import load_log, replay
        from edm_workload import Experiment
        spec, faults, folder = sys.argv[1:]
        experiment = Experiment.from_options(trace="zipf:1.0", pages=600, refs=8000, local="25%",
                                             evict=spec, prefetch="mine:Next", faults=faults)
        done = lockstep(experiment, Path(folder))
        assert done.identical, done.context
        assert done.verified and done.evictions > 1000, done
        config, records, _ = load_log(done.logs[1])
        assert config.evict == spec, config
        assert replay(config, records)[0] == len(records)
        """,
        f"mine:{spec}",
        faults,
        str(tmp_path),
    )


def test_decides_as_its_twin_in_c_on_real_memory(tmp_path):
    passes(
        """
        import edm_real
        from pathlib import Path
        from edm_policy.log import load_log
        from edm_workload import Experiment
        base = Experiment.from_options(trace="zipf:1.0", pages=600, refs=8000, local="25%",
                                       lockstep=True)
        logs = []
        for evict in ("lpet:adapt=0", "mine:SecondChance"):
            result = edm_real.run(base.with_(evict=evict), log=Path(sys.argv[1]) / "log")
            assert result.verified and result.evict == evict
            logs.append(load_log(Path(sys.argv[1]) / "log")[1].tobytes())
        assert logs[0] == logs[1]
        """,
        str(tmp_path),
    )


@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_threads_that_fault_and_one_that_computes_do_not_block_each_other(faults):
    """Four C threads and LPET call hooks while Python threads hold the interpreter's lock."""
    passes(
        """
        import edm_real
        from edm_workload import Experiment
        over = threading.Event()
        def compute():
            while not over.is_set():
                sum(range(5000))
        busy = [threading.Thread(target=compute) for _ in range(2)]
        for t in busy: t.start()
        try:
            result = edm_real.run(Experiment.from_options(
                trace="uniform", pages=400, refs=300, threads=4, local="25%", faults=sys.argv[1],
                evict="mine:SecondChance", prefetch="mine:Next"))
        finally:
            over.set()
        assert result.verified and result.evictions > 60, result
        """,
        faults,
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("Breaks", "AttributeError: 'Breaks' object has no attribute 'no_such_thing' (in choose, "),
        ("BreaksOnInsert", "KeyError: 'seventeen' (in insert, "),
        ("Lies", "ValueError: Lies.choose() returned 3: not resident"),
    ],
)
@pytest.mark.parametrize("threads", [1, 4])
def test_error_in_a_hook_ends_the_run_and_loses_no_page(spec, said, threads):
    passes(
        """
        import time
        from edm_policy import PolicyError
        from edm_real.region import ReplayRegion
        spec, said, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
        pages = np.random.default_rng(1).integers(0, 400, 2_000_000).astype(np.uint32)
        writes = np.ones(len(pages), np.uint8)
        with ReplayRegion(400, local=100, evict=spec) as region:
            begin = time.monotonic()
            try:
                region.replay(pages, writes, threads=threads)
            except PolicyError as error:
                assert said in str(error) and "\\n" not in str(error), error
                assert error.__cause__ is not None
            else:
                raise AssertionError("the run went on")
            assert time.monotonic() - begin < 3
            assert region.lost_pages == 0 and region.check()
            region.prefault(slice(0, 50))  # it still pages
        """,
        f"mine:{spec}",
        said,
        str(threads),
    )


def test_start_that_raises_is_one_error_and_leaves_nothing():
    passes(
        """
        from edm_policy import PolicyError
        from edm_real.region import ReplayRegion
        before = len(os.listdir("/proc/self/task"))
        try:
            ReplayRegion(400, local=100, evict="mine:NeverStarts")
        except PolicyError as error:
            assert "ValueError: no (in start, " in str(error), error
        else:
            raise AssertionError("it was made")
        assert len(os.listdir("/proc/self/task")) == before
        """
    )


def test_policy_that_finds_no_victim_ends_the_run_at_the_deadline():
    passes(
        """
        from edm_policy import EdmError
        import edm_real.run
        from edm_real.region import ReplayRegion
        from edm_workload import Experiment
        class Impatient(ReplayRegion):
            def __init__(self, *args, **kw):
                super().__init__(*args, **kw, deadline_s=0.2)
        edm_real.run.__globals__["ReplayRegion"] = Impatient
        try:
            edm_real.run(Experiment.from_options(trace="seq", pages=102, refs=102, local=100,
                                                 evict="mine:Nobody"))
        except EdmError as error:
            assert "mine:Nobody chose none" in str(error), error
        else:
            raise AssertionError("it found room")
        """
    )


def test_general_regions_refuse_them_with_one_line():
    passes(
        """
        try:
            Region(400, local=100, evict="mine:SecondChance")
        except UsageError as error:
            assert "edm_real.run()" in str(error) and "\\n" not in str(error)
        else:
            raise AssertionError("it was made")
        from edm_real.region import ReplayRegion
        with ReplayRegion(400, local=100) as region:
            for reach in (lambda: region.array(np.uint8, 10), region.memoryview):
                try:
                    reach()
                except UsageError:
                    continue
                raise AssertionError("a Python thread could fault there")
        """
    )


def test_command_line_takes_one_and_says_its_errors_in_one_line(tmp_path):
    def edm(*args: str) -> subprocess.CompletedProcess[str]:
        common = ("--pages", "400", "--refs", "4000", "--local", "25%", "--quiet")
        return subprocess.run(
            [sys.executable, "-m", "edm_real", *args, *common],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )

    out = tmp_path / "out.json"
    good = edm(
        "bench",
        "--trace",
        "uniform",
        "--faults",
        "upcall",
        "--store",
        "mem:",
        "--evict",
        "mine:SecondChance",
        "-o",
        str(out),
    )
    assert good.returncode == 0, good.stderr
    assert json.loads(out.read_text())["results"][-1]["evict"] == "mine:SecondChance"
    bad = edm("replay", "uniform", "--evict", "mine:Breaks")
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: policy Breaks: AttributeError"), bad.stderr
    assert bad.stderr.count("\n") == 1, bad.stderr
    wrong = edm("replay", "uniform", "--evict", "mine:Nothing")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr


def test_simulator_ends_with_the_same_error():
    passes(
        """
        import edm_sim
        from edm_policy import PolicyError
        from edm_workload import Experiment
        base = Experiment.from_options(trace="uniform", pages=400, refs=8000, local="25%")
        for more in ({}, {"lockstep": True}, {"threads": 3}, {"instances": 2}):
            for spec in ("mine:Breaks", "mine:BreaksOnInsert"):
                try:
                    edm_sim.run(base.with_(evict=spec, **more))
                except PolicyError:
                    continue
                raise AssertionError((more, spec))
            assert edm_sim.run(base.with_(evict="mine:SecondChance", **more)).evictions > 1000
        """
    )
