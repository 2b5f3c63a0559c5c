"""The reference policies: their own invariants, small examples, and counts known from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import POLICIES, Step, first_difference, make, misses, steps
from reference.arc import Arc
from reference.car import Car
from reference.clock_pro import ClockPro
from reference.mglru import Mglru
from reference.splitmix import SplitMix64
from reference.wtinylfu import WTinyLfu

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
EXPECTED = DATA / "expected.json"
NAMES_THERE = {"2q": "twoq"}
KNOWN = ["fifo", "lru", "clock", "2q", "arc", "lirs", "sieve", "s3fifo", "lfu", "belady"]
QUICK = ["lirs_gli", "lirs_cs", "lirs_ps", "lirs_multi2"]
LONG = ["lirs_loop", "lirs_sprite", "cloudPhysicsIO", "addr_gzip_p4k", "addr_mcf_p4k"]

# By default lirs gives the counts known for it, which were computed with more than C pages resident
# at times (lirs.py): what holds of policies that keep to their frames is asked of quirk 1.
WITHIN: dict[str, dict[str, int]] = {"lirs": {"quirk": 1}}

TRACES = st.lists(st.integers(0, 30), max_size=300)
SIZES = st.integers(2, 20)

every_policy = pytest.mark.parametrize("name", sorted(POLICIES))
needs_data = pytest.mark.skipif(
    not EXPECTED.exists(), reason="../shared/data/expected.json is not here: no counts to compare"
)


@cache
def load(trace: str) -> list[int]:
    import numpy as np
    import zstandard

    packed = (DATA / f"{trace}.u32.zst").read_bytes()
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    return np.frombuffer(raw, "<u4").tolist()


def counts_differing(name: str, trace: str, params: dict[str, int]) -> dict[int, tuple[int, int]]:
    """By size: our misses and the expected ones, where they are not the same."""
    expected = json.loads(EXPECTED.read_text())["traces"][trace]["misses"]
    counts = {
        int(size): (
            misses(name, load(trace), int(size), **params),
            row[NAMES_THERE.get(name, name)],
        )
        for size, row in expected.items()
    }
    assert counts
    return {size: pair for size, pair in counts.items() if pair[0] != pair[1]}


@needs_data
@pytest.mark.parametrize("trace", QUICK)
@pytest.mark.parametrize("name", KNOWN)
def test_misses_are_those_computed_elsewhere(name: str, trace: str) -> None:
    assert counts_differing(name, trace, {}) == {}


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("trace", LONG)
@pytest.mark.parametrize("name", KNOWN)
def test_misses_of_long_traces_are_those_computed_elsewhere(name: str, trace: str) -> None:
    assert counts_differing(name, trace, {}) == {}


@needs_data
@pytest.mark.parametrize("trace", QUICK)
def test_lirs_that_keeps_to_its_frames_differs_only_with_one_hir_frame(trace: str) -> None:
    assert all(size < 200 for size in counts_differing("lirs", trace, {"quirk": 1}))


def mixed_trace() -> list[int]:
    """7200 references to 512 pages: skewed draws, and two loops that take turns."""
    stream = SplitMix64(2026)
    trace: list[int] = []
    for turn in range(12):
        trace.extend(stream.below(1 + stream.below(300)) for _ in range(400))
        trace.extend(1000 + turn % 2 * 100 + step % 130 for step in range(200))
    return trace


# Counts of these very references where none are known from elsewhere: a definition, once other
# code follows it, must not move unnoticed.
PINNED_SIZES = (2, 7, 20, 100, 200)
PINNED = [
    ("mru", {}, [7152, 7061, 6797, 5339, 3820]),
    ("random", {}, [7137, 6983, 6619, 5042, 3757]),
    ("fifo-reinsertion", {}, [7133, 6981, 6598, 4856, 3818]),
    ("lfu", {"aging": 500}, [7110, 6816, 6344, 4447, 3510]),
    ("car", {}, [7111, 6930, 6416, 4310, 3807]),
    ("clock-pro", {}, [7125, 6921, 6389, 4294, 3800]),
    ("lirs", {"quirk": 0}, [7129, 6924, 6413, 4308, 3721]),
    ("lirs", {"quirk": 1}, [7129, 6924, 6413, 4308, 3726]),
    ("wtinylfu", {}, [7136, 6886, 6318, 4200, 2789]),
    ("wtinylfu", {"doorkeeper": 1}, [7133, 6901, 6305, 4243, 2822]),
    ("mglru", {}, [7132, 6982, 6617, 4935, 3496]),
    ("hyperbolic", {}, [7132, 6981, 6605, 4825, 3200]),
    ("lpet", {}, [7132, 6976, 6624, 4975, 3579]),
]


@pytest.mark.parametrize(("name", "params", "counts"), PINNED)
def test_definitions_stay_as_published(
    name: str, params: dict[str, int], counts: list[int]
) -> None:
    trace = mixed_trace()
    assert [misses(name, trace, size, **params) for size in PINNED_SIZES] == counts


@every_policy
@given(trace=TRACES, size=SIZES)
def test_residents_follow_from_the_steps_and_never_exceed_the_frames(
    name: str, trace: list[int], size: int
) -> None:
    resident: set[int] = set()
    for page, hit, evicted in steps(name, trace, size, **WITHIN.get(name, {})):
        assert hit == (page in resident)
        assert len(set(evicted)) == len(evicted)
        assert page not in evicted
        assert resident.issuperset(evicted)
        resident -= set(evicted)
        resident.add(page)
        assert len(resident) <= size


@every_policy
@given(trace=TRACES, size=SIZES)
def test_nobody_leaves_while_there_is_room(name: str, trace: list[int], size: int) -> None:
    resident = 0
    for _, hit, evicted in steps(name, trace, size, **WITHIN.get(name, {})):
        assert not evicted or resident == size
        resident += (not hit) - len(evicted)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"belady"}))
@given(trace=TRACES, size=SIZES)
def test_belady_is_never_beaten(name: str, trace: list[int], size: int) -> None:
    assert misses("belady", trace, size) <= misses(name, trace, size, **WITHIN.get(name, {}))


@given(trace=TRACES, size=SIZES)
def test_a_smaller_lru_cache_holds_a_subset_of_a_larger_one(trace: list[int], size: int) -> None:
    small, large = make("lru", trace, size), make("lru", trace, size + 1)
    for page in trace:
        small.access(page)
        large.access(page)
        assert small.resident <= large.resident


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"lirs"}))
@given(trace=TRACES)
def test_one_frame_keeps_the_last_page(name: str, trace: list[int]) -> None:
    repeats = sum(a == b for a, b in pairwise(trace))
    assert misses(name, trace, 1) == len(trace) - repeats


@given(trace=TRACES, size=SIZES)
def test_the_ghost_lists_of_arc_and_car_keep_their_bounds(trace: list[int], size: int) -> None:
    for policy in (Arc(size), Car(size)):
        for page in trace:
            policy.access(page)
            assert len(policy.t1) + len(policy.b1) <= size
            assert len(policy.resident) + len(policy.b1) + len(policy.b2) <= 2 * size


@given(trace=TRACES, size=SIZES)
def test_clock_pro_keeps_its_bounds(trace: list[int], size: int) -> None:
    policy = ClockPro(size)
    for page in trace:
        policy.access(page)
        entries = policy.entries.values()
        assert sum(not entry.resident for entry in entries) == policy.out_count <= size
        assert sum(entry.hot for entry in entries) == policy.hot_count
        assert policy.hot_count <= size - policy.cold_target
        assert {entry.page for entry in entries if entry.resident} == policy.resident
        assert all(entry.on_test for entry in entries if not entry.resident)


@given(trace=TRACES, size=SIZES)
def test_mglru_keeps_two_to_four_generations(trace: list[int], size: int) -> None:
    policy = Mglru(size)
    for page in trace:
        policy.access(page)
        assert 2 <= len(policy.generations) <= 4
        assert sorted(p for g in policy.generations for p in g) == sorted(policy.resident)


@given(trace=TRACES, size=SIZES)
def test_fifo_reinsertion_with_one_bit_is_clock(trace: list[int], size: int) -> None:
    one_bit = steps("fifo-reinsertion", trace, size, bits=1)
    assert first_difference(one_bit, steps("clock", trace, size)) is None


@given(trace=TRACES, size=SIZES)
def test_hyperbolic_is_exact_while_the_sample_covers_all(trace: list[int], size: int) -> None:
    exact = steps("hyperbolic", trace, size, sample=0)
    assert first_difference(steps("hyperbolic", trace, size), exact) is None


@every_policy
def test_no_frames_is_refused_in_words(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs at least . frames, got 0"):
        make(name, [], 0)


def test_splitmix64_gives_its_published_stream() -> None:
    stream = SplitMix64(1234567)
    assert [stream.draw() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_first_difference_shows_where_two_runs_part() -> None:
    trace = [1, 2, 1, 3, 1]
    found = first_difference(steps("lru", trace, 2), steps("fifo", trace, 2))
    assert found == (3, Step(3, False, (2,)), Step(3, False, (1,)))


def gone(name: str, trace: list[int], size: int, **params: int) -> list[int]:
    """All pages evicted over the trace, in order."""
    return [page for step in steps(name, trace, size, **params) for page in step.evicted]


def test_mru_evicts_the_page_referenced_just_before() -> None:
    assert gone("mru", [1, 2, 3, 1, 4, 5], 3) == [1, 4]


def test_fifo_reinsertion_gives_a_page_a_round_for_every_hit_counted() -> None:
    hits_on_one = [1, 2, 1, 1, 1, 1, 1]  # five hits, two bits: three rounds
    assert gone("fifo-reinsertion", [*hits_on_one, 3, 4, 5, 6], 2) == [2, 3, 4, 1]


def test_random_draws_slots_of_the_array_of_residents() -> None:
    stream, array, expected = SplitMix64(7), [10, 11, 12, 13], []
    for page in range(14, 30):
        index = (stream.draw() >> 32) * 4 >> 32
        expected.append(array[index])
        array[index] = array[-1]
        array[-1] = page
    assert gone("random", list(range(10, 30)), 4, seed=7) == expected


def test_lfu_aging_lets_an_old_favourite_go() -> None:
    trace = [1] * 8 + [2, 2, 2, 3]
    assert gone("lfu", trace, 2) == [2]
    # 1 is at f = 8 after eight references, halved to 4, 3, 2, 1 while 2 stays ahead of it.
    assert gone("lfu", [1] * 8 + [2, 2, 2, 2, 3], 2, aging=2) == [1]


def test_lfu_buckets_that_fall_together_join_in_order_of_frequency() -> None:
    # f: 1 has 3, 2 has 2, 3 has 1; halved after reference 6, all have 1: 3, then 2, then 1.
    assert gone("lfu", [1, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6], 3, aging=6) == [3, 2, 1]


def test_hyperbolic_weighs_references_by_age() -> None:
    # At reference 5: page 1 has 3 in 5, page 9 has 1 in 2, page 2 has 1 in 1.
    # At reference 6: pages 1 and 2 are equal, 3 in 6 and 1 in 2: the one that came first leaves.
    assert gone("hyperbolic", [1, 1, 1, 9, 2, 3, 4], 3) == [9, 1]


def test_mglru_second_look_spares_a_page_used_since_it_came_in() -> None:
    # 4 ages all three and evicts 1; then 2 is used while in the oldest generation.
    assert gone("mglru", [1, 2, 3, 4, 5], 3) == [1, 2]
    assert gone("mglru", [1, 2, 3, 4, 2, 5], 3) == [1, 3]


def test_mglru_forgets_a_use_in_the_youngest_generation() -> None:
    assert gone("mglru", [1, 2, 3, 1, 4], 3) == [1]


def test_clock_pro_makes_a_page_hot_that_returns_on_test() -> None:
    # 100 frames, 99 filled hot; 100 and 101 take turns in the one cold frame.
    policy = ClockPro(100)
    for page in range(101):
        policy.access(page)
    assert policy.evicted == [99]
    policy.access(99)
    assert policy.entries[99].hot
    assert policy.cold_target == 2
    assert not policy.entries[0].hot and not policy.entries[1].hot


def test_car_and_arc_adapt_to_a_ghost_hit() -> None:
    for policy in (Arc(4), Car(4)):
        for page in (1, 2, 1, 2, 3, 4, 5, 6, 3):
            policy.access(page)
        assert policy.p == 1.0
        assert 3 in policy.t2


def test_wtinylfu_refuses_a_page_less_frequent_than_the_victim() -> None:
    trace = [1, 2, 1, 2, 3, 4, 5, 6]  # one frame of window, two of main
    assert gone("wtinylfu", trace, 3) == [3, 4, 5]


def test_wtinylfu_sketch_halves_after_ten_references_a_frame() -> None:
    policy = WTinyLfu(2)
    for _ in range(19):
        policy.access(5)
    assert policy.sketch.estimate(5) == 15
    policy.access(5)
    assert policy.sketch.estimate(5) == 7


def test_lpet_is_clock_with_pages_that_come_in_touched() -> None:
    # All three are touched: one round marks them idle, then 1 leaves. 2 is touched again: 3 leaves.
    assert gone("lpet", [1, 2, 3, 4, 2, 5], 3) == [1, 3]


def test_lpet_plays_the_scenario_of_five_areas() -> None:
    policy = make("lpet", [], 20, low=15)
    areas = [list(range(5 * n, 5 * n + 5)) for n in range(6)]
    for page in [page for area in areas[1:5] for page in area]:
        policy.access(page)
    policy.access(areas[5][0])
    assert policy.evicted == areas[1]
    for page in [*areas[5][1:], *areas[2], *areas[3]]:
        policy.access(page)
    policy.access(areas[1][0])
    assert policy.evicted == areas[4]
