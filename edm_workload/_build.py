"""Builds edm_workload._core: the reduction of reference streams, in C."""

from pathlib import Path

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    struct edm_reduce;
    struct edm_reduce *edm_reduce_new(uint32_t k, uint32_t page_shift, int instructions);
    void edm_reduce_free(struct edm_reduce *r);
    int edm_reduce_lackey(struct edm_reduce *r, const char *text, size_t length);
    int edm_reduce_pages(struct edm_reduce *r, size_t n, const uint64_t *page,
                         const uint8_t *write, const uint64_t *t, const uint32_t *hits);
    size_t edm_reduce_count(struct edm_reduce *r);
    void edm_reduce_take(struct edm_reduce *r, uint64_t *page, uint8_t *write, uint64_t *t,
                         uint32_t *hits);
    """
)
# Relative to the project's root: setuptools takes no absolute paths.
_C = Path("edm_workload/c")
ffibuilder.set_source(
    "edm_workload._core",
    '#include "reduce.h"',
    sources=[str(_C / "reduce.c")],
    include_dirs=[str(_C)],
    depends=[str(_C / "reduce.h")],
    extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra"],
)
