import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edm_policy.errors import EdmError, UsageError
from edm_workload import Trace
from edm_workload.trace import concatenate

pages = st.lists(st.integers(0, 2**40), min_size=1, max_size=200)
few_pages = st.lists(st.integers(0, 12), min_size=1, max_size=200)


def full_trace():
    rng = np.random.default_rng(5)
    return Trace(
        rng.integers(0, 2**40, 1000, dtype=np.uint64),
        rng.random(1000) < 0.5,
        tid=rng.integers(0, 4, 1000),
        t_ns=np.cumsum(rng.integers(0, 1000, 1000)),
        hits=rng.integers(0, 9, 1000),
        metadata={"source": "test", "seed": 5},
    )


def test_save_and_load_keep_everything(tmp_path):
    trace = full_trace()
    trace.save(tmp_path / "t.parquet")
    back = Trace.load(tmp_path / "t.parquet")
    assert back.columns == ["page", "write", "tid", "t_ns", "hits"]
    for name in trace.columns:
        assert getattr(back, name).dtype == getattr(trace, name).dtype
        assert np.array_equal(getattr(back, name), getattr(trace, name))
    assert back.metadata == trace.metadata | {"name": "t.parquet"}
    assert list(tmp_path.iterdir()) == [tmp_path / "t.parquet"]


def test_pages_take_32_bits_when_they_fit():
    assert Trace([1, 2**32 - 1]).page.dtype == np.uint32
    assert Trace([1, 2**32]).page.dtype == np.uint64


@pytest.mark.parametrize("bad", [[-1, 2], [0.5], [[1, 2]]])
def test_pages_that_cannot_be_are_refused(bad):
    with pytest.raises(UsageError):
        Trace(np.array(bad))


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(UsageError, match="write has 1 values for 2 records"):
        Trace([1, 2], [True])


@given(pages)
def test_dense_by_touch_numbers_in_order_of_first_touch(numbers):
    dense = Trace(np.array(numbers, dtype=np.uint64)).dense()
    seen = {p: i for i, p in enumerate(dict.fromkeys(numbers))}
    assert dense.page.tolist() == [seen[p] for p in numbers]
    assert dense.footprint == dense.span == len(seen)


@given(pages)
def test_dense_by_address_keeps_the_order_of_pages(numbers):
    dense = Trace(np.array(numbers, dtype=np.uint64)).dense("address")
    rank = {p: i for i, p in enumerate(sorted(set(numbers)))}
    assert dense.page.tolist() == [rank[p] for p in numbers]


@given(few_pages)
def test_next_use_is_the_next_reference_to_the_same_page(numbers):
    expected = [
        next((j for j in range(i + 1, len(numbers)) if numbers[j] == p), -1)
        for i, p in enumerate(numbers)
    ]
    assert Trace(np.array(numbers)).next_use().tolist() == expected
    assert Trace(np.array(numbers) + 2**40).next_use().tolist() == expected


def test_arrays_are_what_c_takes():
    page, write = full_trace().dense().arrays()
    assert page.dtype == np.uint32 and page.flags.c_contiguous
    assert write.dtype == np.uint8 and set(np.unique(write)) == {0, 1}
    assert Trace([1]).arrays()[1] is None


def test_arrays_of_wide_pages_ask_for_dense():
    with pytest.raises(UsageError, match=r"dense\(\)"):
        Trace(np.array([2**40])).arrays()


def test_references_count_what_was_folded():
    trace = Trace([1, 2], hits=[3, 0])
    assert len(trace) == 2 and trace.references == 5
    assert trace.info()["references"] == 5


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 40_000)), min_size=1, max_size=40))
def test_split_blocks_touches_every_overlapped_page_once(requests):
    lbn, size = zip(*requests, strict=True)
    trace = Trace(np.array(lbn), size=np.array(size), t_ns=np.arange(len(lbn)))
    split = trace.split_blocks(512)
    expected = [
        (page, i)
        for i, (b, s) in enumerate(requests)
        for page in range(b * 512 // 4096, (b * 512 + max(s, 1) - 1) // 4096 + 1)
    ]
    assert list(zip(split.page.tolist(), split.t_ns.tolist(), strict=True)) == expected
    assert split.size is None


def test_split_blocks_without_sizes_is_refused():
    with pytest.raises(UsageError, match="no sizes"):
        Trace([1]).split_blocks()


def test_head_cuts_all_columns():
    trace = full_trace()
    cut = trace.head(10)
    assert len(cut) == 10 and cut.columns == trace.columns
    assert trace.head(10**6) is trace


def test_concatenate_keeps_shared_columns():
    joined = concatenate([Trace([1], [True], hits=[1]), Trace([2], [False])])
    assert joined.columns == ["page", "write"] and joined.page.tolist() == [1, 2]


def test_a_reduced_trace_says_for_whom_it_is_exact():
    whole = Trace([1])
    collapsed = Trace([1], metadata={"reduction": "collapsed", "k": 1})
    reduced = Trace([1], metadata={"reduction": "collapsed, sad", "k": 64})
    assert whole.caveat("sieve", 1) is None
    assert collapsed.caveat("fifo", 1) is None and "clock" in collapsed.caveat("clock", 1)
    assert reduced.caveat("lru", 64) is None and reduced.caveat("belady", 100) is None
    assert "63 frames" in reduced.caveat("lru", 63)
    assert "not for fifo" in reduced.caveat("fifo", 100)
    assert "not for lpet" in reduced.caveat("lpet:rounds=2", 100)


def test_saving_where_nothing_can_be_is_one_line(tmp_path):
    with pytest.raises(EdmError, match="no folder") as caught:
        Trace([1]).save(tmp_path / "no" / "t.parquet")
    assert "\n" not in str(caught.value)
