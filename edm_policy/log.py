"""The decision log: every event and the commands it was answered with.

A log file is one line of JSON (format version, the PolicyConfig it was made under,
free metadata), a newline, then records as pager.h's edm_rec, little-endian.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edm_policy._core import ffi, lib
from edm_policy.config import PolicyConfig
from edm_policy.custom import spec
from edm_policy.errors import EdmError

RECORD = np.dtype(
    [("now", "<u8"), ("page", "<u4"), ("kind", "u1"), ("flags", "u1"), ("zero", "<u2")]
)
assert RECORD.itemsize == ffi.sizeof("edm_rec")

FORMAT = "edm-log-1"


@ffi.def_extern()
def edm_policy_log_sink(ctx: Any, recs: Any, n: int) -> None:
    ffi.from_handle(ctx)._chunks.append(
        np.frombuffer(ffi.buffer(recs, n * RECORD.itemsize), dtype=RECORD).copy()
    )


class LogBuffer:
    """Collects a pager's decisions in memory (16 bytes a record)."""

    def __init__(self, chunk: int = 65536):
        self._chunks: list[NDArray[Any]] = []
        self._buffer = ffi.new("edm_rec[]", chunk)
        self._capacity = chunk
        self._handle = ffi.new_handle(self)
        self._pager: Any = None

    def attach(self, pager: Any) -> None:
        self._pager = pager
        lib.edm_log_to(pager, lib.edm_policy_log_sink, self._handle, self._buffer, self._capacity)

    def records(self) -> NDArray[Any]:
        """All records so far, dtype RECORD."""
        if self._pager is not None:
            lib.edm_log_flush(self._pager)
        return np.concatenate(self._chunks) if self._chunks else np.empty(0, RECORD)


def save_log(path: str | Path, config: PolicyConfig, records: NDArray[Any], **extra: Any) -> None:
    """Writes a log file; `extra` goes into its header."""
    plain = {
        k: v.tolist() if isinstance(v, np.ndarray) else v if isinstance(v, int | str) else spec(v)
        for k, v in vars(config).items()
        if v is not None
    }
    head = {"format": FORMAT, "config": plain, **extra}
    with open(path, "wb") as f:
        f.write(json.dumps(head).encode() + b"\n")
        f.write(records.astype(RECORD, copy=False).tobytes())


def load_log(path: str | Path) -> tuple[PolicyConfig, NDArray[Any], dict[str, Any]]:
    """(config, records, header). Raises EdmError if it is not a log."""
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise EdmError(f"{path}: {e.strerror}") from e
    line, _, rest = data.partition(b"\n")
    try:
        head = json.loads(line)
        if head["format"] != FORMAT or len(rest) % RECORD.itemsize:
            raise ValueError
        if "plan" in head["config"]:
            head["config"]["plan"] = np.array(head["config"]["plan"], np.uint32)
        return PolicyConfig(**head["config"]), np.frombuffer(rest, RECORD), head
    except (ValueError, KeyError, TypeError) as e:
        raise EdmError(f"{path}: not a decision log ({FORMAT}); make one with --log") from e


def replay(
    config: PolicyConfig, records: NDArray[Any], plan: NDArray[np.uint32] | None = None
) -> tuple[int, NDArray[Any]]:
    """Replays a log through a fresh pager; plan: what the prefetcher planned was given.

    Returns (index of the first record that differs, what the pager said there); the
    index is len(records) when every decision is the same.
    """
    from edm_policy.pager import Pager

    records = np.ascontiguousarray(records, dtype=RECORD)
    pager = Pager(config if plan is None else replace(config, plan=plan))
    got = ffi.new("edm_rec *")
    at = lib.edm_replay_log(
        pager.ptr, ffi.cast("edm_rec *", ffi.from_buffer(records)), len(records), got
    )
    return int(at), np.frombuffer(ffi.buffer(got), dtype=RECORD)[0]


def describe(record: Any) -> str:
    """One record in words: "now 17: FAULT page 3 write", "now 17:   -> FETCH page 3"."""
    from edm_policy.pager import EVENTS, OPS, STATUS

    kind, flags = int(record["kind"]), int(record["flags"])
    now, page = int(record["now"]), int(record["page"])
    if kind & 0x80:
        op = OPS.get(kind & 0x7F, "?")
        rest = STATUS.get(flags, "?") if op == "STATUS" else f"page {page} flags {flags}"
        return f"now {now}:   -> {op} {rest}"
    return f"now {now}: {EVENTS.get(kind, '?')} page {page} flags {flags}"
