"""Builds edm_policy._core: the policy layer's C, through cffi in API mode."""

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
C = HERE / "c"
SANITIZE = os.environ.get("EDM_SANITIZE")
CFLAGS = ["-std=gnu11", "-O3", "-g", "-Wall", "-Wextra", "-Werror", "-UNDEBUG"]
if SANITIZE:
    # No recovering: pytest hides what UBSan says, but not that the process ended.
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=undefined"]
    # Instrumented, the address of a struct looks to gcc 12 like that of the field read before.
    CFLAGS += ["-fno-omit-frame-pointer", "-Wno-stringop-overflow"]
    if "thread" in SANITIZE:  # it knows no fences; there is one, between processes
        CFLAGS += ["-Wno-tsan"]
LDFLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []


def declarations(header: Path) -> str:
    """The part of a header that cffi is shown: between cffi-begin and cffi-end."""
    text = header.read_text()
    return text.split("/* cffi-begin */")[1].split("/* cffi-end */")[0]


ffibuilder = FFI()
ffibuilder.cdef(declarations(C / "pager.h"))
ffibuilder.cdef(declarations(C / "driver.h"))
ffibuilder.cdef(declarations(C / "shards.h"))
ffibuilder.cdef(declarations(C / "ring.h"))
ffibuilder.cdef(
    """
    extern "Python" void edm_policy_log_sink(void *, const edm_rec *, uint64_t);
    extern "Python+C" void edm_py_miss(void *, uint32_t);
    extern "Python+C" void edm_py_insert(void *, uint32_t);
    extern "Python+C" void edm_py_touch(void *, uint32_t);
    extern "Python+C" int64_t edm_py_choose(void *);
    extern "Python+C" void edm_py_keep(void *, uint32_t);
    extern "Python+C" void edm_py_remove(void *, uint32_t);
    extern "Python+C" void edm_py_pf_fault(void *, uint32_t, int);
    extern "Python+C" void edm_py_pf_used(void *, uint32_t);
    extern "Python+C" void edm_py_pf_unused(void *, uint32_t);
    enum edm_custom_hook { EDM_HOOK_MISS, EDM_HOOK_TOUCH, EDM_HOOK_KEEP, EDM_HOOK_USED,
                           EDM_HOOK_UNUSED, ... };
    void edm_custom_evictor(edm_evictor *, const char *, int, int, unsigned);
    void edm_custom_prefetcher(edm_prefetcher *, const char *, unsigned);
    int edm_ask_used(edm_pager *, uint32_t);
    int64_t edm_any_victim(edm_pager *);
    int edm_may_leave(const edm_pager *, int64_t);
    """
)
ffibuilder.set_source(
    "edm_policy._core",
    '#include "../custom_glue.h"\n#include "driver.h"\n#include "shards.h"\n#include "ring.h"',
    sources=[os.path.relpath(f, HERE.parent) for f in sorted(C.glob("*.c"))],
    include_dirs=[str(C)],
    depends=[str(f) for f in sorted({*C.glob("*.h"), *C.glob("*.def"), HERE / "custom_glue.h"})],
    extra_compile_args=CFLAGS,
    extra_link_args=LDFLAGS,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
