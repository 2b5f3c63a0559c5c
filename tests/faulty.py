"""Regions on a store that fails as often as it is told: see faulty_store.c. For child processes."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

from edm_real._core import ffi, lib

import edm_real.region
from edm_real import Region
from tests.compiled import ROOT, shared_library


def _compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        source = ROOT / "tests" / "faulty_store.c"
        made = ctypes.CDLL(str(shared_library(source, Path(folder) / "faulty.so")))
    made.faulty_open.restype = ctypes.c_void_p
    return made


_faulty = _compiled()
_last = 0


class _Lib:
    """The extension, but for stores, which are wrapped as they are opened."""

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)

    def edm_store_open(self, *args: Any) -> Any:
        global _last
        inner = lib.edm_store_open(*args)
        if inner == ffi.NULL:
            return inner
        _last = _faulty.faulty_open(ctypes.c_void_p(int(ffi.cast("uintptr_t", inner))))
        return ffi.cast("edm_store *", _last)


class FaultyRegion(Region):
    """A Region whose store obeys fail()."""

    def __init__(self, *args: Any, **options: Any):
        edm_real.region.lib = _Lib()  # type: ignore[assignment]
        try:
            super().__init__(*args, **options)
        finally:
            edm_real.region.lib = lib
        self._faulty = ctypes.c_void_p(_last)

    def fail(self, get: float = 0, put: float = 0, hang: float = 0, flip: float = 0) -> None:
        """Chances, 0 to 1, from now on."""
        chances = [ctypes.c_uint32(round(x * 1e6)) for x in (get, put, hang, flip)]
        _faulty.faulty_set(self._faulty, *chances)

    def failures(self) -> dict[str, int]:
        """How often it did."""
        out = (ctypes.c_uint64 * 4)()
        _faulty.faulty_counts(self._faulty, out)
        return dict(zip(("get", "put", "hang", "flip"), out, strict=True))
