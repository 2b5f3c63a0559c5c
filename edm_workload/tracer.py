"""The valgrind tool that captures (valgrind/tracer.c), compiled for this machine's valgrind.

It takes gcc and what Debian's package of valgrind holds beside the program: headers and the static
libraries of its core. Where something of that is missing, capture() makes do with lackey, which
every valgrind has and which is some fifty times slower.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

from edm_policy.errors import CannotError
from edm_workload.units import PAGE_SIZE

HERE = Path(__file__).resolve().parent
NAME = "edm"
"""What valgrind knows it by (--tool=)."""

_LIBRARIES = ("coregrind", "vex", "gcc-sup")  # the last one is not in every version
_FOLDERS = ("lib/x86_64-linux-gnu/valgrind", "lib64/valgrind", "lib/valgrind", "libexec/valgrind")
_PLATFORM = "amd64-linux"
_ADDRESS = "0x58000000"  # where valgrind's tools lie, out of the program's way
_MACHINE = ("VGA_amd64", "VGO_linux", "VGP_amd64_linux", "VGPV_amd64_linux_vanilla")


def build(valgrind: str, folder: Path, *options: str) -> Path:
    """Compile the tool into `folder`, less than a second. options: more for gcc.

    Raises CannotError: why there is none.
    """
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        raise CannotError(f"it knows x86-64 Linux, not {platform.machine()} {platform.system()}")
    if not (gcc := shutil.which("gcc")):
        raise CannotError("gcc is not installed; sudo apt install gcc")
    prefix = Path(valgrind).resolve().parent.parent
    folders = [prefix / f for f in _FOLDERS if (prefix / f / _library("coregrind")).exists()]
    headers = prefix / "include" / "valgrind"
    if not folders or not (headers / "pub_tool_tooliface.h").exists():
        raise CannotError(f"valgrind's headers and libraries are not in {prefix}")
    libraries = [folders[0] / _library(name) for name in _LIBRARIES]
    tool = folder / f"{NAME}-{_PLATFORM}"
    command = [
        *(gcc, "-std=gnu11", "-O2", "-Wall", "-Wextra", *options),
        *("-fno-stack-protector", "-fno-strict-aliasing", "-fno-builtin"),  # there is no libc
        *(f"-D{name}=1" for name in _MACHINE),
        f"-DEDM_PAGE_SHIFT={PAGE_SIZE.bit_length() - 1}",
        *("-I", str(headers), "-I", str(HERE / "c")),
        *("-o", str(tool), str(HERE / "valgrind" / "tracer.c")),
        *("-static", "-nodefaultlibs", "-nostartfiles", "-u", "_start"),
        *(f"-Wl,-Ttext-segment={_ADDRESS}", "-Wl,--build-id=none"),
        *(str(path) for path in libraries if path.exists()),
        "-lgcc",
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        said = made.stderr.strip().split("\n")
        raise CannotError(next((ln for ln in said if "error" in ln), said[-1]))
    return tool


def command(valgrind: str, tool: Path) -> tuple[list[str], dict[str, str]]:
    """How a tool outside of valgrind's own folder is started, and what to add to the environment:
    the launcher would look for it in that folder, so it is started without one; the core wants to
    know of one nevertheless."""
    return [str(tool), f"--tool={NAME}"], {"VALGRIND_LAUNCHER": valgrind}


def _library(name: str) -> str:
    return f"lib{name}-{_PLATFORM}.a"
