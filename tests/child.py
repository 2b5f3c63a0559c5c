"""Runs code that pages memory in a process of its own: a hang or a signal fails one test."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HEAD = """
import errno, os, signal, sys, threading
import numpy as np
from edm_policy import EdmError, UsageError
from edm_real import PageLostError, Region, WritebackError
"""


def run(code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The code, after HEAD, with `args` in sys.argv[1:]; its output as text."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", HEAD + textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
    )


def passes(code: str, *args: str, timeout: float = 60) -> str:
    """Runs it, and fails with what it said unless it exits with 0; its standard output."""
    done = run(code, *args, timeout=timeout)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
