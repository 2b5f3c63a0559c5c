"""redis or valkey servers on free ports of 127.0.0.1, to be killed, paused and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """One server, in a folder of its own. `options`: as on its command line."""

    def __init__(self, *options: str):
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "tests that need a server carry the mark redis"
        self._folder = tempfile.TemporaryDirectory(prefix="edm-", ignore_cleanup_errors=True)
        self.port = free_port()
        self.socket = Path(self._folder.name) / "s"
        self._command = [
            *(program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name),
            *("--unixsocket", str(self.socket), "--save", "", "--loglevel", "warning"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 10
        while True:
            try:
                self.command("PING")
                return
            except OSError:
                assert time.monotonic() < end and self._process.poll() is None, self._command
                time.sleep(0.01)

    def command(self, *words: str) -> str:
        """One command; the first bytes of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            text = "".join(f"${len(w)}\r\n{w}\r\n" for w in words)
            s.sendall(f"*{len(words)}\r\n{text}".encode())
            return s.recv(4096).decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """As kill -9 does."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()
