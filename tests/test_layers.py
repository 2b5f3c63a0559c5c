"""Imports point one way: edm_policy <- edm_workload <- {edm_sim, edm_real} <- edm_lab."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "edm_policy": {"edm_policy"},
    "edm_workload": {"edm_policy", "edm_workload"},
    "edm_sim": {"edm_policy", "edm_workload", "edm_sim"},
    "edm_real": {"edm_policy", "edm_workload", "edm_real"},
    "edm_lab": {"edm_policy", "edm_workload", "edm_sim", "edm_real", "edm_lab"},
}
# The policy decides and does nothing else: no clock, no thread, no network, no driver.
NOT_IN_POLICY = {"asyncio", "multiprocessing", "random", "simpy", "socket", "subprocess"}
NOT_IN_POLICY |= {"threading", "time"}


def imports(text: str) -> Iterator[str]:
    """The top-level names of every module that Python source `text` imports, wherever it does."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def imported_by(package: str) -> set[tuple[str, str]]:
    files = (ROOT / package).rglob("*.py")
    return {(str(f.relative_to(ROOT)), name) for f in files for name in imports(f.read_text())}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    assert (ROOT / package / "__init__.py").exists()
    others = MAY_IMPORT.keys() - MAY_IMPORT[package]
    wrong = {(f, name) for f, name in imported_by(package) if name in others}
    assert not wrong


def test_the_policy_layer_does_no_io() -> None:
    assert not {(f, name) for f, name in imported_by("edm_policy") if name in NOT_IN_POLICY}


def test_the_policy_layers_c_calls_no_clock_thread_or_allocator_on_its_path() -> None:
    """make.c and shards.c allocate, when a thing is made; only pager.c's abort message prints."""
    for source in sorted((ROOT / "edm_policy" / "c").glob("*.[ch]")):
        text = source.read_text()
        for word in ("pthread", "<time.h>", "clock_gettime", "<unistd.h>", "<sys/"):
            assert word not in text, f"{source.name} uses {word}"
        if source.name not in ("make.c", "shards.c"):
            for word in ("malloc(", "calloc(", "realloc("):
                assert word not in text, f"{source.name} allocates"


def test_only_edm_real_needs_linux() -> None:
    for package in ("edm_policy", "edm_workload", "edm_sim"):
        assert not {f for f, name in imported_by(package) if name in {"fcntl", "mmap", "resource"}}


def test_the_walk_sees_an_import_inside_of_a_function() -> None:
    assert list(imports("def f():\n    from edm_real.region import Region\n")) == ["edm_real"]


def test_a_program_with_a_region_does_not_wait_for_pandas() -> None:
    """They take half a second to import, and few programs with a region use what needs them."""
    heavy = ["pandas", "pyarrow", "matplotlib", "rich", "simpy"]
    code = f"import edm_real, sys; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "\n"
