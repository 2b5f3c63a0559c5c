"""A replay: references over a region's memory, in C threads, every byte verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edm_policy.errors import UsageError
from edm_real._core import ffi, lib
from edm_real.figures import POLICY_FIELDS, latency_us

if TYPE_CHECKING:
    from edm_workload.trace import Trace


class References(NamedTuple):
    """What is replayed, each array contiguous and of the C type; name says where it is from."""

    page: NDArray[np.uint32]
    write: NDArray[np.uint8] | None
    tid: NDArray[np.uint16] | None
    name: str


def references(trace: Trace | NDArray[Any], write: NDArray[Any] | None) -> References:
    """Of a Trace, or of page numbers with write flags (None: all are reads)."""
    tid, name = None, "array"
    if isinstance(trace, np.ndarray):
        pages, flags = trace, write
    else:
        pages, flags = trace.arrays()
        tid, name = trace.tid, trace.name
    if pages.ndim != 1 or pages.dtype.kind not in "iu":
        raise UsageError(f"page numbers are integers in a row, not {pages.ndim}-d {pages.dtype}")
    if pages.size and not 0 <= int(pages.min()) <= int(pages.max()) < 2**32:
        raise UsageError("page numbers must be 0 to 2^32 - 1; make the trace dense first")
    if flags is not None and flags.shape != pages.shape:
        raise UsageError(f"{flags.size} write flags for {pages.size} references; one each")
    return References(
        np.ascontiguousarray(pages, np.uint32),
        None if flags is None else np.ascontiguousarray(flags, np.uint8),
        None if tid is None else np.ascontiguousarray(tid, np.uint16),
        name,
    )


def run_job(
    raw: Any,
    refs: References,
    *,
    threads: int,
    fill: bool | NDArray[np.uint8],
    seed: int,
    chunk: int,
    on_progress: Any,
    pages: int,
    whole: bool,
) -> dict[str, Any]:
    """Runs one replay on an edm_region * to its end; Region.replay() says what the values mean.

    Signals are seen some times a second: whatever they raise stops the replay first.
    """
    page, writes, tid, name = refs
    config = ffi.new("edm_replay_config *")
    config.refs.page = ffi.from_buffer("uint32_t[]", page)
    config.refs.n = len(page)
    keep: list[Any] = [page]
    if writes is not None:
        keep.append(ffi.from_buffer("uint8_t[]", writes))
        config.refs.write = keep[-1]
    if tid is not None:
        keep.append(ffi.from_buffer("uint16_t[]", tid))
        config.tid = keep[-1]
    if isinstance(fill, np.ndarray):
        keep.append(ffi.from_buffer("uint64_t[]", fill))
        config.content, config.content_pages = keep[-1], len(fill)
    config.threads, config.chunk, config.fill = threads, chunk, fill is not False
    config.pages, config.whole = pages, whole
    config.seed = seed
    why = ffi.new("char[256]")
    job = lib.edm_replay_start(raw, config, why, 256)
    if job == ffi.NULL:
        raise UsageError(ffi.string(why).decode())
    result = ffi.new("edm_replay_result *")
    try:
        while not lib.edm_replay_wait(job, 50):  # signals are seen between the calls
            if on_progress:
                on_progress(int(lib.edm_replay_progress(job)), len(page))
    except BaseException:
        lib.edm_replay_stop(job)
        raise
    finally:
        lib.edm_replay_end(job, result)
    return {
        "workload": name,
        **{field: int(getattr(result.policy, field)) for field in POLICY_FIELDS},
        "refs": int(result.refs),
        "elapsed_s": result.elapsed_ns / 1e9,
        "latency_us": latency_us(result.latency),
        "verified": not (result.wrong or result.wrong_pages or result.stopped),
        "extra": {
            "timed_faults": int(result.latency.count),
            "wrong": int(result.wrong),
            "wrong_pages": int(result.wrong_pages),
            "verified_pages": int(result.verified_pages),
            "lost": int(result.lost),
        },
    }
