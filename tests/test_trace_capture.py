import os
import shutil

import pytest

from edm_policy.errors import CannotError, EdmError
from edm_workload import Trace, capture
from edm_workload.__main__ import main

pytest.importorskip("edm_workload._core", reason="the C extension is not built")
needs_valgrind = pytest.mark.skipif(
    not shutil.which("valgrind"), reason="valgrind is not installed (apt install valgrind)"
)

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


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_valgrind_that_traces_nothing_is_an_error(monkeypatch, tmp_path):
    executable(tmp_path / "valgrind", "#!/bin/sh\nexit 9\n")
    program = executable(tmp_path / "p", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EdmError, match=r"traced nothing \(exit code 9\)") as caught:
        capture.capture([program])
    assert "\n" not in str(caught.value)


def test_without_valgrind_the_package_is_named(monkeypatch, tmp_path):
    program = executable(tmp_path / "p", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotError, match="apt install valgrind"):
        capture.capture([program])
