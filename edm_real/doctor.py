"""doctor: what works on this machine, and the fix for what does not.

Each finding says what was tried, what came of it, the fix, and what still works without.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from edm_policy.errors import CannotError

State = Literal["ready", "limited", "missing"]
ACCESS = {
    1: "by /dev/userfaultfd",
    2: "by the system call",
    3: "user-mode-only (faults inside system calls are not served)",
}
KNOB = Path("/proc/sys/vm/unprivileged_userfaultfd")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. fix and now are empty where nothing is to be done."""

    name: str
    state: State
    detail: str
    fix: str = ""
    now: str = ""


@dataclass(frozen=True)
class Report:
    """What doctor prints; usable: bench can run here in some mode."""

    findings: list[Finding]

    @property
    def usable(self) -> bool:
        return self["userfaultfd"].state != "missing"

    def __getitem__(self, name: str) -> Finding:
        return next(f for f in self.findings if f.name == name)

    def as_text(self) -> str:
        width = max(len(f.name) for f in self.findings)
        lines = []
        for f in self.findings:
            lines.append(f"{f.name:<{width}}  {f.state:<7}  {f.detail}")
            lines += [f"{'':<{width}}    fix:  {f.fix}"] * bool(f.fix)
            lines += [f"{'':<{width}}    now:  {f.now}"] * bool(f.now)
        return "\n".join(lines)

    def as_json(self) -> str:
        return json.dumps({"schema": 1, "findings": [asdict(f) for f in self.findings]}, indent=2)


@cache
def _ability() -> Any:
    from edm_real._core import ffi, lib

    ability = ffi.new("edm_ability *")
    lib.edm_ability_of(ability)
    return ability


def _why_no_userfaultfd(error: int) -> str:
    """errno with the state of the two doors to userfaultfd."""
    reasons = []
    if KNOB.exists():
        reasons.append(f"vm.unprivileged_userfaultfd={KNOB.read_text().strip()}")
    device = Path("/dev/userfaultfd")
    if not device.exists():
        reasons.append("no /dev/userfaultfd")
    elif not os.access(device, os.R_OK | os.W_OK):
        reasons.append(f"/dev/userfaultfd: {os.strerror(errno.EACCES)}")
    return f"{os.strerror(error)} ({', '.join(reasons)})" if reasons else os.strerror(error)


def _userfaultfd() -> Finding:
    if platform.system() != "Linux":
        return Finding(
            "userfaultfd", "missing", f"{platform.system()} has none", "use Linux", "edm_sim works"
        )
    ability = _ability()
    if not ability.access:
        return Finding(
            "userfaultfd",
            "missing",
            _why_no_userfaultfd(ability.error),
            "sudo setfacl -m u:$USER:rw /dev/userfaultfd  (in a container: pass the device in)",
            "the simulator works: python -m edm_sim",
        )
    if not ability.upcall:
        return Finding(
            "userfaultfd",
            "limited" if ability.monitor else "missing",
            f"{ACCESS[ability.access]}, but without SIGBUS delivery (Linux {platform.release()})",
            "Linux 4.14 or newer",
            "--faults monitor works" if ability.monitor else "the simulator works",
        )
    return Finding("userfaultfd", "ready", ACCESS[ability.access])


def _upcall(ability: Any) -> Finding:
    if not ability.upcall:
        return Finding("--faults upcall", "missing", "no UFFD_FEATURE_SIGBUS", "Linux 4.14")
    return Finding(
        "--faults upcall",
        "ready",
        "the faulting thread resolves; system calls into paged memory get EFAULT (region.prefault)",
    )


def _monitor(ability: Any) -> Finding:
    if ability.monitor and ability.kernel_faults:
        return Finding("--faults monitor", "ready", "a handler thread; system calls work, too")
    return Finding(
        "--faults monitor",
        "limited" if ability.monitor else "missing",
        "only faults in user mode, so system calls into paged memory get EFAULT",
        "sudo setfacl -m u:$USER:rw /dev/userfaultfd, or sudo sysctl vm.unprivileged_userfaultfd=1",
        "--faults upcall works as well, and faster",
    )


