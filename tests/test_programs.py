"""The benchmark programs give the same result over paged memory as over plain memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIZE, LOCAL = 16 << 20, 1024


def child(name: str, kind: str) -> dict[str, object]:
    command = [sys.executable, "benchmarks/programs.py", "--child", name, kind, str(SIZE)]
    done = subprocess.run(
        [*command, str(LOCAL), "", "stride"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.uffd
@pytest.mark.parametrize("name", ["sort", "matmul", "groupby"])
def test_a_program_gives_one_result_wherever_its_arrays_are(name: str) -> None:
    digests = {str(child(name, kind)["digest"]) for kind in ("plain", "mem:", "file:")}
    assert len(digests) == 1
