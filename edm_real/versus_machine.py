"""What the kernel's own paging needs to be measured: a memory cgroup, swap on zram or on a file.

Everything that is set up is written to a journal first, so that it is undone whatever
happens: at the end of a `with`, on Ctrl-C and on SIGTERM, and after a SIGKILL by the next
run, which finds the journal with nobody holding its lock. Only what the journal names is ever
undone, and a swap area only if it bears our label.

While the swap is on it has the highest priority, or the machine's own swap would be measured
instead; should anything else be swapped out meanwhile, it lands there too, and swapoff brings
it back.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from edm_policy.errors import CannotError, EdmError

PAGE = 4096
STATE = Path("/run/edm-versus")
"""Path of the journal and its lock, without their suffixes."""
CONTROL = Path("/sys/class/zram-control")
LABEL = b"edm-versus"
SWAP_FLAG_PREFER, SWAP_PRIORITY_MAX = 0x8000, 0x7FFF
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(SystemExit):
    """SIGTERM or SIGHUP, raised where the program is, so that every `with` is left in order."""


@dataclass(frozen=True)
class Cgroup:
    """A memory cgroup for one child, with a limit in bytes. Swap is not limited."""

    path: Path

    def command(self, *args: str) -> list[str]:
        """`args` as a command that moves itself in first: nothing before that is charged."""
        move_in = 'echo $$ >"$0" && exec "$@"'
        return ["/bin/sh", "-c", move_in, str(self.path / "cgroup.procs"), *args]


class Machine:
    """What is set up on this machine, as a context manager; each part is one too.

    with Machine() as machine, machine.cgroup(2**26) as group, machine.zram(2**29): ...

    folder: where swap files and mapped files go (a directory on a disk; /var/tmp unless given).
    Raises CannotError, in one line, where a part is not permitted or not there.
    """

    def __init__(self, folder: str | Path = "/var/tmp", state: Path = STATE, wait_s: float = 60):
        self._folder = Path(folder)
        self._state = state
        self._wait_s = wait_s
        self._journal: list[list[Any]] = []
        self._lock = -1
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Machine:
        if sys.platform != "linux":
            raise CannotError("versus: kernel swap and memory cgroups are Linux's; run it there")
        if os.geteuid() != 0:
            raise CannotError(
                "versus: setting up swap and a memory cgroup needs root; run it with sudo, "
                "or without --versus"
            )
        self._take_lock()
        try:
            self._journal = _load(self._path("json"))
            self._undo(0)
            self._watch_signals()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo(0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._lock)

    # ---- the parts ----

    @contextlib.contextmanager
    def cgroup(self, limit: int) -> Iterator[Cgroup]:
        """A memory cgroup with `limit` bytes; v1, or v2 where that has the memory controller."""
        root, version = _hierarchy()
        path = root / f"edm-versus-{os.getpid()}"
        name = "memory.limit_in_bytes" if version == 1 else "memory.max"
        with self._part(), _or_cannot(f"versus: a memory cgroup in {root}"):
            with self._undisturbed():
                self._note("cgroup", str(path))
                path.mkdir()
            if version == 2 and not (path / name).exists():
                (root / "cgroup.subtree_control").write_text("+memory")
            (path / name).write_text(str(limit))
            yield Cgroup(path)

    @contextlib.contextmanager
    def zram(self, size: int, algorithm: str = "lz4") -> Iterator[Path]:
        """Swap on a zram device of its own, `size` bytes before compression."""
        _need_memory(size)
        with self._part(), _or_cannot("versus: swap on zram"):
            if not CONTROL.exists():
                self._note("module", "zram")
                _modprobe("zram")
            with self._undisturbed():
                number = int((CONTROL / "hot_add").read_text())
                self._note("zram", f"{number} {_sequence(number)}")
            device, block = Path(f"/dev/zram{number}"), Path(f"/sys/block/zram{number}")
            known = (block / "comp_algorithm").read_text().replace("[", "").replace("]", "").split()
            if algorithm not in known:
                raise CannotError(
                    f"versus: this kernel's zram has no {algorithm}, only {', '.join(known)}"
                )
            (block / "comp_algorithm").write_text(algorithm)
            (block / "disksize").write_text(str(size))
            _wait_for(device)
            self._swap_on(device, size)
            yield device

    @contextlib.contextmanager
    def swap_file(self, size: int) -> Iterator[Path]:
        """Swap on a file of `size` bytes in the folder."""
        what = f"versus: swap on a file in {self._folder}"
        with self.file(size, "swap") as path, _or_cannot(what):
            self._swap_on(path, size)
            yield path

    @contextlib.contextmanager
    def file(self, size: int, name: str = "region") -> Iterator[Path]:
        """A file of `size` bytes of zeros, allocated, in the folder."""
        with self._part(), _or_cannot(f"versus: a file of {size >> 20} MiB in {self._folder}"):
            with self._undisturbed():
                folder = Path(tempfile.mkdtemp(prefix="edm-versus-", dir=self._folder))
                self._note("folder", str(folder))
            path = folder / name
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
                os.fsync(fd)
            finally:
                os.close(fd)
            yield path

    def _swap_on(self, path: Path, size: int) -> None:
        with open(path, "r+b", buffering=0) as f:
            f.write(_swap_header(size))
            os.fsync(f.fileno())
        self._note("swap", str(path))
        flags = SWAP_FLAG_PREFER | SWAP_PRIORITY_MAX
        if _libc().swapon(os.fsencode(path), flags):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))

    # ---- the journal ----

    def _path(self, suffix: str) -> Path:
        return self._state.with_name(f"{self._state.name}.{suffix}")

    def _take_lock(self) -> None:
        path = self._path("lock")
        with _or_cannot(f"versus: the lock {path}"):
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        end = time.monotonic() + self._wait_s
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.1)
                    continue
                os.close(self._lock)
                raise CannotError(
                    f"versus: another run holds {path}; wait until it has ended"
                ) from None

    def _note(self, kind: str, what: str) -> None:
        """On disk before it is on the machine (or before a signal can come between)."""
        self._journal.append([kind, what])
        self._save()

    def _save(self) -> None:
        path, new = self._path("json"), self._path("new")
        if not self._journal:
            path.unlink(missing_ok=True)
            return
        new.write_text(json.dumps({"boot": _boot(), "steps": self._journal}))
        new.replace(path)

    @contextlib.contextmanager
    def _part(self) -> Iterator[None]:
        mark = len(self._journal)
        try:
            yield
        finally:
            self._undo(mark)

    def _undo(self, mark: int) -> None:
        """Undo what was noted since `mark`, the last first, with no signal in between."""
        with self._undisturbed():
            for kind, what in self._journal[mark:]:
                if kind == "cgroup":
                    _kill_members(Path(what))  # or swapoff would bring their pages back first
            while len(self._journal) > mark:
                kind, what = self._journal[-1]
                try:
                    _UNDO[kind](what)
                except OSError as error:
                    raise EdmError(
                        f"versus: cannot undo {kind} {what} ({error.strerror or error}); "
                        "the next run tries again"
                    ) from error
                self._journal.pop()
                self._save()

    # ---- signals ----

    def _watch_signals(self) -> None:
        def on_signal(number: int, _: FrameType | None) -> None:
            raise Terminated(128 + number)

        if threading.current_thread() is not threading.main_thread():
            return  # Python takes signals in the main thread only; they end there
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, on_signal)

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Signals wait until the step and its note belong together."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- undoing: each does nothing where there is nothing to undo ----


def _undo_swap(path: str) -> None:
    def off() -> None:
        if _libc().swapoff(os.fsencode(path)) and ctypes.get_errno() != errno.EINVAL:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    if _is_ours(Path(path)):
        _insist(off)  # EINVAL: it was never on


def _undo_zram(number_and_sequence: str) -> None:
    number, sequence = number_and_sequence.split()
    if _sequence(number) != sequence:
        return  # gone, or the number is someone else's by now
    # udev looks at a new device for a moment: EBUSY until it has closed it.
    _insist(lambda: Path(f"/sys/block/zram{number}/reset").write_text("1"))
    _insist(lambda: (CONTROL / "hot_remove").write_text(number))


def _kill_members(group: Path) -> None:
    """End who is in our cgroup: the child of a run that was killed."""
    with contextlib.suppress(FileNotFoundError):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _undo_cgroup(path: str) -> None:
    def remove() -> None:
        _kill_members(Path(path))
        with contextlib.suppress(FileNotFoundError):
            Path(path).rmdir()

    _insist(remove)


def _undo_folder(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _undo_module(name: str) -> None:
    subprocess.run(["modprobe", "-r", name], capture_output=True, check=False)


_UNDO = {
    "swap": _undo_swap,
    "zram": _undo_zram,
    "cgroup": _undo_cgroup,
    "folder": _undo_folder,
    "module": _undo_module,
}


def _insist(step: Any, seconds: float = 10) -> None:
    """Run a step that is refused for as long as something is still being let go of."""
    end = time.monotonic() + seconds
    while True:
        try:
            step()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


# ---- small pieces ----


def _load(path: Path) -> list[list[Any]]:
    """The journal of a run that was killed. After a reboot only its files are left."""
    try:
        journal = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    same_boot = journal["boot"] == _boot()
    return [step for step in journal["steps"] if same_boot or step[0] == "folder"]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _sequence(number: int | str) -> str:
    """What tells a block device from a later one of the same name; empty where it is gone."""
    try:
        return Path(f"/sys/block/zram{number}/diskseq").read_text().strip()
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def _or_cannot(what: str) -> Iterator[None]:
    """The kernel's refusal as one line."""
    try:
        yield
    except OSError as error:
        hint = {
            errno.EPERM: "; in a container this needs CAP_SYS_ADMIN",
            errno.EACCES: "; it needs root",
            errno.EROFS: "; in a container this needs a writable /sys",
            errno.EINVAL: "; the file system may not take swap files: give a folder on ext4 or xfs",
        }.get(error.errno or 0, "")
        raise CannotError(f"{what}: {error.strerror or error}{hint}") from error


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _hierarchy() -> tuple[Path, int]:
    """Where memory cgroups are made, and whether they are v1 or v2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        root = Path(where)
        if kind == "cgroup" and "memory" in options.split(","):
            return root, 1
        if kind == "cgroup2" and "memory" in (root / "cgroup.controllers").read_text().split():
            return root, 2
    raise CannotError(
        "versus: no memory cgroup here; mount one: sudo mount -t cgroup2 none /sys/fs/cgroup"
    )


def _modprobe(name: str) -> None:
    try:
        done = subprocess.run(["modprobe", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotError(
            f"versus: this kernel has no {name} loaded, and no modprobe; sudo apt install kmod"
        ) from None
    if done.returncode:
        why = " ".join(done.stderr.split()) or "modprobe failed"
        raise CannotError(f"versus: this kernel has no {name} ({why}); leave zram out")


def _need_memory(size: int) -> None:
    """zram takes the machine's memory, outside of the cgroup: refuse to fill the machine."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:") and int(line.split()[1]) * 1024 < 2 * size:
            raise CannotError(
                f"versus: {size >> 20} MiB of swap on zram could take most of the free memory; "
                "use a smaller region"
            )


def _wait_for(device: Path) -> None:
    end = time.monotonic() + 5
    while not device.exists():
        if time.monotonic() > end:
            raise CannotError(f"versus: {device} does not appear; is /dev a devtmpfs?")
        time.sleep(0.02)


def _swap_header(size: int) -> bytes:
    """What mkswap writes: version, last page, bad pages, uuid, label, and the magic at the end."""
    body = struct.pack("=III16s16s", 1, size // PAGE - 1, 0, os.urandom(16), LABEL)
    return bytes(1024) + body + bytes(PAGE - 1024 - len(body) - 10) + b"SWAPSPACE2"


def _is_ours(path: Path) -> bool:
    """Whether a swap area bears our label."""
    try:
        with open(path, "rb", buffering=0) as f:
            return (f.read(PAGE)[1052:1068]).rstrip(b"\0") == LABEL
    except OSError:
        return False