def _kernel(ability: Any) -> list[Finding]:
    found = []
    for name, have, since, now in (
        ("write-protect", ability.write_protect, "5.7", "every evicted page is written back"),
        ("poison", ability.poison, "6.6", "a lost page raises SIGBUS by an unmapped page"),
    ):
        if have:
            found.append(Finding(name, "ready", "by the kernel"))
        else:
            why = f"needs Linux {since}, this is {platform.release()}"
            found.append(Finding(name, "limited", why, "", now))
    return found


def _tool(name: str, program: str, package: str, needed_for: str) -> Finding:
    if path := shutil.which(program):
        return Finding(name, "ready", path)
    fix = f"sudo apt install {package}"
    return Finding(name, "limited", f"{program} not found", fix, needed_for)


def _store(name: str, url: str, package: str) -> Finding:
    """Whether a store that needs a library was built with it."""
    from edm_real._core import ffi, lib

    why = ffi.new("char[512]")
    store = lib.edm_store_open(url.encode(), 4096, 1, why, 512)
    why_not = ffi.string(why).decode()
    if store == ffi.NULL and "built without" in why_not:
        fix = f"sudo apt install pkg-config {package} && make clean setup"
        return Finding(name, "limited", why_not, fix, "other stores work")
    if store != ffi.NULL:  # one that lacks an argument is built in as well
        store.ops.close(store)
    return Finding(name, "ready", "built in")


def _uring() -> Finding:
    """Whether file:?direct=1 can have many requests under way."""
    from edm_real._core import lib

    error = -lib.edm_store_uring()
    if not error:
        return Finding("io_uring", "ready", "batches of file:?direct=1")
    now = "file: goes page by page"
    if error == errno.ENOSYS:
        fix = "sudo apt install pkg-config liburing-dev && make clean setup"
        return Finding("io_uring", "limited", "built without it, or no such kernel", fix, now)
    fix = "sudo sysctl kernel.io_uring_disabled=0 (in a container: its seccomp profile)"
    return Finding("io_uring", "limited", os.strerror(error), fix, now)


def cores() -> Finding:
    """How many this process has, and how far apart two of them are now (some ms of measuring)."""
    from edm_real.steady import core_distance_ns

    n = len(os.sched_getaffinity(0))
    if n < 2:
        return Finding("cores", "limited", "one", "give it two", "LPET takes the program's time")
    ns = core_distance_ns()
    apart = f"a cache line goes to another one and back in {ns:.0f} ns" if ns else "all busy"
    return Finding("cores", "ready", f"{n}; {apart}")


def examine() -> Report:
    """Looks at everything that is there or not. Never raises for a machine that lacks something."""
    findings = [_userfaultfd()]
    if findings[0].state != "missing":
        ability = _ability()
        findings += [_upcall(ability), _monitor(ability), *_kernel(ability)]
    if platform.system() == "Linux":
        findings += [
            _store("zstd+mem:", "zstd+mem:", "libzstd-dev"),
            _store("lz4+mem:", "lz4+mem:", "liblz4-dev"),
            _store("sealed:", "sealed:", "libssl-dev"),
            _uring(),
            _store("rediss://", "rediss://127.0.0.1:1/0", "libssl-dev"),
        ]
    findings += [
        _tool("gcc", "gcc", "gcc", "bench shows no row of the bare floor"),
        _tool("valgrind", "valgrind", "valgrind", "only edm_workload capture needs it"),
        _tool("redis-server", "redis-server", "redis-server", "a server elsewhere does as well"),
    ]
    return Report(findings)


def ready(what: str) -> str | None:
    """None if `what` (a finding's name) works here, else the reason."""
    finding = examine()[what]
    if finding.state == "missing":
        return f"{finding.detail}; fix: {finding.fix}"
    return None


def require_kernel_faults() -> None:
    """Raises CannotError, in one line, where faults inside of system calls cannot be served."""
    if not _ability().kernel_faults:
        report = examine()["--faults monitor"]
        raise CannotError(
            "a program's system calls into paged memory need a full userfaultfd; "
            f"fix: {report.fix or 'run as root, or: sudo sysctl vm.unprivileged_userfaultfd=1'}"
        )


def require(faults: str = "") -> None:
    """Raises CannotError, in one line, if regions (or this fault mode) cannot be had here."""
    report = examine()
    for name in ("userfaultfd", *([f"--faults {faults}"] if faults else [])):
        if report[name].state == "missing":
            f = report[name]
            raise CannotError(f"{name}: {f.detail}; fix: {f.fix}; now: {f.now}")
