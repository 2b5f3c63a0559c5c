"""Builds edm_real._core: the userfaultfd runtime's C with the policy layer's, through cffi.

The policy layer's sources are compiled into this extension too (it has no static
state): the fault path decides without leaving C.
"""

import os
import runpy
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# By path: importing the package would need the extension that is yet to be built.
policy = runpy.run_path(str(ROOT / "edm_policy" / "_build.py"))
POLICY_C: Path = policy["C"]
declarations = policy["declarations"]
CFLAGS: list[str] = policy["CFLAGS"]
LDFLAGS: list[str] = policy["LDFLAGS"]
C = HERE / "c"

ffibuilder = FFI()
ffibuilder.cdef(declarations(POLICY_C / "pager.h"))
for header in ("store.h", "runtime.h"):
    ffibuilder.cdef(declarations(C / header))
ffibuilder.set_source(
    "edm_real._core",
    '#include "pager.h"\n#include "runtime.h"\n#include "store.h"',
    sources=[os.path.relpath(f, ROOT) for d in (POLICY_C, C) for f in sorted(d.glob("*.c"))],
    include_dirs=[str(POLICY_C), str(C)],
    depends=[str(f) for d in (POLICY_C, C) for f in sorted({*d.glob("*.h"), *d.glob("*.def")})],
    extra_compile_args=[*CFLAGS, "-pthread"],
    extra_link_args=[*LDFLAGS, "-pthread"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
