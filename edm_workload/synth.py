"""Synthetic workloads: a specification, a number of pages and references, and a seed.

    uniform             every page alike
    zipf[:ALPHA]        page of rank r with weight r**-ALPHA (1.0), ranks scattered over the pages
    seq                 pages in order, again and again
    stride[:K]          every K-th page (16), then the same one page further on, and so on
    loop[:SHARE]        in order over a working set of SHARE of the pages (0.5); worst for LRU
    phases[:N]          N phases (8); in each, zipf over a working set of its own, a quarter of
                        the pages, that overlaps the one before it by half
    scanloop            halves of a loop over a twentieth of the pages and of a scan through
                        all of them, interleaved at random (the scan-and-loop mix of benchmarks)

The same arguments give the same trace on any machine: all random numbers come from
numpy's PCG64 with the seed. Which references write is drawn last and independently
(share `writes`, 0.3 unless given), so the pages do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edm_policy.errors import EdmError, UsageError
from edm_workload import formats
from edm_workload.trace import Trace
from edm_workload.units import refuse_unknown

DEFAULT_WRITES = 0.3
"""Share of writes: near that of a program's data accesses (a short sqlite3 run has 0.26)."""


def _uniform(rng: np.random.Generator, pages: int, refs: int, _: float) -> np.ndarray:
    return rng.integers(0, pages, refs, dtype=np.uint32)


def zipf_ranks(rng: np.random.Generator, n: int, refs: int, alpha: float) -> np.ndarray:
    """Ranks 0 .. n-1 with weight (rank+1)**-alpha, by exact inversion of the bounded CDF; uint32.

    A guide table (Chen and Asau, 1974) brings each search down to a step or two.
    """
    cdf = np.cumsum(np.arange(1, n + 1, dtype=np.float64) ** -alpha)
    cdf /= cdf[-1]
    # guide[j] = first rank whose CDF exceeds j/m: where the search for u in [j/m, (j+1)/m) starts.
    m = 2 * n
    guide = np.searchsorted(cdf, np.arange(m) / m, side="right").astype(np.uint32)
    out = np.empty(refs, dtype=np.uint32)
    for start in range(0, refs, 1 << 16):  # blocks that stay in cache
        u = rng.random(min(1 << 16, refs - start))
        rank = guide[(u * m).astype(np.int64)]
        behind = np.flatnonzero(cdf[rank] <= u)
        while len(behind):
            rank[behind] += 1
            behind = behind[cdf[rank[behind]] <= u[behind]]
        out[start : start + len(u)] = rank
    return out


def _zipf(rng: np.random.Generator, pages: int, refs: int, alpha: float) -> np.ndarray:
    # Scattered: hot pages that lie side by side would flatter a prefetcher.
    place = rng.permutation(pages).astype(np.uint32)
    return place[zipf_ranks(rng, pages, refs, alpha)]


def _seq(_rng: np.random.Generator, pages: int, refs: int, _: float) -> np.ndarray:
    return np.resize(np.arange(pages, dtype=np.uint32), refs)


def _stride(_rng: np.random.Generator, pages: int, refs: int, step: float) -> np.ndarray:
    k = int(step)
    if k != step or k > pages:
        raise UsageError(f"stride:{step:g} must be a whole number of at most the {pages} pages")
    once = np.concatenate([np.arange(first, pages, k, dtype=np.uint32) for first in range(k)])
    return np.resize(once, refs)


def _loop(_rng: np.random.Generator, pages: int, refs: int, share: float) -> np.ndarray:
    if share > 1:
        raise UsageError(f"loop:{share:g} is a share of the pages; give at most 1")
    return np.resize(np.arange(max(1, round(pages * share)), dtype=np.uint32), refs)


