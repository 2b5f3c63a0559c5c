"""shaped: delays and failures in front of a store."""

from __future__ import annotations

import errno
import threading
import time

import numpy as np
import pytest

from edm_policy.errors import UsageError
from edm_real.store_url import resolved, shaped
from tests.store import Store, random_pages


def took(store: Store, n: int = 1) -> float:
    begin = time.perf_counter()
    store.get(list(range(n)))
    return time.perf_counter() - begin


def test_a_round_trip_takes_its_time() -> None:
    with Store("shaped:p50=2ms,mem:") as store:
        times = sorted(took(store) for _ in range(9))
    assert times[0] >= 0.002 and times[4] < 0.004


def test_the_spread_is_that_of_p50_and_p99() -> None:
    """Milliseconds: on a busy machine a call comes back 0.1 to 0.2 ms late."""
    with Store("shaped:p50=2ms,p99=20ms,mem:") as store:
        times = sorted(took(store) for _ in range(300))
    assert times[150] == pytest.approx(2e-3, rel=0.4)
    assert times[255] == pytest.approx(2e-3 * 10 ** (1.036 / 2.326), rel=0.5)  # p85


def test_the_link_is_shared_by_what_goes_through_it() -> None:
    with Store("shaped:gbit=0.1,mem:") as store:  # 0.33 ms a page
        store.put(list(range(30)), random_pages(30))
        begin = time.perf_counter()
        store.get(list(range(30)))
        assert time.perf_counter() - begin >= 30 * 4096 * 8 / 0.1e9


def test_pages_that_are_put_do_not_wait_for_those_that_are_got() -> None:
    with Store("shaped:gbit=0.003,mem:") as store:  # 11 ms a page
        store.put(list(range(30)), random_pages(30))
        busy = threading.Thread(target=store.get, args=(list(range(30)),))
        busy.start()
        time.sleep(0.01)
        begin = time.perf_counter()
        store.put([40], random_pages(1))
        store.delete(list(range(30)))  # no page goes over the link
        assert time.perf_counter() - begin < 0.2  # the 30 pages take 328 ms
        busy.join()


def test_failures_come_as_often_as_said_and_the_seed_repeats_them() -> None:
    def failures(seed: int) -> list[int]:
        with Store(f"shaped:fail=0.2,seed={seed},mem:") as store:
            return [r for _ in range(40) for r in store.put(range(16), random_pages(16))]

    first = failures(3)
    assert first == failures(3) != failures(4)
    assert set(first) == {0, -errno.EIO} and 0.1 < np.count_nonzero(first) / len(first) < 0.3


def test_a_flip_is_one_bit() -> None:
    data = random_pages(16)
    with Store("shaped:flip=0.5,mem:") as store:
        store.put(range(16), data)
        back, results = store.get(range(16))
    flipped = np.unpackbits(back ^ data, axis=1).sum(axis=1)
    assert set(results) == {0} and set(flipped.tolist()) == {0, 1}


def test_a_call_that_hangs_ends_at_the_deadline() -> None:
    with Store("shaped:hang=1,mem:") as store:
        begin = time.perf_counter()
        assert store.get([1], deadline_s=0.1)[1] == [-errno.ETIMEDOUT]
        assert 0.09 < time.perf_counter() - begin < 0.5


def test_presets_become_numbers_before_c() -> None:
    assert resolved("shaped:tcp-az,mem:") == "shaped:p50=120us,p99=400us,gbit=10,mem:"
    assert resolved("mem:") == "mem:" and shaped("mem:", "none") == "mem:"
    table = {"p50_us": 5, "loss": 0.01}
    assert shaped("file:", table, 7) == "shaped:p50=5us,p99=5us,loss=0.01,seed=7,file:"
    with pytest.raises(UsageError, match="tcp-az"):
        resolved("shaped:tcp-a,mem:")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("shaped:p50=x,mem:", "p50=120us"),
        ("shaped:nope=1,mem:", "unknown option 'nope'"),
        ("shaped:p50=2ms,p99=1ms,mem:", "p99 must not be below p50"),
        ("shaped:fail=2,mem:", "fail"),
        ("shaped:p50=1ms,nowhere:", "unknown store 'nowhere'"),
        ("mem:?cap=3Q", "cap=64MiB"),
        ("mem:?placed=2", "placed=1"),
        ("", "unknown store: the URL is empty; write mem:, file:PATH"),
        ("redes://me:secret@host/0", "unknown store 'redes'; there are: mem: file:"),
        ("redes://me:secret@host/0", " sealed:"),  # to the last: the line is not cut
        ("mem", "store mem: this URL cannot be; write mem:"),
        ("zstd:mem:", "store zstd+: this URL cannot be; write zstd+URL"),
    ],
)
def test_a_url_that_will_not_do_is_one_clear_line(url: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        Store(url)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert "secret" not in str(error.value)
