"""The edm_real commands as a user meets them: each in a process of its own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def edm(*args: str, timeout: float = 60, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        **kwargs,
    )


SMALL = ("--pages", "512", "--refs", "3000")


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.strip()
    assert "\n" not in line, line
    return line


@pytest.mark.uffd
def test_bench_prints_a_row_a_run_and_writes_versioned_json(tmp_path):
    out = tmp_path / "out.json"
    done = edm(
        *("edm_real", "bench", "--trace", "uniform", *SMALL, "--local", "25%"),
        *("--faults", "upcall", "--store", "mem:", "-o", str(out)),
    )
    assert done.returncode == 0, done.stderr
    assert "NO" not in done.stdout.split()
    document = json.loads(out.read_text())
    assert document["schema"] == 1
    assert document["metadata"]["machine_load"] in ("idle", "loaded")
    results = document["results"]
    paged = [r for r in results if r["limit"] < r["pages"]]
    assert paged
    assert all(r["verified"] is True for r in results)
    assert all(r["faults"] > 0 and r["evictions"] > 0 for r in paged)
    alone = [r for r in results if r["limit"] == r["pages"]]
    assert len(alone) == 1
    assert alone[0]["evictions"] == 0


@pytest.mark.uffd
@pytest.mark.parametrize("mode", ["upcall", "monitor"])
def test_replay_writes_a_log_that_replays(tmp_path, mode):
    from edm_policy import load_log, replay

    log = tmp_path / "run.log"
    done = edm(
        *("edm_real", "replay", "zipf:1.0", *SMALL, "--local", "20%", "--faults", mode),
        *("--log", str(log)),
    )
    assert done.returncode == 0, done.stderr
    config, records, _ = load_log(log)
    assert len(records) > 1000
    at, got = replay(config, records)
    assert at == len(records), got


@pytest.mark.uffd
@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--trace", "/nonexistent/trace.parquet"), 1, "/nonexistent/trace.parquet"),
        (("--evict", "lpte"), 2, "did you mean lpet"),
        (("--prefetch", "nothing-such"), 2, "prefetcher"),
        (("--low", "400", "--high", "300"), 2, "low"),
        (("--local", "many"), 2, "local"),
        (("--store", "nosuch:thing"), 2, "nosuch"),
        (("--store", "file:/proc/nowhere/pages"), 1, "/proc/nowhere"),
        (("--faults", "sometimes"), 2, "upcall"),
        (("--evict", "belady"), 2, "belady"),
    ],
)
def test_a_users_mistake_is_one_line_with_the_fix(options, code, says):
    given = dict(zip(options[::2], options[1::2], strict=True))
    trace = given.pop("--trace", "uniform")
    rest = [x for pair in given.items() for x in pair]
    line = one_line(edm("edm_real", "replay", trace, *SMALL, *rest), code)
    assert says in line


@pytest.mark.uffd
def test_an_unreadable_trace_is_one_line(tmp_path):
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 but not really")
    line = one_line(edm("edm_real", "replay", str(bad)), 1)
    assert "bad.parquet" in line


NOBODY = pwd.getpwnam("nobody")


def python_for_nobody() -> str | None:
    """An interpreter of this version that the user nobody may run."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/bin/python{here}"):
        try:
            done = subprocess.run(
                [python, "-c", "import os; print(os.getuid())"],
                user=NOBODY.pw_uid,
                capture_output=True,
                text=True,
                timeout=20,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0:
            return python
    return None


needs_nobody = pytest.mark.skipif(
    os.getuid() != 0 or python_for_nobody() is None,
    reason="needs root and an interpreter that nobody may run",
)


def as_nobody(tmp: Path, *args: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(paths), "HOME": str(tmp)}
    env |= {"MPLCONFIGDIR": str(tmp), "TMPDIR": str(tmp)}
    shutil.chown(tmp, "nobody")
    script = f"{prelude}\nimport runpy, sys\nsys.argv = {['', *args[1:]]!r}\n"
    script += f"runpy.run_module({args[0]!r}, run_name='__main__')"
    return subprocess.run(
        [python_for_nobody() or "", "-c", script],
        user=NOBODY.pw_uid,
        group=NOBODY.pw_gid,
        extra_groups=[],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def open_tmp():
    """A folder that nobody can reach (pytest's own are the user's alone)."""
    folder = Path("/tmp") / f"edm-nobody-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@needs_nobody
@pytest.mark.uffd
def test_doctor_and_bench_as_nobody(open_tmp):
    doctor = as_nobody(open_tmp, "edm_real", "doctor", "--json")
    assert doctor.returncode == 0, doctor.stderr
    findings = {f["name"]: f for f in json.loads(doctor.stdout)["findings"]}
    assert findings["userfaultfd"]["state"] == "ready"
    assert findings["--faults upcall"]["state"] == "ready"
    assert findings["cores"]["detail"].startswith(f"{len(os.sched_getaffinity(0))};")
    knob = Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip()
    device = oct(Path("/dev/userfaultfd").stat().st_mode & 0o006)
    if knob == "0" and device == "0o0":
        assert "user-mode-only" in findings["userfaultfd"]["detail"]
        assert findings["--faults monitor"]["state"] == "limited"
        assert "sysctl" in findings["--faults monitor"]["fix"]
    bench = as_nobody(
        open_tmp,
        *("edm_real", "bench", "--trace", "uniform", *SMALL, "--faults", "upcall"),
        *("--store", "mem:", "-o", str(open_tmp / "out.json")),
    )
    assert bench.returncode == 0, bench.stderr
    results = json.loads((open_tmp / "out.json").read_text())["results"]
    assert all(r["verified"] for r in results)


@needs_nobody
@pytest.mark.uffd
def test_without_userfaultfd_one_line_and_77(open_tmp):
    # The system call answers EPERM, as under a container's seccomp profile.
    prelude = NO_USERFAULTFD
    done = as_nobody(open_tmp, "edm_real", "bench", *SMALL, prelude=prelude)
    line = one_line(done, 77)
    assert "userfaultfd" in line
    assert "fix:" in line
    doctor = as_nobody(open_tmp, "edm_real", "doctor", prelude=prelude)
    assert doctor.returncode == 77
    assert "setfacl" in doctor.stdout


NO_USERFAULTFD = """
import ctypes, struct, platform
# A seccomp filter: userfaultfd answers EPERM, all else is allowed.
number = {"x86_64": 323, "aarch64": 282}[platform.machine()]
def step(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
program = (step(0x20, 0, 0, 0) + step(0x15, 0, 1, number) + step(0x06, 0, 0, 0x00050001)
           + step(0x06, 0, 0, 0x7FFF0000))
buffer = ctypes.create_string_buffer(program)
class Prog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.prctl(22, 2, ctypes.byref(Prog(4, ctypes.addressof(buffer))), 0, 0) == 0
"""


@pytest.mark.uffd
@pytest.mark.parametrize("after_s", [0.3, 1.2, 2.0, 3.1])
def test_ctrl_c_ends_bench_within_two_seconds_and_leaves_nothing(tmp_path, after_s):
    folder = tmp_path / "t"
    folder.mkdir()
    bench = subprocess.Popen(
        [sys.executable, "-m", "edm_real", "bench"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    time.sleep(after_s)
    assert bench.poll() is None, bench.communicate()
    started = time.monotonic()
    bench.send_signal(signal.SIGINT)
    _, errors = bench.communicate(timeout=20)
    took = time.monotonic() - started
    assert took < 2, f"{took:.1f} s"
    # Python may still be importing, on a loaded machine for seconds: then it ends by the signal.
    assert bench.returncode in (130, -signal.SIGINT)
    assert bench.returncode != 130 or "Traceback" not in errors
    assert list(folder.iterdir()) == []