def _phases(rng: np.random.Generator, pages: int, refs: int, count: float) -> np.ndarray:
    n = int(count)
    if n != count:
        raise UsageError(f"phases:{count:g} must be a whole number of phases")
    # The working set is a window over a scattered order; each phase moves it half a window on.
    order = rng.permutation(pages).astype(np.uint32)
    window = max(1, pages // 4)
    step = max(1, window // 2)
    parts = []
    for phase, part in enumerate(np.array_split(np.empty(refs, dtype=np.uint8), n)):
        rank = zipf_ranks(rng, window, len(part), 0.8).astype(np.int64)
        # Another page is the hottest in each phase: the ranks are dealt anew.
        deal = rng.permutation(window)
        parts.append(order[(deal[rank] + phase * step) % pages])
    return np.concatenate(parts)


def _scanloop(rng: np.random.Generator, pages: int, refs: int, _: float) -> np.ndarray:
    looping = rng.random(refs) < 0.5
    small = max(1, pages // 20)
    out = np.empty(refs, dtype=np.uint32)
    loops = int(looping.sum())
    out[looping] = np.resize(np.arange(small, dtype=np.uint32), loops)
    out[~looping] = np.resize(np.arange(pages, dtype=np.uint32), refs - loops)
    return out


Maker = Callable[[np.random.Generator, int, int, float], np.ndarray]

SYNTHS: dict[str, tuple[Maker, float | None]] = {
    "uniform": (_uniform, None),
    "zipf": (_zipf, 1.0),
    "seq": (_seq, None),
    "stride": (_stride, 16.0),
    "loop": (_loop, 0.5),
    "phases": (_phases, 8.0),
    "scanloop": (_scanloop, None),
}
"""Name -> (maker, default of its parameter; None where it takes none)."""


def synth(spec: str, pages: int, refs: int, seed: int = 1, writes: float = DEFAULT_WRITES) -> Trace:
    """A trace of `refs` references to pages 0 .. pages-1 as `spec` says (see the module).

    Not every page need occur. Raises UsageError for an unknown name, a parameter that
    cannot be, or counts below 1.
    """
    name, _, text = spec.partition(":")
    if name not in SYNTHS:
        refuse_unknown("synthetic workload", name, SYNTHS)
    maker, default = SYNTHS[name]
    parameter = 0.0 if default is None else default
    if text:
        if default is None:
            raise UsageError(f'{spec}: {name} takes no parameter; write "{name}"')
        try:
            parameter = float(text)
        except ValueError:
            parameter = float("nan")
        if not 0 < parameter < 2**31 and not (name == "zipf" and parameter == 0):
            raise UsageError(f'{spec}: "{text}" is not a positive number; try {name}:{default:g}')
    if not 1 <= pages < 2**32 or not 1 <= refs < 2**48:
        raise UsageError(
            f"{spec}: {pages} pages and {refs} references cannot be; give from 1 to 2**32 and 2**48"
        )
    if not 0 <= seed < 2**64:
        raise UsageError(f"seed {seed}: it must be 0 to {2**64 - 1}")
    if not 0 <= writes <= 1:
        raise UsageError(f"{spec}: a share of writes of {writes:g} cannot be; give 0 to 1")
    rng = np.random.Generator(np.random.PCG64(seed))
    page = maker(rng, pages, refs, parameter)
    write = rng.random(refs, dtype=np.float32) < writes
    source = f"synth {spec} --pages {pages} --refs {refs} --seed {seed} --writes {writes:g}"
    return Trace(page, write, metadata={"name": spec, "source": source, "seed": seed})


def is_synth(text: str) -> bool:
    """Whether a TRACE argument names a synthetic workload and not a file."""
    return text.partition(":")[0] in SYNTHS


def trace_from(
    spec_or_path: str | Path,
    pages: int = 16384,
    refs: int | None = None,
    seed: int = 1,
    writes: float = DEFAULT_WRITES,
) -> Trace:
    """A trace from a file or a synthetic specification: what every TRACE argument takes.

    Synthetic: `refs` references (1,000,000 unless given) to `pages` pages. File: pages
    renumbered by address from 0, neighbours kept as neighbours; cut to `refs` records if given.
    Raises EdmError for a file that cannot be read, UsageError for what is neither.
    """
    text = str(spec_or_path)
    if is_synth(text):
        return synth(text, pages, 1_000_000 if refs is None else refs, seed, writes)
    path = Path(spec_or_path)
    if not path.exists() and not path.suffix:
        refuse_unknown("trace: no such file, and as a synthetic workload", text, SYNTHS)
    try:
        trace = formats.load(path)
    except UsageError as error:
        if path.exists():
            raise
        raise EdmError(f"{path}: no such trace file; check the path") from error
    return (trace if refs is None else trace.head(refs)).dense("address")
