"""Capturing a program's memory references with valgrind's lackey, reduced on the fly.

Lackey prints a line for every access, gigabytes a second of the program's own time; they
go through a pipe into the reducer and are never stored. Expect the program to run some
200 times slower.

What is recorded: data accesses (instruction fetches on request), of the whole program:
stack, heap, static data and mapped files. Not seen: what the kernel reads and writes for
system calls, and children that the program starts. Time is instructions executed, one
counted as a nanosecond.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edm_policy.errors import CannotError, EdmError, UsageError
from edm_workload.reduce import Reducer
from edm_workload.trace import Trace

_CHUNK = 1 << 20
"""Bytes read at a time (a pipe gives at most 64 KiB of them)."""

Progress = Callable[[int, float], None]
"""Called with bytes of lackey's output so far and seconds since the start."""


def _find(program: str) -> str:
    found = shutil.which(program)
    if not found:
        raise UsageError(f"{program}: no such program; check its name and that it is executable")
    return found


def capture(
    command: Sequence[str],
    k: int = 64,
    instructions: bool = False,
    progress: Progress | None = None,
    stdin: int | None = None,
) -> Trace:
    """Run `command` under lackey and return its trace, reduced with `k` (see reduce.py).

    The program keeps stdin (unless given), stdout and stderr. Its exit code is in the
    metadata. Raises CannotError without valgrind, UsageError without the program, EdmError
    when valgrind gives no trace.
    """
    if not command:
        raise UsageError("capture: no program; write: capture -o OUT.parquet -- PROG ARGS")
    program = _find(command[0])
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise CannotError("capture: valgrind is not installed; sudo apt install valgrind")
    read_end, write_end = os.pipe()
    lackey = [
        *(valgrind, "--tool=lackey", "--trace-mem=yes", "--basic-counts=no"),
        f"--log-fd={write_end}",
        *(program, *command[1:]),
    ]
    reducer = Reducer(k, instructions)
    child = subprocess.Popen(lackey, pass_fds=(write_end,), stdin=stdin)
    os.close(write_end)
    total, start, messages = 0, time.monotonic(), b""
    try:
        with open(read_end, "rb", buffering=0) as stream:
            while text := stream.read(_CHUNK):
                if total < _CHUNK:
                    messages += b"".join(ln for ln in text.splitlines(True) if ln[:2] == b"==")
                total += len(text)
                reducer.feed_lackey(text)
                if progress:
                    progress(total, time.monotonic() - start)
        code = child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    trace = reducer.result(
        {
            "name": Path(program).name,
            "source": f"lackey: {shlex.join(command)}",
            "accesses": "data and instructions" if instructions else "data",
            "time": "instructions, 1 counted as 1 ns",
            "exit_code": code,
        }
    )
    if not len(trace):
        said = messages.decode(errors="replace").strip().split("\n")[-1] or f"exit code {code}"
        raise EdmError(f"capture: valgrind traced nothing ({said}); try valgrind {program} itself")
    return trace


def terminal_progress() -> Progress | None:
    """A progress line on stderr, once a second; None when that is no terminal."""
    if not sys.stderr.isatty():
        return None
    last = 0.0

    def show(total: int, seconds: float) -> None:
        nonlocal last
        if seconds - last >= 1:
            last = seconds
            print(f"\r{total / 1e9:.1f} GB of trace text, {seconds:.0f} s", end="", file=sys.stderr)

    return show
