"""traces/: every file is what its MANIFEST says, and every trace is in it."""

import hashlib
import tomllib
from pathlib import Path

import pytest

from edm_workload import Trace

FOLDER = Path(__file__).resolve().parents[1] / "traces"
MANIFEST = tomllib.loads((FOLDER / "MANIFEST").read_text())


def test_every_trace_is_listed_and_every_listed_trace_is_there():
    assert {p.name for p in FOLDER.glob("*.parquet")} == set(MANIFEST)


@pytest.mark.parametrize("name", MANIFEST)
def test_a_trace_is_what_the_manifest_says(name):
    entry, trace = MANIFEST[name], Trace.load(FOLDER / name)
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == entry["sha256"]
    assert len(trace) == entry["records"]
    assert trace.references == entry["references"]
    assert trace.references - len(trace) == entry["folded"]
    assert trace.footprint == entry["footprint_pages"]
    assert int(trace.t_ns[-1]) <= entry["instructions"]
    assert abs(trace.write.mean() - entry["write_share"]) < 0.0005
    assert trace.metadata["k"] == entry["k"]
    assert trace.metadata["reduction"] == entry["reduction"]
    assert trace.metadata["exit_code"] == 0


@pytest.mark.parametrize("name", MANIFEST)
def test_the_command_that_made_it_is_there(name):
    script = FOLDER.parent / MANIFEST[name]["command"]
    assert script.stat().st_mode & 0o100
    assert name in script.read_text()


@pytest.mark.parametrize("name", MANIFEST)
def test_times_never_decrease(name):
    trace = Trace.load(FOLDER / name)
    assert (trace.t_ns[1:] >= trace.t_ns[:-1]).all()
