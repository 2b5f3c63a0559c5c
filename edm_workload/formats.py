"""Reading traces that other programs wrote; one function a format, chosen by file name.

Layouts (little-endian, packed) are those of libCacheSim's readers:
oracleGeneral  24 bytes: u32 time [s], u64 id, u32 size, i64 next access
lcs            8192 bytes of header, then version 1 as above; version 2 has u8 op and u24
               tenant after the size; version 3 an i64 size and u32 ttl after the tenant;
               versions 4 to 8 are 3 with 1, 2, 4, 8 or 16 u32 features at the end
vscsi          version 1, 32 bytes: u32 sn, len, nSG, u16 cmd, ver, u64 lbn, ts [us];
               version 2, 40 bytes: u16 cmd, ver, u32 sn, len, nSG, u64 lbn, ts, rt
Any of them may be compressed with zstd or gzip.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from edm_policy.errors import EdmError, UsageError
from edm_workload.trace import Trace
from edm_workload.units import refuse_unknown

if TYPE_CHECKING:
    import pandas as pd

_ORACLE = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
_LCS_3 = [
    *(("time", "<u4"), ("id", "<u8"), ("size", "<i8"), ("op", "u1"), ("tenant", "u1", 3)),
    *(("ttl", "<u4"), ("next", "<i8")),
]
_LCS: dict[int, np.dtype] = {
    1: _ORACLE,
    2: np.dtype(
        [
            *(("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("op", "u1"), ("tenant", "u1", 3)),
            ("next", "<i8"),
        ]
    ),
    3: np.dtype(_LCS_3),
} | {v: np.dtype([*_LCS_3, ("features", "<u4", (2 ** (v - 4),))]) for v in range(4, 9)}
_LCS_MAGIC = 0x123456789ABCDEF0
_LCS_HEADER = 8192
_VSCSI = {
    1: np.dtype(
        [
            *(("sn", "<u4"), ("len", "<u4"), ("nsg", "<u4"), ("cmd", "<u2"), ("ver", "<u2")),
            *(("lbn", "<u8"), ("ts", "<u8")),
        ]
    ),
    2: np.dtype(
        [
            *(("cmd", "<u2"), ("ver", "<u2"), ("sn", "<u4"), ("len", "<u4"), ("nsg", "<u4")),
            *(("lbn", "<u8"), ("ts", "<u8"), ("rt", "<u8")),
        ]
    ),
}
_SCSI_WRITES = (0x0A, 0x2A, 0x8A, 0xAA)


def _unzstd(data: bytes) -> bytes:
    """All frames of zstd data. Raises ZstdError also where a frame is cut short."""
    parts = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise zstandard.ZstdError("cut short")
        data = frame.unused_data
    return b"".join(parts)


def _content(path: Path) -> bytes:
    """The whole file, decompressed. Raises EdmError for a damaged or missing one."""
    data = path.read_bytes()
    try:
        if data[:4] == b"\x28\xb5\x2f\xfd":
            return _unzstd(data)
        if data[:2] == b"\x1f\x8b":
            return gzip.decompress(data)
    except (zstandard.ZstdError, zlib.error, EOFError, OSError) as error:
        raise EdmError(f"{path}: damaged compressed file ({error}); fetch it again") from error
    return data


def _records(path: Path, data: bytes, dtype: np.dtype) -> np.ndarray:
    if len(data) % dtype.itemsize:
        raise EdmError(
            f"{path}: {len(data)} bytes is no multiple of a record's {dtype.itemsize}; "
            "the file is cut short, or of another format (choose it with --format)"
        )
    return np.frombuffer(data, dtype)


def _seconds_to_ns(path: Path, time: np.ndarray) -> np.ndarray | None:
    """Times since the first record; None where the source's clock runs backwards."""
    if not len(time) or bool(np.any(time[1:] < time[:-1])):
        return None
    return (time.astype(np.uint64) - np.uint64(time[0])) * np.uint64(10**9)


def _from_oracle(path: Path, rows: np.ndarray, source: str) -> Trace:
    size = np.minimum(rows["size"], 2**32 - 1)
    return Trace(
        rows["id"].copy(),
        t_ns=_seconds_to_ns(path, rows["time"]),
        size=size,
        metadata={"source": source},
    )


