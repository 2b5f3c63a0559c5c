"""Reference implementations of the eviction policies, in plain Python, written from the papers.

They exist to be right and readable; the compiled policies must give the same answers. README.md
lists them; each file opens with the complete definition of its policy.

    misses("arc", trace, 100)             how many references missed
    steps("arc", trace, 100)              hit or miss, and who left, reference by reference
    first_difference(steps(...), other)   where another implementation goes its own way
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from .arc import Arc
from .base import Reference, Step
from .belady import Belady
from .car import Car
from .clock import Clock
from .clock_pro import ClockPro
from .fifo import Fifo
from .fifo_reinsertion import FifoReinsertion
from .hyperbolic import Hyperbolic
from .lfu import Lfu
from .lirs import Lirs
from .lpet import Lpet
from .lru import Lru
from .mglru import Mglru
from .mru import Mru
from .random import Random
from .s3fifo import S3Fifo
from .sieve import Sieve
from .twoq import TwoQ
from .wtinylfu import WTinyLfu

POLICIES: dict[str, type[Reference]] = {
    policy.name: policy
    for policy in (
        Fifo,
        Lru,
        Mru,
        Random,
        Clock,
        FifoReinsertion,
        Lfu,
        TwoQ,
        Arc,
        Car,
        ClockPro,
        Lirs,
        Sieve,
        S3Fifo,
        WTinyLfu,
        Mglru,
        Hyperbolic,
        Belady,
        Lpet,
    )
}


def make(name: str, trace: Sequence[int], size: int, **params: int) -> Reference:
    """An empty cache of `size` frames. KeyError for an unknown name, ValueError for a bad size."""
    return POLICIES[name].for_trace(trace, size, **params)


def steps(name: str, trace: Sequence[int], size: int, **params: int) -> Iterator[Step]:
    """Hit or miss, and the pages evicted in order, for every reference of the trace."""
    cache = make(name, trace, size, **params)
    for page in trace:
        hit = cache.access(page)
        yield Step(page, hit, tuple(cache.evicted))


def misses(name: str, trace: Sequence[int], size: int, **params: int) -> int:
    """How many references of the trace miss in a cache of `size` frames, cold misses included."""
    cache = make(name, trace, size, **params)
    return sum(not cache.access(page) for page in trace)


def first_difference(
    ours: Iterable[Step], theirs: Iterable[Step]
) -> tuple[int, Step | None, Step | None] | None:
    """The first reference (from 0) where two runs part, with what each did; None if none.

    Where one run is longer, its first extra step is the difference, against None.
    """
    for index, (a, b) in enumerate(zip_longest(ours, theirs)):
        if a != b:
            return index, a, b
    return None
