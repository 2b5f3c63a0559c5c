import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edm_policy.errors import EdmError, UsageError
from edm_workload import Trace, synth, trace_from
from edm_workload.synth import SYNTHS, zipf_ranks


@pytest.mark.parametrize("name", SYNTHS)
def test_same_seed_same_trace_and_pages_in_range(name):
    first, second = synth(name, 300, 5000, seed=9), synth(name, 300, 5000, seed=9)
    assert np.array_equal(first.page, second.page) and np.array_equal(first.write, second.write)
    assert len(first) == 5000 and first.page.max() < 300
    assert first.metadata["seed"] == 9


@pytest.mark.parametrize("name", ["uniform", "zipf", "phases", "scanloop"])
def test_another_seed_is_another_trace(name):
    assert not np.array_equal(synth(name, 300, 5000, 1).page, synth(name, 300, 5000, 2).page)


def test_the_traces_of_today_are_those_of_tomorrow():
    """Published figures name a seed; a change of any generator must be seen."""
    digest = {
        name: hashlib.sha256(synth(name, 997, 20_000, 7).page.tobytes()).hexdigest()[:12]
        for name in SYNTHS
    }
    assert digest == DIGESTS


DIGESTS = {
    "uniform": "fa23b8aaf6d1",
    "zipf": "40aab432d126",
    "seq": "fef120fffc1a",
    "stride": "7d9257c7f6c4",
    "loop": "78c5d2491698",
    "phases": "5fc2ca8f24c8",
    "scanloop": "a9dc36818614",
}


@given(st.integers(1, 40), st.floats(0.1, 3.0), st.integers(0, 99))
def test_zipf_is_the_plain_inverse_of_the_cdf(n, alpha, seed):
    ranks = zipf_ranks(np.random.Generator(np.random.PCG64(seed)), n, 500, alpha)
    cdf = np.cumsum(np.arange(1, n + 1) ** -alpha)
    u = np.random.Generator(np.random.PCG64(seed)).random(500)
    assert np.array_equal(ranks, np.searchsorted(cdf / cdf[-1], u, side="right"))


def test_zipf_frequencies_follow_the_law():
    counts = np.sort(np.bincount(synth("zipf:1.0", 1000, 1_000_000, 4).page, minlength=1000))[::-1]
    weight = 1 / np.arange(1, 1001)
    expected = 1_000_000 * weight / weight.sum()
    assert np.all(np.abs(counts[:50] - expected[:50]) < 6 * np.sqrt(expected[:50]))


def test_hot_pages_are_scattered():
    hottest = np.argsort(np.bincount(synth("zipf", 10_000, 500_000).page))[-20:]
    assert np.ptp(hottest) > 5000 and np.min(np.diff(np.sort(hottest))) >= 1


def test_the_regular_ones():
    assert synth("seq", 3, 7).page.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert synth("stride:2", 5, 7).page.tolist() == [0, 2, 4, 1, 3, 0, 2]
    assert synth("loop:0.4", 5, 5).page.tolist() == [0, 1, 0, 1, 0]
    assert synth("loop", 1, 3).page.tolist() == [0, 0, 0]


def test_phases_move_by_half_a_window():
    page = synth("phases:4", 1000, 40_000, seed=2).page.reshape(4, -1)
    sets = [set(part.tolist()) for part in page]
    assert all(len(s) <= 250 for s in sets)
    assert 80 < len(sets[0] & sets[1]) < 170
    assert not sets[0] & sets[2]


def test_scanloop_is_half_a_scan_and_half_a_loop():
    page = synth("scanloop", 2000, 100_000).page
    assert abs(np.mean(page < 100) - 0.525) < 0.01
    assert len(np.unique(page)) == 2000


def test_writes_have_their_share_and_leave_the_pages_alone():
    few, many = synth("zipf", 100, 100_000, writes=0.1), synth("zipf", 100, 100_000, writes=0.9)
    assert np.array_equal(few.page, many.page)
    assert abs(few.write.mean() - 0.1) < 0.01 and abs(many.write.mean() - 0.9) < 0.01
    assert not synth("seq", 9, 99, writes=0).write.any()
    assert synth("seq", 9, 99, writes=1).write.all()


BAD = "zif zipf:x zipf:-1 zipf:nan zipf:inf seq:2 loop:1.5 loop:0 stride:0 stride:2.5 stride:101"


@pytest.mark.parametrize("bad", ["", "phases:0", "phases:1.5", *BAD.split()])
def test_bad_specifications_are_one_line(bad):
    with pytest.raises(UsageError) as caught:
        synth(bad, 100, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("pages", "refs", "writes"), [(0, 1, 0), (1, 0, 0), (1, 1, 2)])
def test_bad_counts_are_refused(pages, refs, writes):
    with pytest.raises(UsageError):
        synth("seq", pages, refs, writes=writes)


def test_trace_from_takes_a_file_or_a_specification(tmp_path):
    path = tmp_path / "a.parquet"
    Trace([70, 50, 60, 50]).save(path)
    assert trace_from(path).page.tolist() == [2, 0, 1, 0]
    assert trace_from(path, refs=2).page.tolist() == [1, 0]
    assert len(trace_from("zipf:1.2", pages=10, refs=50)) == 50


def test_trace_from_says_which_it_might_have_been(tmp_path):
    with pytest.raises(UsageError, match="did you mean zipf"):
        trace_from("zip")
    with pytest.raises(EdmError, match="no such trace file"):
        trace_from(tmp_path / "none.parquet")
    with pytest.raises(EdmError, match="no such trace file"):
        trace_from(tmp_path / "none.xyz")
