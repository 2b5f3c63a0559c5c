"""sealed:KEYFILE,URL, beyond the contract: what the memory server sees, and what it cannot do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tests.child import passes
from tests.store import PAGE, Pages, Store, random_pages, store_or_skip, text_pages

BAD = [-errno.EBADMSG]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    return path


class Served:
    """A sealed store over a file that the test reads and changes, as whoever has the server may."""

    def __init__(self, key: Path, folder: Path):
        self.file = folder / "pages"
        self.store = store_or_skip(f"sealed:{key},file:{self.file}?keep=1")

    def read(self, page: int) -> bytes:
        return self.file.read_bytes()[page * PAGE : (page + 1) * PAGE]

    def write(self, page: int, data: bytes) -> None:
        with self.file.open("r+b") as f:
            f.seek(page * PAGE)
            f.write(data)

    def get(self, page: int) -> tuple[Pages, list[int]]:
        return self.store.get([page])


@pytest.fixture
def served(key: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    s = Served(key, tmp_path)
    with s.store:
        yield s


def test_the_server_sees_nothing_of_a_page(served: Served) -> None:
    """And as many bytes as the page has; equal pages look different, and so does one put twice."""
    data = np.repeat(text_pages(1), 3, axis=0)
    served.store.put([0, 1, 2], data)
    first = served.read(0)
    served.store.put([0], data[:1])
    seen = [first, *(served.read(k) for k in range(3))]
    assert served.file.stat().st_size == 3 * PAGE and len(set(seen)) == 4
    for sealed in seen:
        same = (np.frombuffer(sealed, np.uint8) == data[0]).mean()
        assert same < 0.02  # by chance: 1/256
        assert np.unique(np.frombuffer(sealed, np.uint8)).size == 256


def test_another_run_with_the_same_key_seals_otherwise(key: Path, tmp_path: Path) -> None:
    seen = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        served = Served(key, tmp_path / run)
        with served.store:
            served.store.put([0], text_pages(1))
            seen.append(served.read(0))
    assert seen[0] != seen[1]


def test_swapped_pages_are_refused(served: Served) -> None:
    data = text_pages(2)
    served.store.put([0, 1], data)
    a, b = served.read(0), served.read(1)
    served.write(0, b)
    served.write(1, a)
    back, results = served.store.get([0, 1])
    assert results == BAD * 2 and not back.any()
    served.write(0, a)
    assert served.get(0)[1] == [0] and (served.get(0)[0] == data[0]).all()


def test_an_older_version_is_refused(served: Served) -> None:
    served.store.put([3], text_pages(1, 1))
    old = served.read(3)
    served.store.put([3], text_pages(1, 2))
    served.write(3, old)
    assert served.get(3)[1] == BAD


def test_an_older_version_of_the_same_bytes_is_refused(served: Served) -> None:
    data = text_pages(1)
    served.store.put([3], data)
    old = served.read(3)
    served.store.delete([3])
    served.store.put([3], data)
    served.write(3, old)
    assert served.get(3)[1] == BAD


@pytest.mark.parametrize("byte", [0, PAGE // 2, PAGE - 1])
def test_one_bit_is_enough_to_refuse_a_page(served: Served, byte: int) -> None:
    served.store.put([1, 2], text_pages(2))
    sealed = bytearray(served.read(1))
    sealed[byte] ^= 0x10
    served.write(1, bytes(sealed))
    back, results = served.store.get([1, 2])
    assert results == [*BAD, 0] and not back[0].any() and (back[1] == text_pages(2)[1]).all()


@pytest.mark.parametrize("inner", ["zstd+sealed:{key},mem:", "sealed:{key},zstd+mem:"])
def test_packing_goes_outside(key: Path, inner: str) -> None:
    """What is sealed does not get smaller: stats show which order pays."""
    store_or_skip("zstd+mem:").close()
    with store_or_skip(inner.format(key=key)) as store:
        data = text_pages(64)
        store.put(range(64), data)
        assert (store.get(range(64))[0] == data).all()
        ratio = 64 * PAGE / store.stats()["bytes_held"]
        assert ratio > 4 if inner.startswith("zstd") else 0.9 < ratio < 1.1


def bad(path: Path, problem: str) -> None:
    if problem == "short":
        path.write_bytes(b"x" * 31)
    elif problem == "long":
        path.write_bytes(b"x" * 33)
    elif problem == "open to others":
        path.chmod(0o640)
    elif problem == "none":
        path.unlink()
    else:
        path.unlink()
        path.mkdir(mode=0o700)


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        ("short", "a key is 32 bytes, no more and no less; make one: (umask 077;"),
        ("long", "a key is 32 bytes, no more and no less; make one: (umask 077;"),
        ("open to others", "others may read or write it; chmod 600 {key}"),
        ("none", "there is none; make one: (umask 077;"),
        ("a folder", "not a file"),
    ],
)
def test_a_key_file_that_will_not_do(key: Path, problem: str, says: str) -> None:
    store_or_skip(f"sealed:{key},mem:").close()
    bad(key, problem)
    with pytest.raises(ValueError) as error:
        Store(f"sealed:{key},mem:")
    assert f"key file {key}: {says.format(key=key)}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["sealed:", "sealed:x", "sealed:,mem:"])
def test_a_url_without_key_or_store(key: Path, url: str) -> None:
    store_or_skip(f"sealed:{key},mem:").close()
    with pytest.raises(ValueError, match="write sealed:KEYFILE,URL"):
        Store(url)


def test_what_the_inner_store_says_is_passed_on(key: Path) -> None:
    store_or_skip(f"sealed:{key},mem:").close()
    with pytest.raises(ValueError, match="unknown store 'tape'"):
        Store(f"sealed:{key},tape:")
    with Store(f"sealed:{key},mem:?cap=16KiB") as store:
        assert store.put(range(5), random_pages(5)) == [0, 0, 0, 0, -errno.ENOSPC]


@pytest.mark.uffd
@pytest.mark.parametrize(
    "inner", ["mem:", "zstd+mem:", "replicated:mem:,file:", "shaped:flip=0.01,mem:"]
)
def test_a_workload_over_it_is_verified(key: Path, inner: str) -> None:
    store_or_skip(f"sealed:{key},mem:").close()
    passes(
        """
        key = open(sys.argv[1], "rb").read()
        with Region(2048, local=256, store=f"sealed:{sys.argv[1]},{sys.argv[2]}") as r:
            page = np.random.default_rng(1).integers(0, 2048, 20000).astype(np.uint32)
            done = r.replay(page, (page % 3 == 0).astype(np.uint8), threads=4, fill=True)
            assert done["verified"] and done["fetches"] > 1000
            for said in (repr(r.stats()), repr(done), r.store_url):
                assert key.hex() not in said and repr(key) not in said
        """,
        str(key),
        inner,
    )


@pytest.mark.uffd
def test_a_page_the_server_changed_is_lost_and_named_and_the_others_are_not(
    key: Path, tmp_path: Path
) -> None:
    store_or_skip(f"sealed:{key},mem:").close()
    passes(
        """
        with Region(64, local=8, store=f"sealed:{sys.argv[1]},file:{sys.argv[2]}/p?keep=1",
                    deadline_s=0.3) as r:
            a = r.array(np.uint8, (64, 4096))
            for k in range(64): a[k] = k
            r.evict()
            with open(sys.argv[2] + "/p", "r+b") as f:
                f.seek(3 * 4096 + 17)
                byte = f.read(1)
                f.seek(3 * 4096 + 17)
                f.write(bytes([byte[0] ^ 1]))
            try:
                r.prefault(a[3])
                raise SystemExit("handed out")
            except PageLostError as error:
                assert "page 3" in str(error), str(error)
            for k in (*range(3), *range(4, 64)): assert (a[k] == k).all(), k
            del a
        """,
        str(key),
        str(tmp_path),
    )
