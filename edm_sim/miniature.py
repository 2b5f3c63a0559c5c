"""Miniature simulation: any policy on a sample of the pages, in a cache that is smaller by as much.

Waldspurger, Saemundsson, Ahmad, Park, "Cache modeling and optimization using miniature
simulations", USENIX ATC 2017. A page is in the sample if its hash says so, and then with all its
references; a cache of C frames becomes one of C times the rate. Misses are counted against the
references expected in the sample, not those found there (SHARDS' correction: the most popular
pages, in the sample or not, change the references and hardly the misses).

The sample is cut into PARTS disjoint ones; the estimate is their mean, its standard error comes
from their spread. A policy with a least size or steps of 1 % (s3fifo, lirs, 2q) behaves
differently in a handful of frames, which no spread shows: hence LEAST.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edm_policy import UsageError

PARTS = 4
"""Disjoint samples, each of a quarter of the rate."""
LEAST = 20
"""Frames that a cache must come to in one of them."""


def scaled(frames: int, rate: float) -> int:
    """The frames that stand for `frames` in one part. UsageError below LEAST."""
    small = round(frames * rate / PARTS)
    if small < LEAST:
        raise UsageError(
            f"{frames} frames sampled at {rate:g} come to {small} in each of {PARTS} samples, and "
            f"{LEAST} are needed; sample at {min(1.0, LEAST * PARTS / frames):.2g} or more, "
            "or leave --sampled out"
        )
    return small


def sample(page: NDArray[np.uint32], rate: float, seed: int) -> list[NDArray[np.uint32]]:
    """The references to PARTS disjoint sets of pages, each about rate / PARTS of all pages.

    Pages of each are renumbered from 0, in the order of their numbers. UsageError where one
    is empty.
    """
    pages = np.arange(int(page.max(initial=0)) + 1, dtype=np.uint64)
    share = _hash(pages, seed) / 2.0**64
    part = np.floor(share / (rate / PARTS)).astype(np.int64)  # PARTS and above: not in the sample
    of_reference = part[page]
    found = [page[of_reference == k] for k in range(PARTS)]
    if any(not len(f) for f in found):
        raise UsageError(
            f"sampled {rate:g}: no page of {len(pages)} came into a sample; sample more"
        )
    return [pd.factorize(f, sort=True)[0].astype(np.uint32) for f in found]


def _hash(x: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """splitmix64's step (Steele, Lea, Flood 2014), wrapping at 64 bits."""
    offset = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64
    z = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(offset)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
