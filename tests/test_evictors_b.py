"""lfu, belady, wtinylfu, mglru, hyperbolic, clock-pro: to the miss what the references say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from driver import drive
from edm_policy import Pager, PolicyConfig, UsageError, evictors, next_uses
from edm_workload import Trace
from edm_workload.trace import bundled_trace
from reference import misses

OURS = [
    "lfu",
    "lfu:aging=37",
    "lfu:aging=1",
    "belady",
    "wtinylfu",
    "wtinylfu:doorkeeper=1",
    "hyperbolic",
    "hyperbolic:sample=0",
    "hyperbolic:sample=8",
    "mglru",
    "clock-pro",
]
DATA = Path(__file__).parents[2] / "shared" / "data"
ORDER = ("faults", "idle", "exact")
SIZES = [*range(1, 21), 33, 64, 100, 199, 260]

NAMES = sorted({name.split(":")[0] for name in OURS})
ONLINE = [name for name in NAMES if name != "belady"]

every_one = pytest.mark.parametrize("evict", OURS)


def run(evict: str, page: np.ndarray, size: int, pages: int | None = None) -> Pager:
    """A pager after the whole trace, as a classical cache of `size` frames."""
    pages = pages or int(page.max(initial=0)) + 1
    config = PolicyConfig(
        pages=pages, limit=size, high=size, low=size - 1, evict=evict, observe="exact"
    )
    pager = Pager(config)
    if evictors()[evict.split(":")[0]].needs_future:
        pager.set_future(next_uses(page, pages))
    pager.run_classic(page)
    return pager


def count(evict: str, page: np.ndarray, size: int) -> int:
    return run(evict, page, size).stats()["faults"]


def traces() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20)
    n, pages = 3000, 260
    skewed = np.minimum(rng.zipf(1.2, n) - 1, pages - 1)
    loop = np.arange(n) % 150
    return {
        "uniform": rng.integers(0, pages, n).astype(np.uint32),
        "zipf": skewed.astype(np.uint32),
        "loop": loop.astype(np.uint32),
        "scan and zipf": np.where(rng.random(n) < 0.4, np.arange(n) % pages, skewed).astype("u4"),
        "phases": (skewed // 2 + (np.arange(n) // 700) * 40).astype(np.uint32) % pages,
    }


TRACES = traces()


@every_one
@pytest.mark.parametrize("trace", TRACES)
def test_misses_are_those_of_the_reference(evict: str, trace: str) -> None:
    name, _, text = evict.partition(":")
    params = {k: int(v) for k, v in (pair.split("=") for pair in text.split(":") if pair)}
    page = TRACES[trace]
    ours = {size: count(evict, page, size) for size in SIZES}
    assert ours == {size: misses(name, page.tolist(), size, **params) for size in SIZES}


@every_one
@settings(deadline=None, max_examples=60)
@given(trace=st.lists(st.integers(0, 30), max_size=400), size=st.integers(1, 20))
def test_any_short_trace_agrees_with_the_reference(evict: str, trace: list[int], size: int) -> None:
    name, _, text = evict.partition(":")
    params = {k: int(v) for k, v in (pair.split("=") for pair in text.split(":") if pair)}
    pager = run(evict, np.array(trace, np.uint32), size, pages=31)
    assert pager.stats()["faults"] == misses(name, trace, size, **params)
    assert pager.check()
    assert pager.resident <= size


EXPECTED = json.loads((DATA / "expected.json").read_text()) if DATA.is_dir() else {}


@pytest.mark.skipif(not EXPECTED, reason="../shared/data is not there")
@pytest.mark.parametrize("trace", sorted(EXPECTED.get("traces", {})))
def test_misses_are_those_computed_elsewhere(trace: str) -> None:
    entry = EXPECTED["traces"][trace]
    packed = (DATA / entry["file"]).read_bytes()
    ids = np.frombuffer(zstandard.ZstdDecompressor().decompressobj().decompress(packed), "<u4")
    page = np.unique(ids, return_inverse=True)[1].astype(np.uint32)
    defined = [name for name in OURS if name in EXPECTED["definitions"]]
    for size, by_name in entry["misses"].items():
        want = {name: by_name[name] for name in defined}
        assert {name: count(name, page, int(size)) for name in want} == want


# lirs by default reproduces counts for which more pages than frames are resident at times.
WITHIN = {"lirs": "lirs:quirk=1"}


@settings(deadline=None, max_examples=100)
@given(trace=st.lists(st.integers(0, 40), max_size=300), size=st.integers(1, 20))
def test_belady_is_never_beaten(trace: list[int], size: int) -> None:
    page = np.array(trace, np.uint32)
    best = run("belady", page, size, pages=41).stats()["faults"]
    for name in evictors():
        try:
            pager = run(WITHIN.get(name, name), page, size, pages=41)
        except UsageError:  # a size it refuses, in words
            continue
        assert pager.stats()["faults"] >= best, name
        assert pager.resident <= size
        assert pager.check()


def test_belady_without_its_future_is_refused_in_words() -> None:
    pager = Pager(PolicyConfig(pages=10, limit=4, evict="belady"))
    with pytest.raises(UsageError, match="future"):
        pager.run_classic(np.arange(10, dtype=np.uint32))


@every_one
@pytest.mark.parametrize("pages", [1, 1000, 100_000])
def test_memory_is_what_is_documented(evict: str, pages: int) -> None:
    info = evictors()[evict.split(":")[0]]
    limit = max(1, pages - 1)
    pager = Pager(PolicyConfig(pages=pages, limit=limit, high=limit, low=limit - 1, evict=evict))
    more = 8 if "doorkeeper" in evict else 0
    assert pager.bytes <= pages * (2 + info.bytes_per_page + more) + 4096


@pytest.mark.parametrize("evict", evictors())
@pytest.mark.parametrize("pages", [16_385, 65_536, 131_073])  # just above and at powers of two
def test_no_evictor_takes_more_than_32_bytes_a_page(evict: str, pages: int) -> None:
    assert 2 + evictors()[evict].bytes_per_page <= 32
    for limit in (pages // 100, pages // 4 + 1, pages // 2 + 1, pages):
        pager = Pager(
            PolicyConfig(pages=pages, limit=limit, high=limit, low=limit - 1, evict=evict)
        )
        assert pager.bytes <= pages * 32 + 4096, limit


@pytest.mark.parametrize("evict", ["lfu:aging=-1", "lfu:aging=nan", "lfu:size=3"])
def test_parameters_that_make_no_sense_are_refused(evict: str) -> None:
    with pytest.raises(UsageError):
        Pager(PolicyConfig(pages=10, limit=4, evict=evict))


def test_belady_prefetch_or_not_knows_a_page_by_its_next_use() -> None:
    """A page recalled and brought back by a miss leaves in the order of next uses, as before."""
    page = np.array([0, 1, 2, 3, 0, 2, 1, 3], np.uint32)
    pager = Pager(PolicyConfig(pages=4, limit=3, high=3, low=2, evict="belady"))
    pager.set_future(next_uses(page, 4))
    assert drive(pager, page.tolist()).evicted == [1, 0]


@every_one
def test_the_events_give_the_misses_of_the_classical_cache(evict: str) -> None:
    page = TRACES["scan and zipf"]
    for size in (2, 19, 40, 250):
        pager = Pager(
            PolicyConfig(
                pages=260, limit=size, high=size, low=size - 1, evict=evict, observe="exact"
            )
        )
        if evict == "belady":
            pager.set_future(next_uses(page, 260))
        drive(pager, page.tolist(), check_every=50)
        assert pager.stats()["faults"] == count(evict, page, size)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, object]:
    limit = draw(st.integers(1, 40))
    high = draw(st.integers(1, limit))
    return {
        "limit": limit,
        "high": high,
        "low": draw(st.integers(0, high - 1)),
        "batch": draw(st.sampled_from([1, 3, 64])),
        "seed": draw(st.integers(0, 2**32)),
        "dirty": draw(st.sampled_from(["exact", "always"])),
    }


@pytest.mark.parametrize(
    ("evict", "observe"),
    [(name, observe) for name in NAMES for observe in ORDER[ORDER.index(evictors()[name].needs) :]],
)
@pytest.mark.parametrize("bad", [False, True], ids=["good world", "bad world"])
@settings(max_examples=25, deadline=None)
@given(
    world=worlds(),
    trace=st.lists(st.integers(0, 60), max_size=400),
    seed=st.integers(0, 2**32),
)
def test_sound_under_every_observation(
    evict: str, observe: str, bad: bool, world: dict[str, object], trace: list[int], seed: int
) -> None:
    config = PolicyConfig(pages=61, evict=evict, observe=observe, **world)  # type: ignore[arg-type]
    pager = Pager(config)
    if evict == "belady":
        pager.set_future(next_uses(np.array(trace, np.uint32), 61))
    stream = random.Random(seed)
    writes = [stream.random() < 0.3 for _ in trace]
    drive(pager, trace, writes, stream if bad else None, check_every=1)


@pytest.mark.parametrize("evict", ONLINE)
def test_the_limit_may_change_under_way(evict: str) -> None:
    pager = run(evict, TRACES["uniform"], 100, pages=260)
    for limit in (100, 17, 250, 2, 120):
        pager.resize(limit - 1, limit, limit)
        assert pager.run_classic(TRACES["uniform"]) > 0
        assert pager.resident <= limit
        assert pager.check()


@pytest.mark.parametrize("evict", ONLINE)
def test_idle_marks_keep_a_page_in_use(evict: str) -> None:
    """A page used at every other reference of a scan; a FIFO loses it again and again."""
    scan = np.column_stack([np.zeros(400, int), np.arange(400)]).ravel().tolist()

    def lost(evict: str) -> int:
        config = PolicyConfig(pages=400, limit=40, high=40, low=39, evict=evict, observe="idle")
        return drive(Pager(config), scan).evicted.count(0)

    assert lost("fifo") >= 9
    assert lost(evict) <= 2


@pytest.mark.parametrize("evict", NAMES)
def test_what_it_needs_is_refused_where_it_cannot_be_had(evict: str) -> None:
    info = evictors()[evict]
    if info.needs == "faults":
        return
    less = ORDER[ORDER.index(info.needs) - 1]
    with pytest.raises(UsageError, match=f"needs observation {info.needs}"):
        Pager(PolicyConfig(pages=8, limit=4, evict=evict, observe=less))


def test_clock_pro_under_idle_marks_takes_more_than_a_page_at_a_time() -> None:
    """Marks that its hot hand met ended each answer: a step a page, a round of the clock each."""
    page = Trace.load(bundled_trace()).dense().arrays()[0]
    pager = Pager(PolicyConfig(int(page.max()) + 1, 1881, evict="clock-pro", observe="idle"))
    drive(pager, page[:100_000].tolist())
    stats = pager.stats()
    assert stats["evictions"] > 15 * stats["reclaims"]
