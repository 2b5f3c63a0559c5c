"""Passwords on a command line are hidden from ps."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edm_workload.hide import hidden


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("redis://me:pw@host/0?prefix=a@b", "redis://*****@host/0?prefix=a@b"),
        (
            "--store=striped:redis://:p@a,rediss://u:@b",
            "--store=striped:redis://**@a,rediss://**@b",
        ),
        ("redis://h:1/0?auth=FILE", "redis://h:1/0?auth=FILE"),
        ("zipf:1.0", "zipf:1.0"),
    ],
)
def test_users_and_passwords_become_as_many_asterisks(argument: str, shown: str) -> None:
    assert hidden(argument) == shown


@pytest.mark.uffd
@pytest.mark.parametrize(
    ("command", "store"),
    [
        (("edm_real", "replay", "uniform"), "redis://me:open%20sesame@{at}/0"),
        (
            ("edm_lab", "compare", "--trace", "uniform", "--calibration", "none"),
            "replicated:redis://me:sesame@{at}/0,[striped:rediss://:sésame@{at}/1,mem:]",
        ),
    ],
)
def test_ps_shows_no_password_while_a_command_runs(command: tuple[str, ...], store: str) -> None:
    """The command waits for a server that takes its connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        at = f"127.0.0.1:{server.getsockname()[1]}"
        child = subprocess.Popen(
            [sys.executable, "-m", *command, "--quiet", "--store", store.format(at=at)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            server.accept()
            line = Path(f"/proc/{child.pid}/cmdline").read_bytes()
        finally:
            child.kill()
            child.wait()
    arguments = line.decode().rstrip("\0").split("\0")
    assert arguments[1:-1] == ["-m", *command, "--quiet", "--store"]
    assert "same" not in arguments[-1] and f"***@{at}/0" in arguments[-1]
