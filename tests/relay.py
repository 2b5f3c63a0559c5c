"""Passes bytes between a client and a server, and cuts or changes what the server says."""

from __future__ import annotations

import random
import socket
import threading


class Relay:
    """cut_after: of the next reply's bytes, so many, then the connection ends. cut_within: every
    connection ends after a number of bytes drawn up to this. instead: said in place of replies.
    hold: what comes from a client now goes on when this is set, even if the client has gone."""

    def __init__(self, port: int):
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut_after: int | None = None
        self.cut_within: int | None = None
        self.instead: bytes | None = None
        self.hold: threading.Event | None = None
        self.cuts = 0
        self._random = random.Random(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            for pump, args in ((self._there, (client, server)), (self._back, (server, client))):
                threading.Thread(target=pump, args=args, daemon=True).start()

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        def change(data: bytes) -> tuple[bytes, bool]:
            if hold := self.hold:
                hold.wait()
            return data, False

        self._pump(client, server, change)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        left: int | None = None

        def change(data: bytes) -> tuple[bytes, bool]:
            nonlocal left
            if self.instead is not None:
                return self.instead, False
            if self.cut_within and left is None:
                left = self._random.randrange(1, self.cut_within)
            if self.cut_after is not None:
                left, self.cut_after = self.cut_after, None
            if left is None:
                return data, False
            data, left = data[:left], left - len(data)
            self.cuts += left <= 0
            return data, left <= 0

        self._pump(server, client, change)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, change) -> None:  # type: ignore[no-untyped-def]
        end = False
        try:
            while not end and (data := source.recv(65536)):
                data, end = change(data)
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
