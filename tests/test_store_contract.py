"""The contract of store.h: every store passes these tests.

A store of your own: add its URL to URLS (and what makes a server for it to `url`).
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from edm_real._core import ffi, lib

from tests.certificates import Certificates
from tests.servers import Cluster, Server
from tests.store import (
    PAGE,
    UNTOUCHED,
    Pages,
    Store,
    example,
    random_pages,
    store_or_skip,
    text_pages,
)

PAGES = 512
EXAMPLE = "docs/write-a-store.md"
URLS = [
    "mem:",
    "mem:?cap=64MiB",
    "file:{tmp}/pages",
    "zstd+mem:",
    "zstd+mem:?level=3&cap=64MiB",
    "lz4+mem:",
    "zstd+file:{tmp}/pages",
    "lz4+zstd+shaped:p50=5us,mem:",
    "zstd+replicated:mem:,file:,mem:",
    "sealed:{key},mem:",
    "zstd+sealed:{key},file:{tmp}/pages",
    "shaped:p50=5us,p99=20us,gbit=100,mem:",
    "replicated:mem:,[shaped:p50=10us,mem:],mem:",
    "replicated:mem:,file:?write=quorum",
    "replicated:[shaped:p50=20us,mem:],[shaped:p50=20us,seed=2,mem:]?read=first",
    "replicated:[shaped:p50=50us,mem:],[shaped:p50=20us,mem:],mem:?read=hedge:10us&write=quorum",
    "striped:mem:,mem:,mem:",
    "striped:[shaped:p50=20us,mem:],[shaped:p50=20us,mem:],file:,mem:",
    "striped:[replicated:mem:,[shaped:p50=20us,mem:]],[replicated:mem:,mem:]",
    "replicated:[striped:mem:,[shaped:p50=20us,mem:]],[striped:mem:,mem:]?read=first",
]
REDIS = [
    "redis-cluster://127.0.0.1:{cluster}/?prefix=in%cluster",
    "replicated:[redis-cluster://127.0.0.1:{cluster}/],mem:",
    "zstd+redis-cluster://127.0.0.1:{cluster}/",
    "rediss://127.0.0.1:{tls}/0?ca={ca}",
    "redis://127.0.0.1:{port}/0",
    "redis+unix://{socket}?db=3&prefix=other",
    "shaped:p50=100us,redis://127.0.0.1:{port}/1",
    "zstd+redis://127.0.0.1:{port}/2?prefix=packed",
    "replicated:redis://127.0.0.1:{port}/4,redis://127.0.0.1:{port}/5?read=hedge:p95",
    "sealed:{key},zstd+redis://127.0.0.1:{port}/3",
    "striped:redis://127.0.0.1:{port}/6,redis://127.0.0.1:{port}/7",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls(made: Certificates) -> Iterator[Server]:
    with made.server() as started:
        yield started


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as started:
        yield started


@pytest.fixture(params=[EXAMPLE, *URLS, *(pytest.param(u, marks=pytest.mark.redis) for u in REDIS)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    values: dict[str, object] = {"tmp": tmp_path, "key": key}
    if request.param in REDIS:
        if "{cluster}" in request.param:
            values["cluster"] = request.getfixturevalue("cluster").servers[0].port
        if "{tls}" in request.param:
            values["tls"] = request.getfixturevalue("tls").option("--tls-port")
            values["ca"] = request.getfixturevalue("made")["ca.pem"]
        running = request.getfixturevalue("server")
        values |= {"port": running.port, "socket": running.socket}
    if request.param == EXAMPLE:
        with example(tmp_path, PAGES) as s:
            yield s
        return
    with store_or_skip(request.param.format(**values), PAGES) as s:
        yield s


def test_it_says_what_it_is(store: Store) -> None:
    assert (store.raw.page_size, store.raw.pages) == (PAGE, PAGES)
    assert store.raw.caps & lib.EDM_STORE_SIGNAL_SAFE and store.raw.caps < 8
    assert ffi.string(store.raw.ops.scheme)
    assert store.stats()["pages"] == store.stats()["bytes_held"] == 0


def test_what_was_put_is_got(store: Store) -> None:
    data = random_pages(3)
    mine = data.copy()
    assert store.put([5, PAGES - 1, 0], mine) == [0, 0, 0]
    assert (mine == data).all()  # it is the caller's
    back, results = store.get([0, 5, PAGES - 1])
    assert results == [0, 0, 0]
    assert (back == data[[2, 0, 1]]).all()


@pytest.mark.parametrize("byte", [0, 0x5A, 10, 13])
def test_a_page_of_one_byte_comes_back(store: Store, byte: int) -> None:
    data = np.full((2, PAGE), byte, np.uint8)
    data[1, -1] ^= 1
    assert store.put([1, 2], data) == [0, 0]
    assert (store.get([1, 2])[0] == data).all()


def test_any_byte_in_any_order_comes_back(store: Store) -> None:
    data = np.arange(PAGE, dtype=np.uint8).reshape(1, PAGE)
    store.put([7], data)
    assert (store.get([7])[0] == data).all()


def test_a_put_replaces_the_whole_page(store: Store) -> None:
    for data in (random_pages(1), text_pages(1), np.zeros((1, PAGE), np.uint8), random_pages(1, 2)):
        assert store.put([9], data) == [0]
        assert (store.get([9])[0] == data).all()
    assert store.stats()["pages"] == 1


SIZES = [1, 7, 8, 63, 64, 65, 512, 1000, PAGE - 1, PAGE]


@pytest.mark.parametrize("make", [random_pages, text_pages])
def test_exactly_a_pages_size_is_kept(store: Store, make: Callable[[int], Pages]) -> None:
    """Nothing beyond it is read or written; sizes may differ within a batch, and change."""
    data = make(len(SIZES))
    for sizes in (SIZES, SIZES[::-1]):
        before = store.stats()["bytes_in"]
        assert set(store.put(range(len(sizes)), data, sizes=sizes)) == {0}
        assert store.stats()["bytes_in"] - before == sum(sizes)
        back, results = store.get(range(len(sizes)), sizes=sizes)
        assert set(results) == {0}
        for k, size in enumerate(sizes):
            assert (back[k, :size] == data[k, :size]).all(), size
            assert (back[k, size:] == UNTOUCHED).all(), size
    assert store.stats()["pages"] == len(SIZES)


def test_a_small_page_becomes_a_whole_one_and_small_again(store: Store) -> None:
    for seed, size in enumerate((100, 0, 200, PAGE, 3000)):
        data = random_pages(1, seed)
        assert store.put([5], data, sizes=[size]) == [0]
        back, results = store.get([5], sizes=[size])
        assert results == [0] and (back[0, : size or PAGE] == data[0, : size or PAGE]).all()
    assert store.delete([5]) == [0]
    assert store.get([5], sizes=[3000])[1] == [-errno.ENOENT]


def test_a_page_that_was_never_put_is_not_found(store: Store) -> None:
    store.put([1], random_pages(1))
    assert store.get([1, 2, 1])[1] == [0, -errno.ENOENT, 0]


def test_a_deleted_page_is_not_found(store: Store) -> None:
    data = random_pages(3)
    store.put([1, 2, 3], data)
    assert store.delete([2, 3, 60]) == [0, 0, 0]
    back, results = store.get([1, 2])
    assert results == [0, -errno.ENOENT] and (back[0] == data[0]).all()
    assert store.put([2], data[2:]) == [0] and (store.get([2])[0] == data[2]).all()


def test_a_batch_of_every_page(store: Store) -> None:
    data = np.concatenate([random_pages(PAGES // 2), text_pages(PAGES // 2)])
    order = np.random.default_rng(3).permutation(PAGES).tolist()
    assert set(store.put(order, data)) == {0}
    back, results = store.get(order[::-1])
    assert set(results) == {0} and (back == data[::-1]).all()


def test_an_empty_batch_is_well(store: Store) -> None:
    assert store.put([], random_pages(0)) == [] and store.get([])[1] == []


def test_stats_count_pages(store: Store) -> None:
    before = store.stats()
    store.put([1, 2, 3], random_pages(3))
    store.get([1, 2, 4])
    store.delete([1])
    after = store.stats()
    assert [after[k] - before[k] for k in ("puts", "gets", "dels")] == [3, 3, 1]
    assert after["pages"] == 2 and 0 < after["bytes_held"] <= 3 * PAGE
    assert after["bytes_in"] - before["bytes_in"] == 3 * PAGE


def test_a_past_deadline_is_an_answer_or_a_timeout_at_once(store: Store) -> None:
    data = random_pages(1)
    begin = time.monotonic()
    results = store.put([1], data, deadline_s=-1) + store.get([1], deadline_s=-1)[1]
    assert time.monotonic() - begin < 1
    assert set(results) <= {0, -errno.ETIMEDOUT, -errno.ENOENT}


def test_sync_is_well(store: Store) -> None:
    store.put([1], random_pages(1))
    assert store.sync() == 0


def test_threads_see_whole_pages_only(store: Store) -> None:
    """Two writers and two readers of the same pages: each page read is one that was written."""
    versions = [np.full((4, PAGE), v, np.uint8) for v in (1, 2)] + [text_pages(4), random_pages(4)]
    allowed = [{v[k].tobytes() for v in versions} for k in range(4)]
    wrong: list[object] = []
    end = time.monotonic() + 0.4
    store.put(range(4), versions[0])

    def write(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while time.monotonic() < end:
            store.put(range(4), versions[rng.integers(len(versions))])

    def read() -> None:
        while time.monotonic() < end:
            back, results = store.get(range(4))
            for k in range(4):
                if results[k] or back[k].tobytes() not in allowed[k]:
                    wrong.append((k, results[k]))

    run_all([lambda: write(1), lambda: write(2), read, read])
    assert not wrong, wrong[:20]


def test_a_page_that_is_deleted_meanwhile_is_there_or_not(store: Store) -> None:
    """One puts and deletes, two read: the page as put, or none; no other's, no zeros."""
    data = np.concatenate([text_pages(4), random_pages(4)])
    wrong: list[object] = []
    end = time.monotonic() + 0.3

    def come_and_go() -> None:
        while time.monotonic() < end:
            wrong.extend(r for r in store.put(range(8), data) if r)
            wrong.extend(r for r in store.delete(range(8)) if r)

    def read() -> None:
        while time.monotonic() < end:
            back, results = store.get(range(8))
            wrong.extend(r for r in results if r not in (0, -errno.ENOENT))
            wrong.extend(k for k in range(8) if not results[k] and (back[k] != data[k]).any())

    run_all([come_and_go, read, read])
    assert not wrong, wrong[:20]
    assert store.stats()["pages"] == 0


def test_many_threads_on_pages_of_their_own(store: Store) -> None:
    """More than a store has connections or contexts for."""
    threads = 40
    wrong: list[object] = []

    def work(t: int) -> None:
        mine = list(range(t, PAGES, threads))
        for turn in range(3):
            data = random_pages(len(mine), seed=t * 10 + turn)
            if turn == 1:
                data[::2] = text_pages(len(data[::2]), seed=t)
            bad = [r for r in store.put(mine, data) if r]
            back, results = store.get(mine)
            wrong.extend([*bad, *(r for r in results if r)])
            if (back != data).any():
                wrong.append((t, turn))
        store.delete(mine[:1])

    run_all([lambda t=t: work(t) for t in range(threads)])  # type: ignore[misc]
    assert not wrong, wrong[:20]
    assert store.stats()["pages"] == PAGES - threads


def run_all(jobs: list) -> None:  # type: ignore[type-arg]
    threads = [threading.Thread(target=job) for job in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
