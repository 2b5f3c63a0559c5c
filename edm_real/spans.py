"""Where a region's time goes, component by component: reading what c/spans.h counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edm_policy.errors import EdmError
from edm_real._core import ffi, lib

if TYPE_CHECKING:
    import pandas as pd


def _names(enum: str, prefix: str, more: int) -> list[str]:
    by_number = {v: k for k, v in ffi.typeof(f"enum {enum}").relements.items()}
    return [by_number[n].removeprefix(prefix).lower() for n in range(more)]


WRITE = "_write"
_KINDS = _names("edm_span", "EDM_SPAN_", lib.EDM_SPAN_KINDS)
KINDS = [kind for kind in _KINDS if not kind.endswith(WRITE)]
ROLES = _names("edm_span_role", "EDM_ROLE_", lib.EDM_ROLES)
BESIDE = _names("edm_span_beside", "EDM_BESIDE_", lib.EDM_BESIDES)
FAULT = KINDS[: KINDS.index("return") + 1]
"""The kinds that one fault is made of."""
TO_HANDLER = BESIDE[BESIDE.index("here") :]
"""Beside these, a fault's thread and the handler sleep in turn."""


@dataclass(frozen=True)
class Span:
    """All spans of one kind, by one role, of a class of sizes (`least` pages and up to twice
    that), beside the same: how many, their pages and time, and the histogram of their times, ns.
    write: of a fault that is one, where that is told apart (arrive, zero, install, rescue).
    """

    kind: str
    role: str
    least: int
    beside: str
    count: int
    pages: int
    sum_ns: float
    values_ns: NDArray[np.float64]
    counts: NDArray[np.int64]
    write: bool = False


def begin(raw: Any) -> None:
    """Spans of an edm_region * are counted from now on. Nobody may be at work on it."""
    if lib.edm_region_spans(raw, 1):
        raise EdmError("no memory to count spans in")


def end(raw: Any) -> None:
    """Ends counting, and forgets."""
    lib.edm_region_spans(raw, 0)


def read(raw: Any) -> Iterator[Span]:
    """What was counted so far. What counting itself costs, some ns a span, is taken off."""
    n = lib.EDM_SPAN_BUCKETS
    counts, ns, pages = ffi.new("uint32_t[]", n), ffi.new("double *"), ffi.new("uint64_t *")
    own = lib.edm_span_own_ns(raw)
    middle = np.array([lib.edm_span_bucket_ns(raw, i) for i in range(n)])
    for role, by in enumerate(ROLES):
        for kind, what in enumerate(_KINDS):
            for size in range(lib.EDM_SPAN_SIZES):
                for beside, who in enumerate(BESIDE):
                    count = lib.edm_spans_read(raw, kind, role, size, beside, counts, ns, pages)
                    if not count:
                        continue
                    seen = np.frombuffer(ffi.buffer(counts), np.uint32).astype(np.int64)
                    at = np.flatnonzero(seen)
                    values = np.maximum(middle[at] - own, 0)
                    total = max(0.0, ns[0] - own * count)
                    of, all_pages = what.removesuffix(WRITE), int(pages[0])
                    yield Span(
                        *(of, by, 1 << size, who, int(count), all_pages, total, values, seen[at]),
                        write=of != what,
                    )


COMPONENTS = {
    **{"turn": "turn", "arrive": "arrive", "lock": "decide", "decide": "decide"},
    **{"wake": "ring", "get": "get"},
    **dict.fromkeys(("check", "zero", "install", "rescue", "protect"), "install"),
    **dict.fromkeys(("conclude", "drain"), "install"),
    **{"page_wait": "wait", "room": "reclaim", "return": "return"},
}
"""A fault's spans as the components that the simulator tells apart."""

PREEMPTED_NS = 300_000.0
"""A component of a fault that took longer had to wait for its core."""


def components_s(spans: list[Span]) -> dict[str, float]:
    """Seconds of all threads in faults by component, of LPET at work as `lpet`, and as `core`
    what threads waited for a core while they were in one of the others."""
    found: dict[str, float] = {}

    def add(name: str, ns: float) -> None:
        found[name] = found.get(name, 0.0) + ns / 1e9

    for s in spans:
        if s.role == "lpet":
            if s.kind not in ("late", "nap"):
                add("lpet", s.sum_ns)
            continue
        name = COMPONENTS.get(s.kind)
        if name is None:
            continue  # within `reclaim`
        late = 0.0
        if name not in ("wait", "reclaim", "get", "turn") and s.beside not in TO_HANDLER:
            slow = s.values_ns > PREEMPTED_NS
            late = float((s.values_ns * s.counts)[slow].sum())
        add(name, max(0.0, s.sum_ns - late))
        if late:
            add("core", late)
    return found


def table(spans: Iterator[Span] | list[Span]) -> pd.DataFrame:
    """A row a role and kind: count, pages, total_ms, mean_us."""
    import pandas as pd

    rows = [(s.role, s.kind, s.count, s.pages, s.sum_ns / 1e6) for s in spans]
    frame = pd.DataFrame(rows, columns=["role", "kind", "count", "pages", "total_ms"])
    frame = frame.groupby(["role", "kind"], sort=False).sum().reset_index()
    frame["mean_us"] = 1000 * frame["total_ms"] / frame["count"]
    return frame
