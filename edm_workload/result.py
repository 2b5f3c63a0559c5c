"""What a run gives back: the same keys from the simulator and from real memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edm_policy.errors import EdmError
from edm_workload.files import whole
from edm_workload.metadata import collect

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

SCHEMA = 1
LATENCY_KEYS = ("mean", "p50", "p90", "p99", "p999", "max")


@dataclass
class Result:
    """One run. Counts come from the state machine, so both worlds count alike.

    pages, low, high and limit are in pages; refs are records of the trace that were run;
    latency_us maps mean, p50, p90, p99, p999 and max to microseconds of a fault as the
    program sees it; verified tells whether page contents were checked against what was
    written (None: the driver holds no contents). extra is the driver's own.
    """

    driver: str
    workload: str
    evict: str = "lpet"
    prefetch: str = "none"
    observe: str = "auto"
    store: str = "mem:"
    faults_mode: str = "upcall"
    threads: int = 1
    pages: int = 0
    low: int = 0
    high: int = 0
    limit: int = 0
    refs: int = 0
    faults: int = 0
    zero_fills: int = 0
    fetches: int = 0
    rescues: int = 0
    evictions: int = 0
    writebacks: int = 0
    clean_drops: int = 0
    prefetches: int = 0
    prefetch_hits: int = 0
    stalls: int = 0
    store_errors: int = 0
    elapsed_s: float = 0.0
    latency_us: dict[str, float] = field(default_factory=dict)
    seed: int = 1
    verified: bool | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.latency_us) - set(LATENCY_KEYS):
            raise ValueError(f"latency_us has unknown keys {sorted(unknown)}")

    @property
    def faults_per_s(self) -> float:
        """Faults a second of elapsed time; 0 for a run without time."""
        return self.faults / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def miss_ratio(self) -> float:
        """Faults that were no rescue, over references."""
        return (self.faults - self.rescues) / self.refs if self.refs else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """The inverse of to_dict. Raises EdmError for keys that a Result does not have."""
        known = {f.name for f in fields(cls)}
        if unknown := set(values) - known:
            raise EdmError(f"result: unknown keys {', '.join(sorted(unknown))}; update the program")
        if missing := {"driver", "workload"} - set(values):
            raise EdmError(f"result: {', '.join(sorted(missing))} missing; it is no result file")
        try:
            return cls(**values)
        except ValueError as error:
            raise EdmError(f"result: {error}; it is no result file") from error


def save(
    path: str | Path, results: Sequence[Result], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write {"schema", "metadata", "results"} as JSON.

    metadata: what collect() gave before the run (the load average must be from then); it is
    collected now when not given. Raises EdmError when the file cannot be written.
    """
    document = {
        "schema": SCHEMA,
        "metadata": dict(collect() if metadata is None else metadata),
        "results": [r.to_dict() for r in results],
    }
    with whole(path) as part:
        part.write_text(json.dumps(document, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as plain Python; everything else is a bug of the caller."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a result is not JSON")


def load_document(path: str | Path) -> tuple[list[Result], dict[str, Any]]:
    """Results and metadata of a file that save() wrote.

    Raises EdmError when it is missing, damaged or of a newer schema.
    """
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise EdmError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EdmError(f"{path}: damaged, or no result file ({error}); run it again") from error
    if not isinstance(document, dict) or not isinstance(document.get("results"), list):
        raise EdmError(f'{path}: no list of "results" in it; give a file that was written with -o')
    if document.get("schema") != SCHEMA:
        raise EdmError(f"{path}: schema {document.get('schema')}, not {SCHEMA}; run it again")
    return [Result.from_dict(r) for r in document["results"]], document.get("metadata", {})


def load(path: str | Path) -> list[Result]:
    """The results of a file that save() wrote. Raises EdmError like load_document."""
    return load_document(path)[0]


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a result; latency_us as columns latency_us_p50 ..., extra as its own columns."""
    import pandas as pd

    return pd.DataFrame([_row(result) for result in results])


def _row(result: Result) -> dict[str, Any]:
    row = result.to_dict()
    latency, extra = row.pop("latency_us"), row.pop("extra")
    row |= {f"latency_us_{k}": latency.get(k) for k in LATENCY_KEYS}
    row |= {k: v for k, v in extra.items() if k not in row and not isinstance(v, dict | list)}
    return row | {"faults_per_s": result.faults_per_s, "miss_ratio": result.miss_ratio}


DEFAULT_COLUMNS = (
    *("driver", "workload", "evict", "store", "faults_mode", "limit", "refs", "faults"),
    *("evictions", "writebacks", "elapsed_s", "latency_us_p50", "latency_us_p90"),
    *("latency_us_p99", "faults_per_s", "verified"),
)

HEADINGS = {"faults_mode": "mode", "elapsed_s": "s", "faults_per_s": "faults/s"} | {
    f"latency_us_{k}": f"{k} us" for k in LATENCY_KEYS
}


def cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def rows_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, title: str = ""
) -> Table:
    """A rich table of mappings; numbers to the right, a missing value as -."""
    from rich.table import Table
    from rich.text import Text

    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    table = Table(title=title or None, header_style="bold", box=None, pad_edge=False)
    for name in names:
        numeric = any(
            isinstance(r.get(name), int | float) and not isinstance(r.get(name), bool) for r in rows
        )
        heading = HEADINGS.get(name, name)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(name))) for name in names))  # [brackets] are no markup
    return table


def print_table(
    results: Sequence[Result],
    columns: Sequence[str] = DEFAULT_COLUMNS,
    title: str = "",
    console: Console | None = None,
) -> None:
    """Print results to stdout, a row each; columns are those of frame()."""
    rows = [_row(result) for result in results]
    (console or table_console()).print(rows_table(rows, columns, title))


def table_console() -> Console:
    """stdout; when it is no terminal, wide enough that no column is folded into two lines."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=220)
