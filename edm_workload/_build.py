"""Builds edm_workload._core: the reduction of reference streams, through cffi in API mode."""

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
C = HERE / "c"
SANITIZE = os.environ.get("EDM_SANITIZE")
CFLAGS = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
LDFLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []

ffibuilder = FFI()
ffibuilder.cdef(
    (C / "reduce.h").read_text().split("/* cffi-begin */")[1].split("/* cffi-end */")[0]
)
ffibuilder.set_source(
    "edm_workload._core",
    '#include "reduce.h"',
    sources=[os.path.relpath(C / "reduce.c", HERE.parent)],
    include_dirs=[str(C)],
    depends=[str(C / "reduce.h")],
    extra_compile_args=CFLAGS,
    extra_link_args=LDFLAGS,
)
