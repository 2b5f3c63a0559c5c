"""zstd+URL and lz4+URL, beyond the contract."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.child import passes
from tests.store import PAGE, Store, random_pages, store_or_skip, text_pages

CODECS = ["zstd", "lz4"]


@pytest.fixture(params=CODECS)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with store_or_skip(f"{request.param}+mem:", 1024) as s:
        yield s


def held(store: Store) -> int:
    return store.stats()["bytes_held"]


def test_a_page_of_one_word_takes_a_word(store: Store) -> None:
    data = np.zeros((3, PAGE), np.uint8)
    data[1] = 7
    data[2] = np.tile(np.arange(8, dtype=np.uint8), PAGE // 8)
    store.put([0, 1, 2], data)
    assert store.stats()["same"] == 3 and held(store) == 3 * 8
    assert (store.get([0, 1, 2])[0] == data).all()
    store.put([1], text_pages(1))
    assert store.stats()["same"] == 2


def test_text_gets_smaller_and_noise_stays_as_it_is(store: Store) -> None:
    store.put(range(100), text_pages(100))
    assert held(store) < 100 * PAGE / 2
    store.put(range(100, 200), random_pages(100))
    assert 100 * PAGE <= held(store) < 150 * PAGE


def test_memory_is_used_again(store: Store) -> None:
    """Every size in turn, over and over: nothing is left behind, whatever replaces what."""
    rng = np.random.default_rng(1)
    for turn in range(20):
        data = random_pages(1024, seed=turn)
        for k, zeros in enumerate(rng.integers(0, PAGE, 1024)):
            data[k, :zeros] = 0
        order = rng.permutation(1024).tolist()
        assert set(store.put(order, data)) == {0}
        gone = order[: int(rng.integers(1024))]
        store.delete(gone)
        left = order[len(gone) :]
        if left:
            assert (store.get(left)[0] == data[len(gone) :]).all()
    store.delete(range(1024))
    assert held(store) == store.stats()["pages"] == 0


@pytest.mark.parametrize("codec", CODECS)
def test_the_cap_is_of_packed_bytes(codec: str) -> None:
    with store_or_skip(f"{codec}+mem:?cap=64KiB", 256) as store:
        assert set(store.put(range(20), text_pages(20))) == {0}  # 80 KiB of pages
        results = store.put(range(20, 40), random_pages(20))
        assert set(results) == {0, -errno.ENOSPC} and held(store) <= 65536
        assert (store.get(range(20))[0] == text_pages(20)).all()
        assert store.put([255], np.zeros((1, PAGE), np.uint8)) == [0]


@pytest.mark.parametrize("codec", CODECS)
def test_what_will_not_do(codec: str) -> None:
    store_or_skip(f"{codec}+mem:").close()
    for url, says in [
        (f"{codec}+mem:?level=99", "level must be"),
        (f"{codec}+mem:?level=x", "level: this value cannot be"),
        (f"{codec}+mem:?cap=64MiB&levl=1", "unknown option 'levl'; there are: cap"),
        (f"{codec}+tape:", "unknown store 'tape'"),
    ]:
        with pytest.raises(ValueError, match=says.replace("+", r"\+")):
            Store(url)


@pytest.mark.parametrize("url", ["mem:?level=3&cap=64KiB", "mem:?cap=64KiB&level=3"])
def test_the_level_is_the_packers_and_the_rest_the_inner_stores(url: str) -> None:
    with store_or_skip(f"zstd+{url}") as store:
        assert -errno.ENOSPC in store.put(range(20), random_pages(20))


def test_only_packed_bytes_go_inside(tmp_path: Path) -> None:
    """And a page that became one word leaves the inner store."""
    with store_or_skip(f"zstd+file:{tmp_path}/p?keep=1") as store:
        store.put([0], text_pages(1))
        assert 0 < (tmp_path / "p").stat().st_size < PAGE / 2
        whole = store.stats()["bytes_held"]
        store.put([0], np.zeros((1, PAGE), np.uint8))
        assert store.stats()["bytes_held"] == 8 < whole


@pytest.mark.uffd
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("inner", ["mem:", "replicated:mem:,file:", "shaped:fail=0.01,mem:"])
def test_a_workload_over_it_is_verified(codec: str, inner: str) -> None:
    store_or_skip(f"{codec}+mem:").close()
    passes(
        """
        with Region(2048, local=256, store=sys.argv[1]) as r:
            page = np.random.default_rng(1).integers(0, 2048, 30000).astype(np.uint32)
            done = r.replay(page, (page % 3 == 0).astype(np.uint8), threads=4, fill=True)
            assert done["verified"] and done["fetches"] > 1000
        """,
        f"{codec}+{inner}",
    )
