"""redis or valkey servers on free ports of 127.0.0.1, alone and as clusters, to be killed, paused
and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
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
            *(("--cluster-port", str(free_port())) if "--cluster-enabled" in options else ()),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

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

    def _send(self, s: socket.socket, *words: str) -> None:
        text = "".join(f"${len(w)}\r\n{w}\r\n" for w in words)
        s.sendall(f"*{len(words)}\r\n{text}".encode())

    def _connect(self) -> socket.socket:
        s = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        if "--requirepass" in self._command:
            self._send(s, "AUTH", self.option("--requirepass"))
            assert s.recv(5) == b"+OK\r\n"
        return s

    def command(self, *words: str) -> str:
        """One command; the first bytes of its reply."""
        with self._connect() as s:
            self._send(s, *words)
            return s.recv(4096).decode(errors="replace")

    def all_of(self, *words: str) -> str:
        """One command whose reply is one bulk string; that."""
        with self._connect() as s, s.makefile("rb") as reply:
            self._send(s, *words)
            line = reply.readline()
            assert line[:1] == b"$", line
            return reply.read(int(line[1:])).decode()

    def list_of(self, *words: str) -> list[str]:
        """One command whose reply is an array of bulk strings; these."""
        with self._connect() as s, s.makefile("rb") as reply:
            self._send(s, *words)
            n = int(reply.readline()[1:])
            return [reply.read(int(reply.readline()[1:]) + 2)[:-2].decode() for _ in range(n)]

    def option(self, name: str) -> str:
        return self._command[self._command.index(name) + 1]

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


class Cluster:
    """`masters` servers that share the slots, each with `replicas` that follow it."""

    def __init__(
        self,
        masters: int = 3,
        replicas: int = 1,
        node_timeout_ms: int = 600,
        options: tuple[str, ...] = (),
    ):
        options += (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms)),
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
            *("--repl-ping-replica-period", "1", "--cluster-allow-replica-migration", "no"),
        )
        self.masters = masters
        self.servers: list[Server] = []
        try:
            for _ in range(masters * (1 + replicas)):
                self.servers.append(Server(*options))
            self._join()
        except BaseException:
            self.__exit__()
            raise

    @property
    def url(self) -> str:
        return f"redis-cluster://127.0.0.1:{self.servers[0].port}/"

    def _join(self) -> None:
        first, ids = self.servers[0], [s.all_of("CLUSTER", "MYID") for s in self.servers]
        share = -(-16384 // self.masters)
        for k, server in enumerate(self.servers):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(k + 1))
            if k < self.masters:
                last = min(16384, (k + 1) * share) - 1
                server.command("CLUSTER", "ADDSLOTSRANGE", str(k * share), str(last))
            bus = server.option("--cluster-port")
            first.command("CLUSTER", "MEET", "127.0.0.1", str(server.port), bus)
        for k, server in enumerate(self.servers[self.masters :]):
            master = ids[k % self.masters]
            until(lambda s=server, m=master: s.command("CLUSTER", "REPLICATE", m) == "+OK\r\n")
        until(self.well)

    def well(self) -> bool:
        """Every node finds the cluster well, and every replica has its master's keys."""
        whole, n = "cluster_state:ok", len(self.servers)
        for server in self.servers:
            info = server.all_of("CLUSTER", "INFO")
            if whole not in info or f"cluster_known_nodes:{n}" not in info:
                return False
        roles = [s.all_of("INFO", "replication") for s in self.servers]
        up = sum("role:slave" in r and "master_link_status:up" in r for r in roles)
        online = sum(r.count("state=online") for r in roles)
        return up == online == n - self.masters

    def role(self, server: Server) -> str:
        """master or slave"""
        return server.all_of("INFO", "replication").split("role:")[1].split("\r\n")[0]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.__exit__()


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "that did not come to be"
        time.sleep(0.02)
