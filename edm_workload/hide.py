"""Passwords on a command line: no longer in ps and /proc/PID/cmdline once a command runs."""

from __future__ import annotations

import ctypes
from pathlib import Path

from edm_workload.metadata import CREDENTIALS

_ARG_START = 48
"""Number of the field in /proc/self/stat (proc_pid_stat(5)); arg_end is the next one."""


def hidden(argument: str) -> str:
    """The argument with an asterisk in place of each character of its URLs' users and passwords."""
    return CREDENTIALS.sub(lambda found: "*" * len(found[0]), argument)


def hide_credentials() -> None:
    """Overwrites the users and passwords of URLs in the memory that ps shows of this process.

    Python's own copies, sys.argv, stay as they are. Does nothing where the kernel does not tell
    where that memory is.
    """
    try:
        after_name = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = (int(field) for field in after_name[_ARG_START - 3 :][:2])
    except (OSError, ValueError):
        return  # not Linux
    if not 0 < start < end:
        return
    memory = (ctypes.c_char * (end - start)).from_address(start)
    shown = memory.raw.decode("latin-1")  # a character a byte
    memory.raw = "\0".join(map(hidden, shown.split("\0"))).encode("latin-1")
