"""clock, fifo-reinsertion, mru, sieve, s3fifo, 2q, arc, car, lirs: exact, sound in any world."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from driver import Driver, drive
from edm_policy import Pager, PolicyConfig, UsageError, evictors
from reference import make, misses

# As configured -> its reference's name and parameters.
OURS: dict[str, tuple[str, dict[str, int]]] = {
    "clock": ("clock", {}),
    "fifo-reinsertion": ("fifo-reinsertion", {}),
    "fifo-reinsertion:bits=1": ("fifo-reinsertion", {"bits": 1}),
    "fifo-reinsertion:bits=6": ("fifo-reinsertion", {"bits": 6}),
    "mru": ("mru", {}),
    "sieve": ("sieve", {}),
    "s3fifo": ("s3fifo", {}),
    "2q": ("2q", {}),
    "arc": ("arc", {}),
    "car": ("car", {}),
    "lirs": ("lirs", {}),
    "lirs:quirk=0": ("lirs", {"quirk": 0}),
    "lirs:quirk=1": ("lirs", {"quirk": 1}),
}
NAMES = sorted({name for name, _ in OURS.values()})
SIZES = [*range(1, 21), 33, 64, 100, 199, 200, 260, 299]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not (DATA / "expected.json").exists(), reason="../shared/data is not here: no known counts"
)

every_spec = pytest.mark.parametrize("evict", OURS)
every_name = pytest.mark.parametrize("evict", NAMES)


def classical(evict: str, pages: int, size: int) -> Pager:
    """A pager as a classical cache of `size` frames."""
    return Pager(
        PolicyConfig(pages=pages, limit=size, high=size, low=size - 1, evict=evict, observe="exact")
    )


def traces() -> dict[str, np.ndarray]:
    """Each about 5000 references to at most 300 pages."""
    rng = np.random.default_rng(7)
    n, pages = 5000, 300
    skewed = np.minimum(rng.zipf(1.3, n) - 1, pages - 1)
    loops = np.concatenate([np.arange(500) % k + 20 * j for j, k in enumerate(range(20, 220, 20))])
    return {
        "uniform": rng.integers(0, pages, n).astype(np.uint32),
        "zipf": skewed.astype(np.uint32),
        "loops": (loops % pages).astype(np.uint32),
        "scans": np.where(np.arange(n) % 700 < 300, np.arange(n) % pages, skewed).astype(np.uint32),
        "moving": ((skewed % 120 + np.arange(n) // 25) % pages).astype(np.uint32),
    }


TRACES = traces()


@every_spec
@pytest.mark.parametrize("trace", TRACES)
def test_misses_are_the_references(evict: str, trace: str) -> None:
    name, params = OURS[evict]
    page = TRACES[trace]
    for size in SIZES:
        if name == "lirs" and size == 1:
            continue  # the reference starts at two frames
        pager = classical(evict, 300, size)
        assert pager.run_classic(page) == misses(name, page.tolist(), size, **params), size
        assert pager.check()


def test_lirs_with_one_frame_keeps_the_last_page() -> None:
    page = TRACES["zipf"]
    assert classical("lirs", 300, 1).run_classic(page) == 1 + np.count_nonzero(np.diff(page))


def known_counts() -> list[tuple[str, str]]:
    if not (DATA / "expected.json").exists():
        return []
    expected = json.loads((DATA / "expected.json").read_text())["traces"]
    return [(trace, evict) for trace in expected for evict in NAMES if there(evict) in KEYS]


KEYS = ("clock", "sieve", "s3fifo", "arc", "lirs", "twoq")


def there(evict: str) -> str:
    return {"2q": "twoq"}.get(evict, evict)


@needs_data
@pytest.mark.parametrize(("trace", "evict"), known_counts())
def test_misses_are_those_known_from_elsewhere(trace: str, evict: str) -> None:
    entry = json.loads((DATA / "expected.json").read_text())["traces"][trace]
    packed = (DATA / entry["file"]).read_bytes()
    ids = np.frombuffer(zstandard.ZstdDecompressor().decompressobj().decompress(packed), "<u4")
    known, page = np.unique(ids, return_inverse=True)
    for size, row in entry["misses"].items():
        pager = classical(evict, len(known), int(size))
        assert pager.run_classic(page.astype(np.uint32)) == row[there(evict)], size
        assert pager.check()


@every_spec
def test_the_events_give_the_misses_of_the_classical_cache(evict: str) -> None:
    # lirs: nothing can leave on a hit there, so its quirk shows in other counts
    if evict.startswith("lirs"):
        evict = "lirs:quirk=0"
    for size in (2, 19, 40, 250):
        pager = classical(evict, 300, size)
        drive(pager, TRACES["scans"].tolist())
        faults = pager.stats()["faults"]
        assert faults == classical(evict, 300, size).run_classic(TRACES["scans"])


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, object]:
    limit = draw(st.integers(2, 40))
    high = draw(st.integers(1, limit))
    return {
        "limit": limit,
        "high": high,
        "low": draw(st.integers(0, high - 1)),
        "batch": draw(st.sampled_from([1, 3, 64])),
        "seed": draw(st.integers(0, 2**32)),
        "dirty": draw(st.sampled_from(["exact", "always"])),
    }


@every_name
@pytest.mark.parametrize("observe", ["faults", "idle", "exact"])
@pytest.mark.parametrize("bad", [False, True], ids=["good world", "bad world"])
@settings(max_examples=25)
@given(
    world=worlds(),
    trace=st.lists(st.integers(0, 60), max_size=400),
    seed=st.integers(0, 2**32),
)
def test_sound_under_every_observation(
    evict: str, observe: str, bad: bool, world: dict[str, int], trace: list[int], seed: int
) -> None:
    order = ("faults", "idle", "exact")
    if order.index(observe) < order.index(evictors()[evict].needs):
        return
    pager = Pager(PolicyConfig(pages=61, evict=evict, observe=observe, **world))  # type: ignore[arg-type]
    stream = random.Random(seed)
    writes = [stream.random() < 0.3 for _ in trace]
    drive(pager, trace, writes, stream if bad else None, check_every=1)


@every_name
def test_the_limit_may_change_under_way(evict: str) -> None:
    pager = classical({"lirs": "lirs:quirk=1"}.get(evict, evict), 300, 100)
    for limit in (100, 17, 250, 2, 120):
        pager.resize(limit - 1, limit, limit)
        assert pager.run_classic(TRACES["moving"]) > 0
        assert pager.resident <= limit
        assert pager.check()


@every_name
def test_memory_is_what_is_documented(evict: str) -> None:
    info = evictors()[evict]
    assert info.bytes_per_page + 2 <= 32
    for pages in (1, 1000, 100_000):
        used = classical(evict, pages, max(1, pages // 10)).bytes
        assert used <= pages * (2 + info.bytes_per_page) + 4096


@every_name
def test_what_it_needs_is_refused_where_it_cannot_be_had(evict: str) -> None:
    info = evictors()[evict]
    if info.needs == "faults":
        Pager(PolicyConfig(pages=8, limit=4, evict=evict, observe="faults"))
        assert info.idle_note
        return
    with pytest.raises(UsageError, match="needs observation exact"):
        Pager(PolicyConfig(pages=8, limit=4, evict=evict, observe="idle"))
    assert not info.idle_note


@pytest.mark.parametrize(
    ("evict", "why"),
    [
        ("fifo-reinsertion:bits=0", "counts with bits=1, 2 .. 6"),
        ("fifo-reinsertion:bits=7", "counts with bits=1, 2 .. 6"),
        ("fifo-reinsertion:bits=1.5", "counts with bits=1, 2 .. 6"),
        ("lirs:quirk=3", "quirk is 0"),
        ("sieve:bits=1", "'bits' is no parameter"),
    ],
)
def test_bad_parameters_are_refused_in_words(evict: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Pager(PolicyConfig(pages=8, limit=4, evict=evict))


@pytest.mark.parametrize("evict", [name for name in NAMES if name not in ("mru", "lirs")])
def test_idle_marks_keep_a_page_in_use(evict: str) -> None:
    """A page used at every other reference of a scan; a FIFO loses it again and again."""
    scan = np.column_stack([np.zeros(400, int), np.arange(400)]).ravel().tolist()

    def lost(evict: str) -> int:
        config = PolicyConfig(pages=400, limit=40, high=40, low=39, evict=evict, observe="idle")
        return drive(Pager(config), scan).evicted.count(0)

    assert lost("fifo") >= 9
    assert lost(evict) <= 2


@settings(deadline=None, max_examples=150)
@given(
    trace=st.lists(st.integers(0, 30), max_size=400),
    size=st.integers(2, 20),
    quirk=st.integers(0, 2),
)
def test_lirs_is_its_reference_page_by_page(trace: list[int], size: int, quirk: int) -> None:
    reference = make("lirs", trace, size, quirk=quirk)
    pager = classical(f"lirs:quirk={quirk}", 31, size)
    for page in trace:
        missed = pager.run_classic(np.array([page], np.uint32))
        assert bool(missed) != reference.access(page)
        resident = {p for p in range(31) if pager.state(p) == "RESIDENT"}
        assert resident == reference.resident
        assert quirk == 2 or len(resident) <= size
        assert pager.check()
    stats = pager.stats()
    assert stats["faults"] - stats["evictions"] == pager.resident


def drive_on(pager: Pager, pages: list[int]) -> None:
    """More references, through events, by a driver that takes over what is resident."""
    driver = Driver(pager)
    driver.resident = {p for p in range(300) if pager.state(p) == "RESIDENT"}
    for page in pages:
        if not pager.consume(np.array([page], np.uint32)):
            driver.access(page, False)
            assert pager.check()


def test_lirs_by_default_holds_more_pages_than_frames_in_the_classical_run_alone() -> None:
    page = TRACES["zipf"]
    pager = classical("lirs", 300, 20)
    held = []
    for one in page[:800].reshape(-1, 1):
        pager.run_classic(one)
        held.append(pager.resident)
    assert max(held) > 20
    drive_on(pager, page[800:].tolist())  # through events: back within the limit
    assert pager.resident <= 20
    events = [classical(f"lirs:quirk={quirk}", 300, 20) for quirk in (1, 2)]
    for each in events:
        drive(each, page.tolist())
    assert events[0].stats() == events[1].stats()
