"""Reduction: what it must preserve, against plain Python models of LRU and of the optimum."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edm_policy.errors import EdmError, UsageError
from edm_workload import Trace, synth

pytest.importorskip("edm_workload._core", reason="the C extension is not built")
from edm_workload.reduce import Reducer, reduce_trace

pages = st.lists(st.integers(0, 9), min_size=1, max_size=120)


def lru(trace, size):
    """(misses, write-backs) of LRU; dirty pages left at the end are written back."""
    frames, misses, written = OrderedDict(), 0, 0
    for page, write in zip(trace.page.tolist(), trace.write.tolist(), strict=True):
        dirty = frames.pop(page, None)
        misses += dirty is None
        if dirty is None and len(frames) == size:
            written += frames.popitem(last=False)[1]
        frames[page] = bool(dirty) or write
    return misses, written + sum(frames.values())


def optimum(trace, size):
    """Misses of Belady's MIN."""
    following, frames, misses = trace.next_use().tolist(), {}, 0
    for i, page in enumerate(trace.page.tolist()):
        if page not in frames:
            misses += 1
            if len(frames) == size:
                del frames[max(frames, key=frames.get)]
        frames[page] = following[i] if following[i] >= 0 else 10**9
    return misses


def collapse(numbers):
    return [p for i, p in enumerate(numbers) if i == 0 or numbers[i - 1] != p]


@given(pages)
def test_k_0_only_collapses_neighbours(numbers):
    reduced = reduce_trace(Trace(np.array(numbers)))
    assert reduced.page.tolist() == collapse(numbers)
    assert reduced.references == len(numbers)
    assert reduced.write is None and reduced.t_ns is None


@settings(max_examples=300)
@given(pages, st.integers(1, 8), st.randoms(use_true_random=False))
def test_lru_and_optimum_are_exact_from_k_frames_on(numbers, k, random):
    write = np.array([random.random() < 0.2 for _ in numbers])
    trace = Trace(np.array(numbers), write)
    reduced = reduce_trace(trace, k)
    assert reduced.references == len(numbers)
    for size in (k, k + 1, k + 3, 11):
        assert lru(reduced, size) == lru(trace, size)
        assert optimum(reduced, size) == optimum(trace, size)


@settings(max_examples=300)
@given(pages, st.integers(1, 8))
def test_everything_that_may_be_dropped_is(numbers, k):
    """A slow model of the definition: of p at t1, t2, t3 the middle one goes when at most
    k-1 other pages were referenced between t1 and t3."""
    plain = collapse(numbers)
    kept = []
    for i, page in enumerate(plain):
        own = [j for j in kept if plain[j] == page]
        if len(own) >= 2 and len(set(plain[own[-2] + 1 : i]) - {page}) <= k - 1:
            kept.remove(own[-1])
        kept.append(i)
    reduced = reduce_trace(Trace(np.array(numbers)), k)
    assert reduced.page.tolist() == [plain[i] for i in kept]


def test_growing_tables_change_nothing():
    """More records and pages than the first allocations hold, compacted several times."""
    trace = synth("phases:4", 4000, 300_000, seed=3)
    reduced = reduce_trace(trace, 500)
    assert len(reduced) < 0.6 * len(trace)
    assert reduced.references == len(trace)
    for size in (500, 800):
        assert lru(reduced, size) == lru(trace, size)


def test_time_and_hits_of_the_source_are_kept():
    trace = Trace([1, 1, 2, 1], [False, True, False, False], t_ns=[5, 6, 9, 30], hits=[2, 0, 1, 0])
    reduced = reduce_trace(trace)
    assert reduced.page.tolist() == [1, 2, 1]
    assert reduced.t_ns.tolist() == [5, 9, 30]
    assert reduced.hits.tolist() == [3, 1, 0]
    assert reduced.write.tolist() == [True, False, False]


def test_reducing_again_keeps_the_larger_k():
    trace = synth("zipf:1.0", 50, 2000)
    once = reduce_trace(trace, 20)
    assert once.metadata["reduction"] == "collapsed, sad" and once.metadata["k"] == 20
    again = reduce_trace(once, 0)
    assert again.metadata["reduction"] == "collapsed, sad" and again.metadata["k"] == 20


def test_threads_and_unsplit_blocks_are_refused():
    with pytest.raises(UsageError, match="several threads"):
        reduce_trace(Trace([1], tid=[0]))
    with pytest.raises(UsageError, match="split blocks"):
        reduce_trace(Trace([1], size=[8192]))


LACKEY = b"""==12== Lackey, an example Valgrind tool
I  04001090,3
 S 1ffeffe7e8,8
I  04001093,5
 L 1ffeffeffc,8
 M 00005000,4
==12==
I  04001098,1
 L 00005008,1
"""


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_lackey_text_cut_anywhere(piece):
    reducer = Reducer()
    for start in range(0, len(LACKEY), piece):
        reducer.feed_lackey(LACKEY[start : start + piece])
    trace = reducer.result({})
    # The eight bytes at ...ffc lie on two pages; the first is the one stored to before.
    assert trace.page.tolist() == [0x1FFEFFE, 0x1FFEFFF, 5]
    assert trace.write.tolist() == [True, False, True]
    assert trace.hits.tolist() == [1, 0, 1]
    assert trace.t_ns.tolist() == [1, 2, 2]


def test_instruction_fetches_on_request():
    reducer = Reducer(instructions=True)
    reducer.feed_lackey(b"I  04001ffe,4\nI  04002002,1\n L 04002010,1\n")
    trace = reducer.result({})
    assert trace.page.tolist() == [0x4001, 0x4002] and trace.hits.tolist() == [0, 2]


@pytest.mark.parametrize(
    "line", [b" L zz,8\n", b" L 10\n", b" L 10,\n", b" S 10,x\n", b" S 10,0\n", b" L ,8\n"]
)
def test_a_damaged_line_is_an_error(line):
    with pytest.raises(EdmError, match="cannot be read"):
        Reducer().feed_lackey(line)


def test_program_output_between_the_lines_is_passed_over():
    reducer = Reducer()
    reducer.feed_lackey(b"hello\n\n S\n--12-- warning\n L 00005000,4\n")
    assert reducer.result({}).page.tolist() == [5]


def references(*rows):
    kind = [("page", "<u8"), ("t", "<u8"), ("hits", "<u4"), ("write", "<u4")]
    return np.array(list(rows), kind).tobytes()


@pytest.mark.parametrize("piece", [1, 7, 24, 1000])
def test_references_cut_anywhere(piece):
    raw = references((5, 1, 2, 0), (6, 4, 0, 1), (5, 6, 0, 0), (5, 7, 1, 1)) + b"\n"
    reducer = Reducer()
    for start in range(0, len(raw), piece):
        assert not reducer.ended
        reducer.feed_references(raw[start : start + piece])
    assert reducer.ended and reducer.seen() == (7, 2)
    trace = reducer.result({})
    assert trace.page.tolist() == [5, 6, 5] and trace.write.tolist() == [False, True, True]
    assert trace.t_ns.tolist() == [1, 4, 6] and trace.hits.tolist() == [2, 0, 2]


@pytest.mark.parametrize("k", [0, 4])
def test_more_references_than_a_record_counts_are_kept_in_several(k):
    most = 2**32 - 1
    reducer = Reducer(k)
    for page in (1, 2, 1, 2, 1, 1):
        reducer.feed_references(references((page, 0, most - 1, 0)))
    trace = reducer.result({})
    assert trace.references == reducer.seen()[0] == 6 * most
    assert set(trace.page.tolist()) == {1, 2}
