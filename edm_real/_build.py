"""Builds edm_real._core: the userfaultfd runtime's C with the policy layer's, through cffi.

The policy layer's sources are compiled into this extension too (it has no static
state): the fault path decides without leaving C.
"""

import os
import runpy
import shutil
import subprocess
from pathlib import Path

from cffi import FFI
from setuptools import Extension  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# By path: importing the package would need the extension that is yet to be built.
policy = runpy.run_path(str(ROOT / "edm_policy" / "_build.py"))
POLICY_C: Path = policy["C"]
declarations = policy["declarations"]
CFLAGS: list[str] = policy["CFLAGS"]
LDFLAGS: list[str] = policy["LDFLAGS"]
C = HERE / "c"
PRELOAD = HERE / "preload"  # what is loaded into other programs: setup.py builds it
# pkg-config name -> macro. What is not there is left out; its store says so when it is asked for.
OPTIONAL = {
    "libzstd": "EDM_HAVE_ZSTD",
    "liblz4": "EDM_HAVE_LZ4",
    "libcrypto": "EDM_HAVE_CRYPTO",
    "liburing": "EDM_HAVE_URING",
    "libssl": "EDM_HAVE_SSL",
}


def pkg_config(*arguments: str) -> list[str] | None:
    """Flags as pkg-config gives them; None where there is no such library, or no pkg-config."""
    if not shutil.which("pkg-config"):
        return None
    done = subprocess.run(["pkg-config", *arguments], capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else None


for library, macro in OPTIONAL.items():
    cflags, libs = pkg_config("--cflags", library), pkg_config("--libs", library)
    if cflags is not None and libs is not None:
        CFLAGS = [*CFLAGS, *cflags, f"-D{macro}"]
        LDFLAGS = [*LDFLAGS, *libs]

SOURCES = (POLICY_C, C, PRELOAD)
DEPENDS = [str(f) for d in SOURCES for f in sorted({*d.glob("*.h"), *d.glob("*.def")})]

ffibuilder = FFI()
ffibuilder.cdef(declarations(POLICY_C / "pager.h"))
HEADERS = ("pager.h", "store.h", "runtime.h", "board.h", "spans.h")
for header in HEADERS[1:]:
    ffibuilder.cdef(declarations(C / header))
ffibuilder.cdef(declarations(PRELOAD / "report.h"))
ffibuilder.set_source(
    "edm_real._core",
    "".join(f'#include "{header}"\n' for header in (*HEADERS, "../preload/report.h")),
    sources=[os.path.relpath(f, ROOT) for d in (POLICY_C, C) for f in sorted(d.glob("*.c"))],
    include_dirs=[str(POLICY_C), str(C)],
    depends=DEPENDS,
    extra_compile_args=[*CFLAGS, "-pthread"],
    extra_link_args=[*LDFLAGS, "-pthread", "-lm"],
)


def preload() -> Extension:
    """The library for `edm_real run`: the runtime without Python; no module, but built like one.

    What it takes over from the program (malloc, mmap) its own calls must not reach: --wrap.
    """
    bare = ("malloc", "calloc", "realloc", "free", "mmap", "munmap", "madvise", "mprotect")
    wraps = [f"-Wl,--wrap={name}" for name in (*bare, "pthread_create")]
    return Extension(
        "edm_real._preload",
        sources=[os.path.relpath(f, ROOT) for d in SOURCES for f in sorted(d.glob("*.c"))],
        include_dirs=[str(d) for d in SOURCES],
        depends=DEPENDS,
        extra_compile_args=[*CFLAGS, "-pthread", "-fvisibility=hidden"],
        extra_link_args=[*LDFLAGS, "-pthread", "-lm", *wraps],
        optional=True,  # it needs glibc
    )


if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
