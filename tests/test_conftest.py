"""The rules that conftest.py makes for every test: skips with a reason, and none too many in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.mark.uffd
def test_pages():
    pytest.skip("not today")
"""


def run(tmp_path: Path, answer: str | None, **env: str) -> str:
    """Those tests under our conftest.py, beside a doctor that gives `answer`."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "edm_real").mkdir()
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path / "tests")
    (tmp_path / "tests" / "test_x.py").write_text(TESTS)
    (tmp_path / "edm_real" / "__init__.py").touch()
    (tmp_path / "edm_real" / "doctor.py").write_text(f"def ready(what): return {answer!r}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = uffd\n")
    base = {k: v for k, v in os.environ.items() if k != "CI"}
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**base, "PYTHONPATH": str(tmp_path), **env},
    )
    return child.stdout + child.stderr


def test_a_skip_in_ci_where_the_doctor_says_ready_is_a_failure(tmp_path: Path) -> None:
    out = run(tmp_path, None, CI="true")
    assert "1 failed" in out and "skipped in CI although userfaultfd is ready: " in out
    assert "not today" in out


def test_a_skip_at_home_is_a_skip(tmp_path: Path) -> None:
    assert "1 skipped" in run(tmp_path, None)


def test_what_the_doctor_misses_is_skipped_with_his_reason(tmp_path: Path) -> None:
    out = run(tmp_path, "no userfaultfd here", CI="true")
    assert "1 skipped" in out and "no userfaultfd here" in out


def test_a_stale_extension_is_told_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "edm_policy" / "c").mkdir(parents=True)
    (tmp_path / "edm_policy" / "_core.so").touch()
    os.utime(tmp_path / "edm_policy" / "_core.so", (1, 1))
    (tmp_path / "edm_policy" / "c" / "pager.c").touch()
    out = run(tmp_path, None)
    assert "extension is older than edm_policy/c/pager.c: run make setup" in out