def from_oracle_general(path: Path) -> Trace:
    """libCacheSim's oracleGeneral. The id is kept as it is; see Trace.split_blocks for sizes."""
    return _from_oracle(path, _records(path, _content(path), _ORACLE), "oracleGeneral")


def from_lcs(path: Path) -> Trace:
    """libCacheSim's lcs, versions 1 to 8."""
    data = _content(path)
    if len(data) < _LCS_HEADER:
        raise EdmError(f"{path}: shorter than an lcs header; the file is cut short or not lcs")
    header = np.frombuffer(data[:_LCS_HEADER], "<u8").tolist()
    magic, version, _, count, *_, end_magic = header
    if magic != _LCS_MAGIC or end_magic != _LCS_MAGIC:
        raise EdmError(f"{path}: no lcs magic number; it is of another format (see --format)")
    if version not in _LCS:
        raise EdmError(f"{path}: lcs version {version} is not known (1 to 8 are); convert it first")
    rows = _records(path, data[_LCS_HEADER:], _LCS[version])
    if count not in (0, len(rows)):  # 0: written before the header had statistics
        raise EdmError(f"{path}: {len(rows)} of {count} records; the file is cut short")
    return _from_oracle(path, rows, f"lcs {version}")


def from_vscsi(path: Path) -> Trace:
    """vscsi version 1 or 2; ids are blocks of 512 bytes, sizes bytes (see split_blocks)."""
    data = _content(path)
    for version, dtype in _VSCSI.items():
        if len(data) % dtype.itemsize == 0 and len(data):
            rows = np.frombuffer(data, dtype)
            # The version sits in the high byte of `ver`; it tells the two layouts apart.
            if np.all(rows["ver"] >> 8 == version):
                break
    else:
        raise EdmError(f"{path}: neither vscsi version 1 nor 2; choose another with --format")
    ts = rows["ts"]
    ordered = not bool(np.any(ts[1:] < ts[:-1]))
    return Trace(
        rows["lbn"].copy(),
        write=np.isin(rows["cmd"], _SCSI_WRITES),
        t_ns=(ts - ts[0]) * np.uint64(1000) if ordered else None,
        size=rows["len"],
        metadata={"source": f"vscsi {version}"},
    )


def _binary(dtype: str) -> Callable[[Path], Trace]:
    def read(path: Path) -> Trace:
        rows = _records(path, _content(path), np.dtype(dtype))
        return Trace(rows.copy(), metadata={"source": f"u{8 * np.dtype(dtype).itemsize} binary"})

    return read


def _pages_of(path: Path, column: pd.Series) -> np.ndarray:
    """Page numbers of a column; ids that are no numbers are numbered by first touch.

    Raises EdmError for numbers that are no page's: 1.5, or what a float holds no longer exactly.
    """
    if column.dtype.kind in "iu":
        return column.to_numpy()
    if column.dtype.kind == "f" and not column.isna().any():
        wrong = np.flatnonzero((column < 0) | (column % 1 != 0) | (column > 2**53))
        if len(wrong):
            raise EdmError(
                f"{path}: record {wrong[0] + 1} has {column.iloc[wrong[0]]}, no page number; "
                "give whole numbers from 0 up, or names"
            )
        return column.to_numpy().astype(np.uint64)
    if column.isna().any():
        line = int(np.flatnonzero(column.isna())[0]) + 1
        raise EdmError(f"{path}: record {line} has no id; fill the gap or drop the line")
    import pandas as pd

    return pd.factorize(column.astype(str))[0].astype(np.uint32)


def _text(path: Path) -> str:
    data = _content(path)
    if b"\0" in data:
        raise EdmError(f"{path}: not text; its format is another one (choose it with --format)")
    return data.decode("utf-8", "replace")


def from_text(path: Path) -> Trace:
    """One id a line: decimal numbers, or any words, which are then numbered by first touch.

    Empty lines and lines that begin with # are passed over.
    """
    import pandas as pd

    lines = _text(path).split("\n")
    words = [w for line in lines if (w := line.strip()) and not w.startswith("#")]
    try:
        page = np.array(words, dtype=str).astype(np.uint64) if words else np.zeros(0, np.uint32)
    except (ValueError, OverflowError):
        numbers = pd.to_numeric(pd.Series(words), errors="coerce")
        page = _pages_of(path, pd.Series(words) if numbers.isna().any() else numbers)
    return Trace(page, metadata={"source": "text"})


