"""file: what is beyond the contract."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from edm_real._core import lib

from tests.child import passes
from tests.store import PAGE, Store, random_pages, text_pages


def test_the_file_has_no_name_while_open_and_leaves_nothing(tmp_path: Path) -> None:
    with Store(f"file:{tmp_path}/pages"):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_gets_a_file_without_a_name(tmp_path: Path) -> None:
    with Store(f"file:{tmp_path}/"):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", ["", "&direct=1"])
def test_keep_leaves_the_file(tmp_path: Path, options: str) -> None:
    with Store(f"file:{tmp_path}/pages?keep=1{options}") as store:
        store.put([3], np.full((1, PAGE), 9, np.uint8))
    assert (tmp_path / "pages").read_bytes() == bytes(3 * PAGE) + b"\x09" * PAGE


def disc_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("options", ["", "&direct=1"])
def test_space_of_deleted_and_smaller_pages_goes_back(tmp_path: Path, options: str) -> None:
    path = tmp_path / "p"
    with Store(f"file:{path}?keep=1{options}") as store:
        for _ in range(3):  # and is used again
            store.put(range(64), random_pages(64))
            store.sync()
            assert store.stats()["bytes_held"] == 64 * PAGE <= disc_bytes(path)
            store.delete(range(60))
            store.sync()
            assert store.stats()["bytes_held"] == 4 * PAGE
            assert disc_bytes(path) < 16 * PAGE


def test_prealloc_takes_the_space_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "p"
    with Store(f"file:{path}?keep=1&prealloc=1", 256) as store:
        assert disc_bytes(path) >= 256 * PAGE
        store.put(range(256), random_pages(256))
        store.delete(range(256))
        assert disc_bytes(path) >= 256 * PAGE


@pytest.fixture
def small_disc(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path])
    if done.returncode:
        pytest.skip("mounting takes root")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_disc_that_is_too_small_says_so_at_the_start(small_disc: Path) -> None:
    with pytest.raises(ValueError) as error:
        Store(f"file:{small_disc}/p?prealloc=1", 1024)
    says = "no 4 MiB for prealloc=1: No space left on device; make room, or give another path"
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_full_disc_refuses_pages_and_keeps_the_others(small_disc: Path) -> None:
    with Store(f"file:{small_disc}/p", 512) as store:
        data = random_pages(512)
        results = store.put(range(512), data)
        assert set(results) == {0, -errno.ENOSPC}
        there = [k for k, r in enumerate(results) if not r]
        assert (store.get(there)[0] == data[there]).all()
        assert store.stats()["pages"] == len(there) > 200
        store.delete(there[:100])
        gone = [k for k, r in enumerate(results) if r][:50]
        assert set(store.put(gone, data[gone])) == {0}


def test_batches_go_through_io_uring_where_it_is_to_be_had(tmp_path: Path) -> None:
    rings = 0 if lib.edm_store_uring() else 4
    for options, has in [("", 0), ("?uring=1", 4), ("?direct=1", 4), ("?direct=1&uring=0", 0)]:
        with Store(f"file:{tmp_path}{options}") as store:
            assert store.stats()["rings"] == min(has, rings)


@pytest.mark.parametrize("options", ["direct=1", "direct=1&uring=0", "uring=1"])
def test_memory_may_lie_anywhere_and_sizes_be_any(tmp_path: Path, options: str) -> None:
    """In one batch: aligned pages, shifted ones, small ones."""
    raw = np.zeros(10 * PAGE, np.uint8)  # a page to align by, and one to shift into
    aligned = (-raw.ctypes.data) % PAGE
    with Store(f"file:{tmp_path}?{options}") as store:
        for shift in (0, 8, 512):
            data = raw[aligned + shift :][: 8 * PAGE].reshape(8, PAGE)
            data[:] = random_pages(8, seed=shift)
            sizes = [0, 100, PAGE, 513, 0, 512, PAGE - 1, 0]
            assert set(store.put(range(8), data, sizes=sizes)) == {0}
            back, results = store.get(range(8), sizes=sizes)
            assert set(results) == {0}
            for k, size in enumerate(sizes):
                assert (back[k, : size or PAGE] == data[k, : size or PAGE]).all()


@pytest.mark.parametrize("options", ["direct=1", "direct=1&uring=0"])
def test_direct_leaves_the_page_cache_alone(tmp_path: Path, options: str) -> None:
    """A write that went there is seen in the file by others at once, and takes no cached page."""
    path = tmp_path / "p"
    with Store(f"file:{path}?keep=1&{options}") as store:
        raw = np.zeros(65 * PAGE, np.uint8)
        data = raw[(-raw.ctypes.data) % PAGE :][: 64 * PAGE].reshape(64, PAGE)
        data[:] = text_pages(64)
        store.put(range(64), data)
        fd = os.open(path, os.O_RDONLY)
        cached = subprocess.run(
            ["fincore", "--bytes", "--noheadings", "--output", "RES", path],
            capture_output=True,
            text=True,
        )
        os.close(fd)
        assert cached.returncode == 0 and int(cached.stdout) == 0
        assert path.read_bytes() == data.tobytes()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("taken", "there is something already"),
        ("no/such/folder", "No such file or directory; give a path you may write to"),
        ("x?kep=1", "unknown option 'kep'; there are: keep direct prealloc uring"),
        ("x?direct=7", "direct: this value cannot be; write for example direct=1"),
        ("x?keep=1&uring=0.5", "uring: this value cannot be"),
    ],
)
def test_a_path_that_will_not_do(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ValueError) as error:
        Store(f"file:{tmp_path}/{path}")
    assert says in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.uffd
@pytest.mark.parametrize("options", ["direct=1", "direct=1&uring=0", "uring=1&prealloc=1"])
def test_a_workload_over_it_is_verified(tmp_path: Path, options: str) -> None:
    passes(
        """
        with Region(2048, local=256, store=sys.argv[1], prefetch="nextn") as r:
            page = np.arange(12000, dtype=np.uint32) * 7 // 3 % 2048
            done = r.replay(page, (page % 3 == 0).astype(np.uint8), threads=4, fill=True)
            assert done["verified"] and done["fetches"] > 1000
        """,
        f"file:{tmp_path}?{options}",
    )
