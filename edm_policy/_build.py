"""Builds edm_policy._core: the policy layer's C, through cffi in API mode."""

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
C = HERE / "c"
SANITIZE = os.environ.get("EDM_SANITIZE")
CFLAGS = ["-std=gnu11", "-O3", "-g", "-Wall", "-Wextra", "-Werror", "-UNDEBUG"]
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
LDFLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []


def declarations(header: Path) -> str:
    """The part of a header that cffi is shown: between cffi-begin and cffi-end."""
    text = header.read_text()
    return text.split("/* cffi-begin */")[1].split("/* cffi-end */")[0]


ffibuilder = FFI()
ffibuilder.cdef(declarations(C / "pager.h"))
ffibuilder.cdef('extern "Python" void edm_policy_log_sink(void *, const edm_rec *, uint64_t);')
ffibuilder.set_source(
    "edm_policy._core",
    '#include "pager.h"',
    sources=[os.path.relpath(f, HERE.parent) for f in sorted(C.glob("*.c"))],
    include_dirs=[str(C)],
    depends=[str(f) for f in [*sorted(C.glob("*.h")), *sorted(C.glob("*.def"))]],
    extra_compile_args=CFLAGS,
    extra_link_args=LDFLAGS,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