_CSV_NAMES = {
    "page": ("page", "id", "obj_id", "object_id", "object", "key", "lbn", "lba", "block"),
    "write": ("write", "op", "operation", "rw"),
    "tid": ("tid", "thread"),
    "t_ns": ("t_ns",),
    "size": ("size", "obj_size", "bytes"),
}
_WRITE_WORDS = ("1", "true", "w", "write", "set", "put", "store")


def from_csv(path: Path) -> Trace:
    """Comma-separated, with a header that names the columns (page or id; write or op; tid; t_ns;
    size), or without a header, the id in the first column."""
    import pandas as pd

    text = _text(path)
    first = text.split("\n", 1)[0].split(",")[0].strip()
    header = None if first.isdigit() or not text.strip() else 0
    try:
        table = pd.read_csv(io.StringIO(text), header=header, comment="#", skipinitialspace=True)
    except pd.errors.EmptyDataError:
        raise EdmError(f"{path}: no records in it; check what wrote it") from None
    except pd.errors.ParserError as error:
        raise EdmError(f"{path}: not CSV ({str(error).strip()}); mend the line") from error
    if header is None:
        return Trace(_pages_of(path, table[0]), metadata={"source": "csv"})
    named = {str(c).strip().lower(): table[c] for c in table.columns}
    found = {k: named[n] for k, names in _CSV_NAMES.items() for n in names[::-1] if n in named}
    if "page" not in found:
        raise EdmError(
            f'{path}: no column for the page (it has {", ".join(named)}); name one "page" or "id"'
        )
    columns: dict[str, np.ndarray] = {}
    for name in ("tid", "t_ns", "size"):
        if name in found:
            if found[name].dtype.kind not in "iu" or (found[name] < 0).any():
                raise EdmError(f"{path}: column {name} has something other than whole numbers")
            columns[name] = found[name].to_numpy()
    if "write" in found:
        columns["write"] = _writes(path, found["write"])
    return Trace(_pages_of(path, found["page"]), **columns, metadata={"source": "csv"})


def _writes(path: Path, column: pd.Series) -> np.ndarray:
    if column.isna().any():
        line = int(np.flatnonzero(column.isna())[0]) + 1
        raise EdmError(f"{path}: record {line} does not say whether it writes; fill the gap")
    if column.dtype.kind in "biuf":
        return column.to_numpy() != 0
    return column.astype(str).str.strip().str.lower().isin(_WRITE_WORDS).to_numpy()


FORMATS: dict[str, Callable[[Path], Trace]] = {
    "parquet": Trace.from_parquet,
    "oracleGeneral": from_oracle_general,
    "lcs": from_lcs,
    "vscsi": from_vscsi,
    "csv": from_csv,
    "text": from_text,
    "u32": _binary("<u4"),
    "u64": _binary("<u8"),
}
"""Format name -> reader."""

_SUFFIXES = {
    "parquet": "parquet",
    "oraclegeneral": "oracleGeneral",
    "lcs": "lcs",
    "vscsi": "vscsi",
    "csv": "csv",
    "txt": "text",
    "text": "text",
    "u32": "u32",
    "u64": "u64",
}


def format_of(path: Path) -> str:
    """The format a file's name tells. Raises UsageError when it tells none."""
    for part in reversed(path.name.lower().split(".")[1:]):
        if part in _SUFFIXES:
            return _SUFFIXES[part]
        if part not in ("zst", "gz", "bin"):
            break
    raise UsageError(
        f"{path}: the name does not tell the format; give --format {'|'.join(FORMATS)}"
    )


def load(path: Path, format: str | None = None) -> Trace:
    """Read a trace of any known format. Raises EdmError or UsageError with the fix."""
    import pyarrow as pa

    if not path.exists():
        raise EdmError(f"{path}: no such trace file; check the path")
    name = format or format_of(path)
    if name not in FORMATS:
        refuse_unknown("trace format", name, FORMATS)
    try:
        trace = FORMATS[name](path)
    except UsageError as error:
        raise EdmError(f"{path}: {error}") from error
    except (pa.ArrowException, json.JSONDecodeError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise EdmError(f"{path}: damaged, or not {name} ({reason}); make it again") from error
    except OSError as error:
        raise EdmError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not len(trace):
        raise EdmError(f"{path}: no records in it; check what wrote it")
    trace.metadata.setdefault("name", path.name)
    return trace
