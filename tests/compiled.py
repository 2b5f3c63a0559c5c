"""C files of the tests as shared libraries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def shared_library(source: Path, out: Path) -> Path:
    """Compiles it as `out`, with the sanitizer that tests/sanitize.sh runs the tests under."""
    sanitizer = os.environ.get("EDM_SANITIZE")
    flags = [*FLAGS, *([f"-fsanitize={sanitizer}"] if sanitizer else [])]
    command = ["gcc", *flags, f"-I{ROOT}/edm_real/c", str(source), "-o", str(out)]
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}  # gcc needs no sanitizer
    subprocess.run(command, check=True, env=plain)
    return out
