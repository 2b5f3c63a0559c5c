"""A trace: which pages a program touched, in order, and what else is known of each touch.

On disk it is Parquet with zstd, one row a record, the metadata beside the schema. A
record may stand for several references: `hits` counts the further references to the
same page that a reduction folded into it (0 where nothing was), so that
`len(trace) + hits.sum()` is what the program did.

pandas and pyarrow take 0.4 s to import; most programs with a region never need them, so
they are imported where they are used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edm_policy.errors import EdmError, UsageError
from edm_workload.files import whole
from edm_workload.units import PAGE_SIZE

FORMAT_VERSION = 1
_KEY = b"edm_trace"

_TYPES: dict[str, np.dtype] = {
    "write": np.dtype(bool),
    "tid": np.dtype(np.uint16),
    "t_ns": np.dtype(np.uint64),
    "hits": np.dtype(np.uint32),
    "size": np.dtype(np.uint32),
}


@dataclass(eq=False)
class Trace:
    """References to pages, one record each.

    page   shape (n,): page number (an address divided by the page size); any integers are
           taken and kept as uint32, or uint64 where a number needs it
    write  bool: the reference writes; None where the source does not tell
    tid    uint16: thread
    t_ns   uint64: time of the reference since the start of the trace, never decreasing
    hits   uint32: further references to this page that this record stands for
    size   uint32: bytes asked for, only in a block trace not split yet (see split_blocks)

    metadata is JSON: format_version, page_size, source (the command that made it), seed,
    and for a reduced trace `reduction` and its `k` (see reduce.py).
    """

    page: np.ndarray
    write: np.ndarray | None = None
    tid: np.ndarray | None = None
    t_ns: np.ndarray | None = None
    hits: np.ndarray | None = None
    size: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.page = np.ascontiguousarray(self.page)
        if self.page.dtype.kind not in "iu":
            raise UsageError(f"trace: pages must be integers, not {self.page.dtype}")
        if len(self.page) and self.page.min() < 0:
            raise UsageError("trace: a page number is negative; pages count from 0")
        if self.page.dtype != np.uint32:
            fits = not len(self.page) or int(self.page.max()) < 2**32
            self.page = self.page.astype(np.uint32 if fits else np.uint64)
        if self.page.ndim != 1:
            raise UsageError(f"trace: pages must have one dimension, not {self.page.ndim}")
        for name, dtype in _TYPES.items():
            column = getattr(self, name)
            if column is None:
                continue
            if len(column) != len(self.page):
                raise UsageError(
                    f"trace: {name} has {len(column)} values for {len(self.page)} records"
                )
            setattr(self, name, np.ascontiguousarray(column, dtype=dtype))
        self.metadata = {"format_version": FORMAT_VERSION, "page_size": PAGE_SIZE} | self.metadata

    def __len__(self) -> int:
        return len(self.page)

    def __repr__(self) -> str:
        return f"Trace({len(self)} records, columns {', '.join(self.columns)})"

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are there."""
        return ["page", *(name for name in _TYPES if getattr(self, name) is not None)]

    @cached_property
    def span(self) -> int:
        """Highest page number plus one: the pages of a region that the trace needs as it is."""
        return int(self.page.max()) + 1 if len(self) else 0

    @cached_property
    def footprint(self) -> int:
        """Number of different pages."""
        import pandas as pd

        return len(pd.unique(self.page))

    @property
    def references(self) -> int:
        """References of the program, those folded into a record included."""
        return len(self) + (int(self.hits.sum(dtype=np.uint64)) if self.hits is not None else 0)

    @property
    def name(self) -> str:
        """What to call it in a table: the file's name or the synthetic specification."""
        return str(self.metadata.get("name", "trace"))

    # -- files

    @classmethod
    def load(cls, path: str | Path, format: str | None = None) -> Trace:
        """Read a trace file; the format goes by the name unless given (see formats.FORMATS).

        Raises EdmError when the file is missing, unreadable or corrupt, UsageError when
        its format cannot be told.
        """
        from edm_workload import formats

        return formats.load(Path(path), format)

    @classmethod
    def from_parquet(cls, path: str | Path) -> Trace:
        """Read the project's own format. Raises EdmError when it is not that."""
        import pyarrow.parquet as pq

        table = pq.read_table(path, memory_map=False)
        names = table.column_names
        if "page" not in names:
            raise EdmError(
                f'{path}: no column "page" (it has {", ".join(names)}); '
                "rename the column that holds page numbers"
            )
        raw = (table.schema.metadata or {}).get(_KEY, b"{}")
        metadata = json.loads(raw)
        if (version := metadata.get("format_version", FORMAT_VERSION)) > FORMAT_VERSION:
            raise EdmError(f"{path}: trace format {version} is newer than this program; update it")
        columns: dict[str, Any] = {}
        for name in ("page", *_TYPES):
            if name in names:
                column = table.column(name)
                if column.null_count:
                    raise EdmError(f"{path}: column {name} has empty values; fill or drop them")
                columns[name] = column.to_numpy()
        return cls(**columns, metadata={"name": Path(path).name} | metadata)

    def save(self, path: str | Path) -> None:
        """Write Parquet with zstd, whole or not at all. Raises EdmError when that fails, and
        UsageError for a name that says another format (see check_name)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {name: getattr(self, name) for name in self.columns}
        check_name(path)
        table = pa.table(arrays).replace_schema_metadata({_KEY: json.dumps(self.metadata)})
        with whole(path) as part:
            # Times only grow, so their differences are small; the other columns repeat.
            pq.write_table(
                table,
                part,
                compression="zstd",
                compression_level=19 if len(self) < 5_000_000 else 3,
                use_dictionary=[name for name in self.columns if name not in ("t_ns", "write")],
                column_encoding={"t_ns": "DELTA_BINARY_PACKED"} if "t_ns" in arrays else None,
            )

    # -- views

    def head(self, records: int) -> Trace:
        """The first `records` records (all of them when there are fewer)."""
        if records >= len(self):
            return self
        return self._select(slice(0, records))

    def _select(self, index: slice | np.ndarray) -> Trace:
        taken = {name: getattr(self, name)[index] for name in self.columns}
        return Trace(**taken, metadata=dict(self.metadata))

    def dense(self, order: str = "touch") -> Trace:
        """The same trace with pages renumbered 0 .. footprint-1.

        order "touch": in order of first touch; "address": in order of page number, so that
        neighbours stay neighbours (what a prefetcher sees). Time is linear in the records.
        """
        import pandas as pd

        if order not in ("touch", "address"):
            raise UsageError(f'trace: order "{order}" is not known; use touch or address')
        codes, unique = pd.factorize(self.page, sort=order == "address")
        trace = replace(self, page=codes.astype(np.uint32), metadata=dict(self.metadata))
        trace.__dict__["footprint"] = trace.__dict__["span"] = len(unique)
        return trace

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """What the C core takes: pages as contiguous uint32, writes as contiguous uint8 or None.

        Raises UsageError when a page number needs more than 32 bits: call dense() first.
        """
        if self.span > 2**32:
            raise UsageError(
                f"{self.name}: page numbers go up to {self.span - 1}; renumber them with dense()"
            )
        page = np.ascontiguousarray(self.page, dtype=np.uint32)
        return page, None if self.write is None else self.write.view(np.uint8)

    def next_use(self) -> np.ndarray:
        """For each record the index of the next one to the same page, -1 for never; int64 (n,)."""
        page = self.page if self.span <= 2**32 else self.dense().page
        n = len(page)
        if n >= 2**32:
            raise UsageError("trace: more than 2**32 records; cut it first")
        # Page above, index below: one sort of plain integers groups the references of a page
        # in order, and is several times faster than a stable argsort.
        key = (page.astype(np.uint64) << np.uint64(32)) | np.arange(n, dtype=np.uint64)
        key.sort()
        index = (key & np.uint64(0xFFFFFFFF)).astype(np.int64)
        same = (key[1:] >> np.uint64(32)) == (key[:-1] >> np.uint64(32))
        result = np.full(n, -1, dtype=np.int64)
        result[index[:-1][same]] = index[1:][same]
        return result

    def split_blocks(self, unit: int = 512) -> Trace:
        """A block trace as page references: `page` counts blocks of `unit` bytes, `size` bytes.

        Every page that a request overlaps becomes one record, in ascending order; a size of
        0 touches the page of its first byte. Raises UsageError without sizes.
        """
        if self.size is None:
            raise UsageError(f"{self.name}: no sizes to split by; it is a trace of pages already")
        if unit < 1:
            raise UsageError(f"trace: a block of {unit} bytes cannot be; 512 is usual")
        if self.span * unit >= 2**63:
            raise UsageError(
                f"{self.name}: block {self.span - 1} of {unit} bytes is past any disk; "
                "ids that are not block numbers cannot be split"
            )
        start = self.page.astype(np.int64) * unit
        first = start // PAGE_SIZE
        last = (start + np.maximum(self.size.astype(np.int64), 1) - 1) // PAGE_SIZE
        counts = last - first + 1
        row = np.repeat(np.arange(len(self)), counts)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = {n: getattr(self, n)[row] for n in self.columns if n not in ("page", "size")}
        page = first[row] + offset
        return Trace(page, **kept, metadata=self.metadata | {"split_from_blocks_of": unit})

    def caveat(self, evict: str, frames: int) -> str | None:
        """Why miss counts of this trace are not exact for an evictor at a size; None if they are.

        A trace that was not reduced is exact for all. Collapsing takes only hits on the page
        just referenced: no matter to the optimum and to policies that rank by the last
        reference or by none. SAD is exact for LRU and the optimum from k frames on.
        """
        reduction, k = str(self.metadata.get("reduction", "")), int(self.metadata.get("k", 1))
        policy = evict.partition(":")[0]
        if not reduction:
            return None
        if "sad" not in reduction:
            if policy in ("lru", "mru", "belady", "fifo", "random"):
                return None
            return f"{self.name} was collapsed: {policy} misses the repeated references"
        if policy not in ("lru", "belady"):
            return f"{self.name} was reduced with k={k}: exact for lru and belady, not for {policy}"
        if frames < k:
            return f"{self.name} was reduced with k={k}: not exact for {frames} frames"
        return None

    def info(self) -> dict[str, Any]:
        """Counts and metadata, ready for JSON."""
        import pandas as pd

        page_size = int(self.metadata["page_size"])
        facts: dict[str, Any] = {
            "records": len(self),
            "references": self.references,
            "footprint_pages": self.footprint,
            "footprint_bytes": self.footprint * page_size,
            "span_pages": self.span,
            "columns": self.columns,
        }
        if self.write is not None and len(self):
            facts["write_share"] = float(self.write.mean())
        if self.tid is not None:
            facts["threads"] = len(pd.unique(self.tid))
        if self.t_ns is not None and len(self):
            facts["duration_s"] = float(self.t_ns[-1] - self.t_ns[0]) / 1e9
        return facts | {"metadata": self.metadata}


def check_name(path: str | Path) -> None:
    """Raises UsageError for a file that would be Parquet and whose name says something else."""
    if Path(path).suffix != ".parquet" and (Path(path).is_file() or not Path(path).exists()):
        better = Path(path).with_suffix(".parquet")
        raise UsageError(f"{path}: a trace is written as Parquet; name it {better}")


def concatenate(traces: Sequence[Trace]) -> Trace:
    """One trace after the other; keeps the columns that all of them have, except t_ns."""
    if not traces:
        raise UsageError("trace: nothing to concatenate")
    shared = [n for n in traces[0].columns if n != "t_ns" and all(n in t.columns for t in traces)]
    joined = {name: np.concatenate([getattr(t, name) for t in traces]) for name in shared}
    return Trace(**joined, metadata=dict(traces[0].metadata))


def bundled_trace() -> Path:
    """The real trace that comes with the project (see traces/MANIFEST).

    Raises EdmError where only the packages were installed, without traces/.
    """
    path = Path(__file__).resolve().parent.parent / "traces" / "sqlite.parquet"
    if not path.exists():
        raise EdmError(f"{path}: not here; run from the project's checkout, or give --trace")
    return path
