"""The reference policies: their own invariants, and the miss counts known from elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import POLICIES, make, steps
from reference.splitmix import SplitMix64

TRACES = st.lists(st.integers(0, 30), max_size=300)
SIZES = st.integers(1, 20)

every_policy = pytest.mark.parametrize("name", sorted(POLICIES))


def test_splitmix64_gives_its_published_stream() -> None:
    stream = SplitMix64(1234567)
    assert [stream.draw() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@every_policy
@given(trace=TRACES, size=SIZES)
def test_hits_are_exactly_the_references_to_resident_pages(
    name: str, trace: list[int], size: int
) -> None:
    resident: set[int] = set()
    for page, hit, evicted in steps(name, trace, size):
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
    full = False
    resident = 0
    for _, hit, evicted in steps(name, trace, size):
        assert not evicted or full
        assert not (evicted and hit)
        resident += (not hit) - len(evicted)
        full = resident == size


@every_policy
def test_no_frames_is_refused_in_words(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs at least 1 frames, got 0"):
        make(name, [], 0)
