"""The embedded stores through their C contract."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edm_real._core import ffi, lib


def opened(url: str, pages: int = 64) -> Any:
    why = ffi.new("char[256]")
    store = lib.edm_store_open(url.encode(), 4096, pages, why, 256)
    return ffi.string(why).decode() if store == ffi.NULL else store


@pytest.fixture(params=["mem:", "file:"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    s = opened(request.param if request.param == "mem:" else f"file:{tmp_path}/pages")
    yield s
    s.ops.close(s)


def io(pages: list[int], data: np.ndarray) -> Any:
    items = ffi.new("edm_store_io[]", len(pages))
    for k, page in enumerate(pages):
        items[k].page = page
        items[k].data = ffi.from_buffer(data[k])
    return items


def test_what_was_put_is_got(store: Any) -> None:
    data = np.random.default_rng(1).integers(0, 256, (3, 4096), dtype=np.uint8)
    assert store.ops.put(store, io([5, 63, 0], data), 3, 0) == 0
    back = np.zeros_like(data)
    assert store.ops.get(store, io([5, 63, 0], back), 3, 0) == 0
    assert (back == data).all()
    data[1] ^= 0xFF
    assert store.ops.put(store, io([63], data[1:]), 1, 0) == 0
    assert store.ops.get(store, io([63], back), 1, 0) == 0 and (back[0] == data[1]).all()


def test_a_page_never_put_or_deleted_is_an_error(store: Any) -> None:
    data = np.zeros((2, 4096), np.uint8)
    store.ops.put(store, io([1], data), 1, 0)
    items = io([1, 2], data)
    assert store.ops.get(store, items, 2, 0) == -1
    assert (items[0].result, items[1].result) == (0, -errno.ENOENT)
    assert getattr(store.ops, "del")(store, io([1], data), 1, 0) == 0
    assert store.ops.get(store, items, 2, 0) == -2 and items[0].result == -errno.ENOENT
    stats = ffi.new("edm_store_stats *")
    store.ops.stats(store, stats)
    assert stats.pages == stats.bytes_held == 0 and stats.gets == 4


def test_the_file_has_no_name_while_open_and_leaves_nothing(tmp_path: Path) -> None:
    store = opened(f"file:{tmp_path}/pages")
    assert list(tmp_path.iterdir()) == []
    store.ops.close(store)


def test_a_folder_gets_a_file_without_a_name(tmp_path: Path) -> None:
    store = opened(f"file:{tmp_path}/")
    assert not isinstance(store, str), store
    store.ops.close(store)
    assert list(tmp_path.iterdir()) == []


def test_keep_leaves_the_file(tmp_path: Path) -> None:
    store = opened(f"file:{tmp_path}/pages?keep=1")
    data = np.full((1, 4096), 9, np.uint8)
    store.ops.put(store, io([3], data), 1, 0)
    store.ops.close(store)
    assert (tmp_path / "pages").read_bytes() == bytes(3 * 4096) + b"\x09" * 4096


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("taken", "there is something already"),
        ("no/such/folder", "No such file or directory; give a path you may write to"),
        ("x?kep=1", "unknown option"),
    ],
)
def test_a_path_that_will_not_do(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "taken").write_text("mine")
    why = opened(f"file:{tmp_path}/{path}")
    assert isinstance(why, str) and says in why and "\n" not in why
    assert (tmp_path / "taken").read_text() == "mine"
