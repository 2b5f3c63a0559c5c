"""Capturing a program's memory references with valgrind, reduced on the fly.

The tool that sees them is compiled for it (tracer.py). Valgrind's own lackey, some fifty times
slower, gives the same trace where that cannot be. References go through a pipe into the reducer
and are never stored.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edm_policy.errors import CannotError, EdmError, UsageError
from edm_workload import tracer
from edm_workload.reduce import Reducer
from edm_workload.trace import Trace

ABOUT = """\
Runs a program under valgrind and keeps its memory accesses as a trace of pages. The program runs
some thirty to a hundred times slower (without gcc, or on another processor than x86-64, two
thousand times).

Recorded is data of the whole program (with --instructions what it executes, too): stack, heap,
static data and mapped files. Not seen: what the kernel reads and writes for system calls, and
other programs that it starts. Time is instructions executed, one counted as a nanosecond.

--seconds, or Ctrl-C, ends the program and keeps what came until then.
"""

_CHUNK = 1 << 20
"""Bytes read at a time, at most: a pipe gives what it holds."""

Progress = Callable[[float, int, int], None]
"""Called with seconds since the start, references and pages so far."""


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
    seconds: float | None = None,
    lackey: bool = False,
) -> Trace:
    """Run `command` under valgrind and return its trace, reduced with `k` (see reduce.py).

    The program keeps stdin (unless given), stdout and stderr. Its exit code is in the
    metadata; and `stopped`, where the trace is its beginning only: `seconds` had passed, Ctrl-C
    came, or it gave way to another program (execve), as wrappers do, which is not traced.
    lackey: use that even where the faster tool is to be had; the trace is the same.

    Raises CannotError without valgrind, UsageError without the program, EdmError
    when valgrind gives no trace.
    """
    if not command:
        raise UsageError("capture: no program; write: capture -o OUT.parquet -- PROG ARGS")
    if seconds is not None and not seconds > 0:
        raise UsageError(f"seconds: {seconds:g} is no time; give more than 0")
    program = _find(command[0])
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise CannotError("capture: valgrind is not installed; sudo apt install valgrind")
    reducer = Reducer(k, instructions)
    with tempfile.TemporaryDirectory(prefix="edm-") as folder:
        start, environment = _lackey(valgrind)
        if not lackey:
            try:
                start, environment = tracer.command(valgrind, tracer.build(valgrind, Path(folder)))
            except CannotError as why:
                lackey = True
                print(f"note: capturing with lackey, some 50 times slower: {why}", file=sys.stderr)
        run = _Run(reducer, lackey, instructions, progress)
        ended = run.until(start, [program, *command[1:]], environment, stdin, seconds)
    trace = reducer.result(
        {
            "name": Path(program).name,
            "source": f"{'lackey' if lackey else 'valgrind'}: {shlex.join(command)}",
            "accesses": "data and instructions" if instructions else "data",
            "time": "instructions, 1 counted as 1 ns",
            **ended,
        }
    )
    if not len(trace):
        said = run.messages.decode(errors="replace").strip().split("\n")[-1]
        said = said or str(ended.get("stopped") or f"exit code {ended['exit_code']}")
        raise EdmError(f"capture: valgrind traced nothing ({said}); try valgrind {program} itself")
    return trace


def _lackey(valgrind: str) -> tuple[list[str], dict[str, str]]:
    """How lackey is started, as tracer.command() tells it of the other tool."""
    return [valgrind, "--tool=lackey"], {}


class _Run:
    """A program under valgrind, and what its tool writes on the way to the reducer."""

    def __init__(
        self, reducer: Reducer, lackey: bool, instructions: bool, progress: Progress | None
    ):
        self.reducer, self.lackey, self.progress = reducer, lackey, progress
        self.instructions = instructions
        self.feed = reducer.feed_lackey if lackey else reducer.feed_references
        self.messages = b""  # what valgrind itself said among lackey's lines

    def until(
        self,
        start: list[str],
        command: list[str],
        environment: dict[str, str],
        stdin: int | None,
        seconds: float | None,
    ) -> dict[str, int | str]:
        """Run to the end, or for `seconds`; how it ended, for the metadata."""
        read_end, write_end = os.pipe()
        if self.lackey:
            options = ["--trace-mem=yes", "--basic-counts=no", f"--log-fd={write_end}"]
        else:
            fetches = "yes" if self.instructions else "no"
            options = ["-q", f"--output-fd={write_end}", f"--fetches={fetches}"]
        with open(read_end, "rb", buffering=0) as stream:
            child = subprocess.Popen(
                [*start, *options, *command],
                pass_fds=(write_end,),
                stdin=stdin,
                env=os.environ | environment,
            )
            os.close(write_end)
            began = time.monotonic()
            try:
                if self._read(stream.fileno(), began, seconds):
                    code = child.wait()
                    if self.lackey or self.reducer.ended or code < 0:
                        return {"exit_code": code}
                    return {"exit_code": code, "stopped": "where it gave way to another program"}
                return {"stopped": f"after {seconds:g} s"}
            except KeyboardInterrupt:
                return {"stopped": f"by Ctrl-C after {time.monotonic() - began:.0f} s"}
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()

    def _read(self, pipe: int, began: float, seconds: float | None) -> bool:
        """All that comes; False: `seconds` passed before the end."""
        total, shown = 0, 0.0
        while True:
            passed = time.monotonic() - began
            if seconds is not None and passed >= seconds:
                return False
            if self.progress and passed - shown >= 1:
                shown = passed
                self.progress(passed, *self.reducer.seen())
            wait = 1.0 if seconds is None else min(1.0, seconds - passed)
            if not select.select([pipe], [], [], wait)[0]:
                continue
            piece = os.read(pipe, _CHUNK)
            if not piece:
                return True
            if self.lackey and total < _CHUNK:
                self.messages += b"".join(ln for ln in piece.splitlines(True) if ln[:2] == b"==")
            total += len(piece)
            self.feed(piece)


def terminal_progress() -> Progress | None:
    """A progress line on stderr; None when that is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(seconds: float, references: int, pages: int) -> None:
        said = f"{seconds:.0f} s, {references / 1e6:,.1f} million references, {pages:,} pages"
        print(f"\r{said} (Ctrl-C ends the program and keeps them)", end="", file=sys.stderr)

    return show
