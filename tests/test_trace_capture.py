import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edm_policy.errors import CannotError, EdmError
from edm_workload import Trace, capture, tracer
from edm_workload.__main__ import main

pytest.importorskip("edm_workload._core", reason="the C extension is not built")
needs_valgrind = pytest.mark.skipif(
    not shutil.which("valgrind"), reason="valgrind is not installed (apt install valgrind)"
)


def tool(folder, *options):
    """The fast tool; a skip where this machine cannot have it."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        pytest.skip("valgrind is not installed (apt install valgrind)")
    try:
        return tracer.build(valgrind, folder, *options)
    except CannotError as why:
        if "error" in str(why):
            raise
        pytest.skip(str(why))


PROGRAM = r"""
#include <stdlib.h>
int main(void)
{
    volatile char *a = aligned_alloc(4096, 64 * 4096);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 64; i++)
            a[i * 4096] = (char)i;
    return 3;
}
"""


@needs_valgrind
@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
def test_a_program_that_strides_over_pages(tmp_path, capfd):
    (tmp_path / "p.c").write_text(PROGRAM)
    assert os.system(f"gcc -O1 -o {tmp_path}/p {tmp_path}/p.c") == 0
    out = tmp_path / "t.parquet"
    assert main(["capture", "-o", str(out), "-k", "16", "--", str(tmp_path / "p")]) == 0
    assert "exit code 3" in capfd.readouterr().err
    trace = Trace.load(out)
    assert trace.metadata["exit_code"] == 3 and trace.metadata["k"] == 16
    assert trace.references > len(trace)
    assert (trace.t_ns[1:] >= trace.t_ns[:-1]).all()
    # 64 pages in a row, three times over, every one of them written: nothing else does that.
    page, write = trace.page.tolist(), trace.write.tolist()
    written = [p for p, w in zip(page, write, strict=True) if w]
    rows = [p for p in set(written) if all(written.count(p + i) == 3 for i in range(64))]
    assert len(rows) == 1


def test_the_tool_compiles_without_a_warning(tmp_path):
    tool(tmp_path, "-Werror", "-Wno-unused-parameter")  # valgrind's headers have such


@pytest.mark.parametrize("instructions", [False, True])
def test_the_tool_tells_what_lackey_tells_to_the_last_record(tmp_path, monkeypatch, instructions):
    tool(tmp_path)
    # The program behind Debian's script, which adds to the environment, and so to the stack.
    real = shutil.which("valgrind.bin") or shutil.which("valgrind")
    (tmp_path / "valgrind").symlink_to(real)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    # Left alone, sort looks at how many cores and how much memory are free at the moment.
    command = ["sort", "--parallel=1", "-S", "1M", "-n", "-o", str(tmp_path / "sorted"), __file__]
    ours = capture.capture(command, k=0, instructions=instructions)
    theirs = capture.capture(command, k=0, instructions=instructions, lackey=True)
    assert "valgrind: sort" in ours.metadata["source"]
    assert "lackey: sort" in theirs.metadata["source"]
    assert len(ours) > 10_000
    for column in ("page", "write", "t_ns", "hits"):
        assert getattr(ours, column).tolist() == getattr(theirs, column).tolist(), column


@needs_valgrind
def test_seconds_end_a_program_and_keep_what_came():
    trace = capture.capture(["sleep", "100"], seconds=1)
    assert trace.metadata["stopped"] == "after 1 s" and "exit_code" not in trace.metadata
    assert trace.references > 1000


@needs_valgrind
def test_ctrl_c_keeps_what_came(tmp_path):
    out = tmp_path / "t.parquet"
    command = [
        sys.executable,
        "-m",
        "edm_workload",
        "capture",
        "-o",
        str(out),
        "--",
        "sleep",
        "100",
    ]
    child = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    time.sleep(2.5)  # the interpreter, the compiler, and the program's start
    os.killpg(child.pid, signal.SIGINT)
    said = child.communicate(timeout=20)[1]
    assert child.returncode == 130 and "ended by Ctrl-C" in said, said
    assert Trace.load(out).references > 1000


def test_a_wrapper_is_told_from_the_program_it_starts(tmp_path, capfd):
    tool(tmp_path)
    out = tmp_path / "t.parquet"
    assert main(["capture", "-o", str(out), "--", "sh", "-c", "exec true"]) == 0
    assert "gave way to another program; name that one" in capfd.readouterr().err
    assert main(["capture", "-o", str(out), "--", "sh", "-c", "true; true"]) == 0
    assert "gave way" not in capfd.readouterr().err


@needs_valgrind
def test_without_gcc_lackey_serves_and_the_reason_is_said(tmp_path, monkeypatch, capfd):
    for name in ("valgrind", "true"):
        (tmp_path / name).symlink_to(shutil.which(f"{name}.bin") or shutil.which(name))
    monkeypatch.setenv("PATH", str(tmp_path))
    trace = capture.capture(["true"])
    assert trace.references > 1000 and trace.metadata["source"] == "lackey: true"
    assert "gcc is not installed; sudo apt install gcc" in capfd.readouterr().err


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_valgrind_that_traces_nothing_is_an_error(monkeypatch, tmp_path):
    executable(tmp_path / "valgrind", "#!/bin/sh\nexit 9\n")
    program = executable(tmp_path / "p", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EdmError, match=r"traced nothing \(exit code 9\)") as caught:
        capture.capture([program], lackey=True)
    assert "\n" not in str(caught.value)


def test_without_valgrind_the_package_is_named(monkeypatch, tmp_path):
    program = executable(tmp_path / "p", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotError, match="apt install valgrind"):
        capture.capture([program])
