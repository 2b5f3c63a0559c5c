"""Where, when and under which load a result was made."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("edm-paging", "numpy", "pandas", "pyarrow", "simpy", "cffi")

LOADED = 0.25
"""Runnable tasks a core from which a machine counts as loaded (a figure then says so)."""

CREDENTIALS = re.compile(r"(?<=\w://)(?:(?!\w://)[^?])*(?=@)")
"""User and password of a URL. A password may have any characters but ? in it, so they go up to the
last @ before the options, or before the next URL."""


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Commit of the source tree, with + when it has changes; None where there is no git tree."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def _versions() -> dict[str, str]:
    from importlib import metadata as distributions

    found = {}
    for name in PACKAGES:
        try:
            found[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            continue
    return found


def load_label(loadavg: tuple[float, ...] | None, cores: int) -> str:
    """idle or loaded, by the one-minute average; unknown where the system has none."""
    if loadavg is None:
        return "unknown"
    return "loaded" if loadavg[0] / cores >= LOADED else "idle"


def redact(text: str) -> str:
    """The text without the user and password of any URL in it: results are passed around."""
    return CREDENTIALS.sub("***", text)


def collect() -> dict[str, Any]:
    """The metadata of a result file. Call it before the run: the load average is from now."""
    loadavg = os.getloadavg() if hasattr(os, "getloadavg") else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(map(redact, sys.orig_argv)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": cores or 1,
        "load_average": list(loadavg) if loadavg is not None else None,
        "machine_load": load_label(loadavg, cores or 1),
        "git_commit": _git_commit(),
        "packages": _versions(),
    }
