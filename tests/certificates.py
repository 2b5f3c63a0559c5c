"""Certificates for a test, by openssl, and a redis server that has them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import Server, free_port


class Certificates:
    """An authority and what it signed, made by openssl: files in a folder."""

    def __init__(self, folder: Path):
        if not shutil.which("openssl"):
            pytest.skip("no openssl here: sudo apt install openssl")
        self.folder = folder
        for authority in ("ca", "other"):
            self._openssl(
                *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-keyout", f"{authority}.key", "-out", f"{authority}.pem"),
                *("-subj", f"/CN={authority}", "-days", "2"),
            )
        self._sign("server", "ca", "DNS:localhost,IP:127.0.0.1")
        self._sign("stranger", "ca", "DNS:elsewhere.example")
        self._sign("client", "ca", "DNS:client")
        self._sign("late", "ca", "DNS:localhost,IP:127.0.0.1", days="0")

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def _sign(self, name: str, authority: str, names: str, days: str = "2") -> None:
        (self.folder / "ext").write_text(f"subjectAltName={names}\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", days),
            *("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial"),
            *("-extfile", "ext"),
        )

    def server(self, name: str = "server", clients: str = "no") -> Server:
        return Server(
            *("--tls-port", str(free_port()), "--tls-auth-clients", clients),
            *("--tls-cert-file", self[f"{name}.pem"], "--tls-key-file", self[f"{name}.key"]),
            *("--tls-ca-cert-file", self["ca.pem"]),
            *("--appendonly", "yes", "--appendfsync", "always"),
        )
