"""lpet under idle marks: all pages where marks tell something, a sample where they do not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from driver import drive
from edm_policy import LogBuffer, Pager, PolicyConfig, UsageError
from edm_workload import synth

PAGES, LIMIT = 16384, 4096


def pages_of(spec: str, refs: int, seed: int = 1) -> np.ndarray:
    return synth(spec, pages=PAGES, refs=refs, seed=seed).dense().arrays()[0]


def made(evict: str = "lpet", observe: str = "idle", log: LogBuffer | None = None) -> Pager:
    return Pager(PolicyConfig(PAGES, LIMIT, evict=evict, observe=observe), log)


def faults(pager: Pager, page: np.ndarray) -> int:
    before = pager.stats()["faults"]
    pager.run_classic(page)
    return pager.stats()["faults"] - before


def marks(pager: Pager, page: np.ndarray) -> int:
    before = pager.stats()["marks"]
    pager.run_classic(page)
    return pager.stats()["marks"] - before


def test_uniform_references_end_the_marks() -> None:
    ours, plain, fifo = made(), made("lpet:adapt=0"), made("fifo", "faults")
    for pager in (ours, plain, fifo):
        pager.run_classic(pages_of("uniform", 120_000))
    more = pages_of("uniform", 100_000, seed=2)
    fewest = faults(fifo, more)
    assert faults(ours, more) < 1.03 * fewest
    assert faults(plain, more) > 1.12 * fewest
    assert ours.check()


def test_skewed_references_are_marked_and_pages_always_in_use_less_often() -> None:
    ours, plain = made(), made("lpet:adapt=0")
    page = pages_of("zipf:1.0", 400_000)
    for pager in (ours, plain):
        pager.run_classic(page)
    few, many = ours.stats(), plain.stats()
    assert 0.5 * many["marks"] < few["marks"] < 0.95 * many["marks"]
    assert few["rescues"] < 0.85 * many["rescues"]
    missed, as_ever = (s["fetches"] + s["zero_fills"] for s in (few, many))
    assert missed < 1.01 * as_ever


def test_a_page_in_use_rests_every_other_round() -> None:
    refs = 20_000
    page = np.ones(refs, np.uint32)  # page 1: not of the sample
    page[::2] = 2 + np.arange(refs // 2) % 4000
    rescues = []
    for evict in ("lpet", "lpet:adapt=0"):
        pager = made(evict)
        pager.resize(low=62, high=63, limit=64)
        pager.run_classic(page)
        rescues.append(pager.stats()["rescues"])
    assert rescues[0] == pytest.approx(rescues[1] / 2, rel=0.02)
    assert rescues[1] > 100


def test_marks_come_back_when_they_tell_something() -> None:
    pager = made()
    pager.run_classic(pages_of("uniform", 120_000))
    spared = marks(pager, pages_of("uniform", 30_000, seed=2))
    pager.run_classic(pages_of("zipf:1.0", 300_000))
    assert marks(pager, pages_of("zipf:1.0", 30_000, seed=2)) > 3 * spared


@pytest.mark.parametrize("observe", ["faults", "exact"])
def test_nothing_changes_where_there_are_no_marks(observe: str) -> None:
    page = pages_of("uniform", 100_000)
    assert made(observe=observe).run_classic(page) == made("lpet:adapt=0", observe).run_classic(
        page
    )


def test_it_is_sound_in_a_bad_world_while_it_spares_marks() -> None:
    stream = random.Random(3)
    pager = made()
    page = pages_of("uniform", 160_000)
    drive(pager, page.tolist(), [k % 3 == 0 for k in range(len(page))], stream, check_every=5000)
    assert pager.stats()["marks"] < 0.75 * len(page), "it did not spare them"


def test_adapt_is_0_or_1() -> None:
    with pytest.raises(UsageError, match="adapt must be 0 or 1"):
        made("lpet:adapt=2")
