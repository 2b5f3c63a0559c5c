"""A store opened by URL, driven through its C contract with numpy arrays."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from edm_real._core import ffi, lib
from numpy.typing import NDArray

from edm_real.store_url import resolved
from tests.compiled import ROOT, shared_library

PAGE = 4096
UNTOUCHED = 0xA5
Pages = NDArray[np.uint8]
Sizes = Sequence[int] | None


class Store:
    """pages numbers 0 .. pages - 1 of PAGE bytes. Calls return each page's result: 0 or -errno."""

    def __init__(self, url: str, pages: int = 64):
        why = ffi.new("char[512]")
        self.raw = lib.edm_store_open(resolved(url).encode(), PAGE, pages, why, 512)
        if self.raw == ffi.NULL:
            raise ValueError(ffi.string(why).decode())

    def _call(
        self, name: str, pages: Sequence[int], data: Pages, deadline_s: float, sizes: Sizes = None
    ) -> list[int]:
        items = ffi.new("edm_store_io[]", len(pages))
        assert data.flags.c_contiguous and data.shape == (len(pages), PAGE)
        base = ffi.cast("uintptr_t", ffi.from_buffer(data))
        for k, page in enumerate(pages):
            items[k].page = page
            items[k].size = sizes[k] if sizes is not None else 0
            items[k].data = ffi.cast("void *", int(base) + k * PAGE)
            items[k].result = -999  # a store must set it
        deadline = time.monotonic_ns() + int(deadline_s * 1e9)
        code = getattr(self.raw.ops, name)(self.raw, items, len(pages), deadline)
        results = [items[k].result for k in range(len(pages))]
        assert code == -sum(r != 0 for r in results), (code, results)
        return results

    def put(
        self, pages: Sequence[int], data: Pages, deadline_s: float = 5, sizes: Sizes = None
    ) -> list[int]:
        """sizes: of each page, the bytes that count; None: all."""
        return self._call("put", pages, data, deadline_s, sizes)

    def get(
        self, pages: Sequence[int], deadline_s: float = 5, sizes: Sizes = None
    ) -> tuple[Pages, list[int]]:
        """(bytes, results); bytes beyond a page's size are as get must leave them: UNTOUCHED."""
        data = np.full((len(pages), PAGE), UNTOUCHED, np.uint8)
        return data, self._call("get", pages, data, deadline_s, sizes)

    def delete(self, pages: Sequence[int], deadline_s: float = 5) -> list[int]:
        return self._call("del", pages, np.zeros((len(pages), PAGE), np.uint8), deadline_s)

    def sync(self, deadline_s: float = 5) -> int:
        return int(self.raw.ops.sync(self.raw, time.monotonic_ns() + int(deadline_s * 1e9)))

    def add(self, url: str) -> None:
        """A member more, for striped:. ValueError: its line."""
        why = ffi.new("char[512]")
        if lib.edm_store_add(self.raw, resolved(url).encode(), why, 512):
            raise ValueError(ffi.string(why).decode())

    def stats(self) -> dict[str, int]:
        out = ffi.new("edm_store_stats *")
        self.raw.ops.stats(self.raw, out)
        return {name: int(getattr(out, name)) for name, _ in ffi.typeof("edm_store_stats").fields}

    def close(self) -> None:
        self.raw.ops.close(self.raw)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Kind(ctypes.Structure):
    """edm_store_kind of stores.h"""

    _fields_ = (
        ("prefix", ctypes.c_char_p),
        ("usage", ctypes.c_char_p),
        (
            "open",
            ctypes.CFUNCTYPE(
                ctypes.c_void_p,
                *(ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64),
                *(ctypes.c_char_p, ctypes.c_size_t),
            ),
        ),
    )


def example(folder: Path, pages: int = 64, rest: str = "") -> Store:
    """The store that docs/write-a-store.md shows, compiled from there."""
    (code,) = re.findall(r"```c\n(.*?)```", (ROOT / "docs/write-a-store.md").read_text(), re.S)
    source = folder / "store_heap.c"
    source.write_text(code)
    library = shared_library(source, folder / "store_heap.so")
    kind = _Kind.in_dll(ctypes.CDLL(str(library)), "edm_store_heap")
    why = ctypes.create_string_buffer(512)
    raw = kind.open(rest.encode(), PAGE, pages, why, 512)
    if not raw:
        raise ValueError(why.value.decode())
    store = Store.__new__(Store)
    store.raw = ffi.cast("edm_store *", raw)
    return store


def store_or_skip(url: str, pages: int = 64) -> Store:
    """The store, or a skip with its reason where it was not built."""
    try:
        return Store(url, pages)
    except ValueError as error:
        if "built without" in str(error):
            pytest.skip(str(error))
        raise


def random_pages(n: int, seed: int = 1) -> Pages:
    """n pages that no compressor makes smaller."""
    return np.random.default_rng(seed).integers(0, 256, (n, PAGE), dtype=np.uint8)


def text_pages(n: int, seed: int = 1) -> Pages:
    """n pages that compress well, each another."""
    rng = np.random.default_rng(seed)
    return rng.choice(np.frombuffer(b"etaoin shrdlu", np.uint8), (n, PAGE // 8)).repeat(8, axis=1)
