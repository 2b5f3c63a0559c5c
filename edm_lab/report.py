"""report: result files as one HTML page that needs nothing else.

Each file becomes a section: what it is, the command that made it, machine and seeds, tables, and
figures, which are embedded as SVG. What kind a file is follows from what is in it.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edm_lab import plots_faults, plots_memory, plots_report
from edm_lab.compare import Comparison
from edm_policy.errors import EdmError, UsageError
from edm_workload import Experiment, Result
from edm_workload.result import HEADINGS, LATENCY_KEYS, cell, frame, load_document

SAME_RUN = (
    *("workload", "evict", "prefetch", "observe", "store", "faults_mode", "threads"),
    *("pages", "low", "high", "limit", "refs", "seed"),
)
"""Results that are alike in these were given the same to do."""

METADATA = (
    *("command", "date", "machine_load", "load_average", "cpu", "cores", "kernel", "python"),
    *("git_commit", "packages", "note"),
)
NAMES = {"elapsed_s": "elapsed, s", "writebacks": "write-backs"} | {
    f"latency_us_{k}": f"{k} of a fault, µs" for k in LATENCY_KEYS
}
MATRIX = (
    *("faults", "evictions", "writebacks", "elapsed_s"),
    *("latency_us_mean", "latency_us_p50", "latency_us_p99"),
)
LINES = 400  # of a table; a file has them all
WIDE = 7  # inches of a figure that fills the page
CURVES = 8  # of a figure; more cannot be told apart


@dataclass(frozen=True)
class Table:
    """columns: heading and whether it holds numbers. cut: rows that are not shown."""

    caption: str
    columns: list[tuple[str, bool]]
    rows: list[list[str]]
    cut: int = 0


@dataclass(frozen=True)
class Picture:
    """An SVG as a data URI; wide: it takes a line of its own."""

    caption: str
    uri: str
    wide: bool


@dataclass
class Section:
    """One file's part of the report."""

    title: str
    kind: str
    summary: list[str]
    about: list[tuple[str, str]]
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def report(files: Sequence[str | Path], title: str = "") -> str:
    """The HTML of a report over result files (JSON), sweeps (Parquet) and miss-ratio curves (CSV).

    Raises EdmError for a file that cannot be read, UsageError for one that is none of these.
    """
    if not files:
        raise UsageError("report: no file was given; give what bench, compare, sweep ... wrote")
    sections = [section(*part) for part in together([Path(file) for file in files])]
    environment = Environment(
        loader=PackageLoader("edm_lab", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title or ", ".join(s.title for s in sections),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        sections=sections,
    )


def together(paths: Sequence[Path]) -> list[list[Path]]:
    """Parts of one matrix (of one calibration) make one section, where the first of them stands."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        key = str(path)
        if path.suffix not in (".parquet", ".csv"):
            metadata = load_document(path)[1]
            if "matrix" in metadata:
                key = json.dumps(metadata.get("calibration"), sort_keys=True)
        groups.setdefault(key, []).append(path)
    return list(groups.values())


def section(*paths: Path) -> Section:
    """One file, as what it is; or several that belong together."""
    path = paths[0]
    if path.suffix == ".parquet":
        return _sweep(path)
    if path.suffix == ".csv":
        return _curves(path)
    documents = [load_document(p) for p in paths]
    results = [r for some, _ in documents for r in some]
    metadata = documents[0][1]
    if len(paths) > 1:
        metadata = metadata | {"command": "; ".join(str(m.get("command")) for _, m in documents)}
    if "tune" in metadata:
        return _tuned(path, results, metadata)
    if {r.driver for r in results} >= {"sim", "real"}:
        return _compared(", ".join(p.name for p in paths), results, metadata)
    return _measured(path, results, metadata)


# -- the kinds


def _compared(title: str, results: list[Result], metadata: Mapping[str, Any]) -> Section:
    """Both worlds: one comparison in full, many as a table of errors."""
    pairs = comparisons(results)
    section = Section(title, "simulator against real memory", [], _about(metadata, results))
    errors = pd.DataFrame([_errors(p) for p in pairs])
    if len(pairs) == 1:
        section.about = [*_experiment_rows(pairs[0]), *section.about]
        table = pairs[0].frame.reset_index()
        table["metric"] = [_name(str(m)) for m in table["metric"]]
        table["error"] = [f"{e:+.1%}" for e in table["error"]]
        table["repeat_error"] = [f"{e:.1%}" for e in table["repeat_error"]]
        section.tables.append(table_of(table, "Medians; error = simulator / real - 1."))
        section.pictures.append(picture(pairs[0].plot(), "Both worlds; bars: the real runs' range"))
    else:
        shown = errors.copy()
        for name in MATRIX:
            text = [
                f"{e:+.1%} ({r:.1%})" for e, r in zip(shown[name], shown[f"{name} ±"], strict=True)
            ]
            shown[name] = text
        shown = shown.drop(columns=[f"{name} ±" for name in MATRIX])
        caption = "Error of the simulator, in brackets the real runs' own repeat error."
        section.tables.append(table_of(shown, caption))
        section.pictures.append(
            picture(plots_report.plot_scatter(pairs), "Simulated against measured; grey: 10 %")
        )
    section.summary = [*_lost(results), *(error_summary(errors, name) for name in MATRIX)]
    latencies = {f"{r.driver}": r.latency_us for r in results if r.latency_us}
    if len(pairs) == 1 and latencies:
        ax = plots_faults.plot_latency(latencies)
        section.pictures.append(picture(ax, "Fault latency, one run of each world"))
    return section


def _lost(results: Iterable[Result]) -> list[str]:
    wrong = any(r.verified is False for r in results)
    return ["PAGE CONTENTS WERE NOT AS WRITTEN in a real run: trust no figure."] if wrong else []


def comparisons(results: Iterable[Result]) -> list[Comparison]:
    """The results of both worlds, those of the same run together."""
    groups: dict[Any, tuple[list[Result], list[Result]]] = {}
    for r in results:
        key = r.extra.get("point") or tuple(getattr(r, name) for name in SAME_RUN)
        groups.setdefault(key, ([], []))[r.driver == "real"].append(r)
    found = []
    for sim, real in groups.values():
        if sim and real:
            found.append(Comparison(_experiment(real[0]), sim, real))
    return found


def _experiment(r: Result) -> Experiment:
    """As much of the experiment as a title needs."""
    return Experiment.from_options(
        trace=_workload(r), evict=r.evict, prefetch=r.prefetch, local=r.limit, store=r.store,
        faults=r.faults_mode, threads=r.threads, seed=r.seed,
    )  # fmt: skip


def _experiment_rows(pair: Comparison) -> list[tuple[str, str]]:
    """What ran in both worlds, and how often."""
    r = pair.real[0]
    sizes = f"{r.pages:,} pages, limit {r.limit:,}, high {r.high:,}, low {r.low:,}"
    policy = f"{r.evict} seeing {r.observe}, prefetch {r.prefetch}"
    return [
        ("workload", f"{_workload(r)}, {r.refs:,} references, threads: {r.threads}"),
        ("memory", f"{sizes}; store {r.store}, {r.faults_mode}"),
        ("policy", policy),
        ("runs", f"{len(pair.simulated)} simulated, {len(pair.real)} on real memory"),
    ]


def _workload(r: Result) -> str:
    """A trace file without its folder: reports are passed around."""
    return Path(r.workload).stem if r.workload.endswith(".parquet") else r.workload


def _errors(pair: Comparison) -> dict[str, Any]:
    r = pair.real[0]
    named = {
        "workload": _workload(r),
        "evict": r.evict,
        "store": r.store,
        "mode": r.faults_mode,
        "threads": r.threads,
        "local": f"{r.limit / r.pages:.0%}" if r.pages else "-",
    }
    table = pair.frame
    for name in MATRIX:
        named[name] = table.loc[name, "error"]
        named[f"{name} ±"] = table.loc[name, "repeat_error"]
    return named


def error_summary(errors: pd.DataFrame, name: str) -> str:
    """One line: mean absolute error, the worst, and the share within 10 %."""
    e = errors[name].abs()
    text = f"{_name(name)}: mean absolute error {e.mean():.1%}"
    if len(e) > 1:
        text += f", worst {e.max():.1%}, {(e <= 0.1).mean():.0%} of {len(e)} points within 10 %"
    return f"{text} (repeat error {errors[f'{name} ±'].mean():.1%})"


def _tuned(path: Path, results: list[Result], metadata: Mapping[str, Any]) -> Section:
    """A search: what won, and by how much, as predicted and as measured."""
    told = metadata["tune"]
    section = Section(path.name, f"tuned for {told['goal']}", [], _about(metadata, results))
    section.summary = [told["summary"], f"seed {told['seed']}"]
    rows = []
    base = told["candidates"][0]
    for c in told["candidates"]:
        measured = pd.Series(c["measured"], dtype=float)
        rows.append(
            {
                "": "default" if c["default"] else "winner" if c["winner"] else "",
                **c["settings"],
                "predicted": c["predicted"],
                "gain": f"{1 - c['predicted'] / base['predicted']:+.1%}",
                "measured": measured.median(),
                "gain ": _gain_of(measured, base["measured"]),
                "runs": len(measured),
            }
        )
    section.tables.append(table_of(pd.DataFrame(rows), "Policies that were measured."))
    section.pictures.append(
        picture(plots_report.plot_search(told["trials"], base["predicted"], told["goal"]),
                "The search: every point that was simulated")
    )  # fmt: skip
    if any(c["measured"] for c in told["candidates"]):
        section.pictures.append(
            picture(plots_report.plot_gains(told["candidates"]), "Gain over the default")
        )
    best = sorted((t for t in told["trials"] if t["value"] is not None), key=lambda t: t["value"])
    columns = list(dict.fromkeys(k for t in best[:10] for k in t))
    section.tables.append(
        table_of(pd.DataFrame(best[:10], columns=columns), "The best ten points.")
    )
    return section


def _gain_of(measured: pd.Series[float], base: Sequence[float]) -> str:
    if measured.empty or not base:
        return "-"
    return f"{1 - measured.median() / pd.Series(base).median():+.1%}"


def _measured(path: Path, results: list[Result], metadata: Mapping[str, Any]) -> Section:
    """Runs of one world."""
    real = bool(results) and results[0].driver == "real"
    section = Section(
        path.name, "real memory" if real else "simulated", [], _about(metadata, results)
    )
    data = frame(results)
    if data.empty:
        section.summary.append("no results in it")
        return section
    if real:
        section.summary += _lost(results)
        kept = sum(r.verified is True for r in results)
        section.summary.append(f"page contents verified in {kept} of {len(results)} runs")
    data["workload"] = [_workload(r) for r in results]
    local = data["limit"] / data["pages"].where(data["pages"] > 0)
    data.insert(1, "local", [f"{share:.0%}" for share in local])
    settings = ["workload", "evict", "prefetch", "faults_mode", "store", "local", "threads"]
    columns, same = _varying(data, settings)
    if same:
        section.summary.append(f"{same} in all of them")
    columns += ["refs", "faults", "evictions", "writebacks"]
    columns += ["elapsed_s", "latency_us_p50", "latency_us_p99"]
    try:
        data["slowdown"] = plots_memory.slowdown(data, "workload")["slowdown"]
        columns.append("slowdown")
    except UsageError:
        pass  # no run has all memory local
    if real:
        columns.append("verified")
    section.tables.append(table_of(data[columns], "Each run; latencies in µs, elapsed in s."))
    if rows := metadata.get("versus"):
        section.tables.append(table_of(pd.DataFrame(rows), "Beside the kernel's own paging."))
    paging = [r for r in results if r.faults and r.latency_us and r.limit < r.pages]
    for workload in dict.fromkeys(r.workload for r in paging):
        runs = [r for r in paging if r.workload == workload][:CURVES]
        labels = {f"{r.evict}, {r.faults_mode}, {r.store} {r.limit / r.pages:.0%}": r for r in runs}
        ax = plots_faults.plot_latency({label: r.latency_us for label, r in labels.items()})
        section.pictures.append(picture(ax, f"Fault latency, {_workload(runs[0])}"))
    return section


def _sweep(path: Path) -> Section:
    """A grid in the simulator."""
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise EdmError(f"{path}: cannot be read ({reason})") from error
    about = (table.schema.metadata or {}).get(b"edm_sweep")
    if about is None:
        raise UsageError(f"{path}: no sweep (a trace?); give what edm_sim sweep -o wrote")
    data = table.to_pandas()
    metadata = json.loads(about)["metadata"]
    names = [str(name) for name in data.columns]
    grid = names[: names.index("driver")] if "driver" in names else []
    grid = [name for name in grid if data[name].nunique() > 1]
    section = Section(path.name, "a sweep in the simulator", [], _about(metadata))
    section.summary = [f"{len(data)} points over {', '.join(grid) or 'nothing'}"]
    columns = [*grid, "miss_ratio", "faults", "elapsed_s", "latency_us_mean", "latency_us_p99"]
    shown = [c for c in dict.fromkeys(columns) if c in data]
    section.tables.append(table_of(data[shown], "Each point; latencies in µs, elapsed in s."))
    by = next((n for n in grid if n not in ("local", "limit", "low", "high")), "evict")
    if data["limit"].nunique() > 1 and data[by].nunique() <= CURVES:
        try:
            log = plots_memory.slowdown(data, by)["slowdown"].max() > 20
            section.pictures.append(
                picture(plots_memory.plot_slowdown(data, by, log=bool(log)), "Slowdown")
            )
        except UsageError:
            pass  # no point has all memory local
    section.pictures.append(picture(plots_report.plot_grid(data, grid), "Over the grid"))
    return section


def _curves(path: Path) -> Section:
    """Miss-ratio curves."""
    try:
        data = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise EdmError(f"{path}: cannot be read ({reason})") from error
    if not {"evict", "size", "miss_ratio"} <= set(data.columns):
        raise UsageError(f"{path}: no miss-ratio curves in it; give what edm_sim mrc -o wrote")
    section = Section(path.name, "miss-ratio curves", [], [("command", "not kept in a CSV")])
    section.tables.append(table_of(data, "Each point."))
    section.pictures.append(picture(plots_memory.plot_miss_ratio(data), "Miss ratio over size"))
    return section


# -- parts


def _name(metric: str) -> str:
    return NAMES.get(metric, metric).replace("_", " ")


def _varying(data: pd.DataFrame, columns: Sequence[str]) -> tuple[list[str], str]:
    """The columns whose values differ, and the others in words."""
    same = [c for c in columns if len(data) > 1 and data[c].nunique(dropna=False) == 1]
    told = ", ".join(f"{c.replace('_', ' ')} {cell(data[c].iloc[0])}" for c in same)
    return [c for c in columns if c not in same], told


def _about(metadata: Mapping[str, Any], results: Sequence[Result] = ()) -> list[tuple[str, str]]:
    """How it was made, in the order people look for it."""
    rows = []
    for key in METADATA:
        value = metadata.get(key)
        if value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(f"{v:.2f}" for v in value)
        rows.append((key.replace("_", " "), str(value)))
    if calibration := metadata.get("calibration"):
        noisy = ", NOISY" if calibration.get("noisy") else ""
        error = calibration.get("repeat_error", float("nan"))
        told = (
            f"{calibration.get('cpu')}, {calibration.get('date')}, repeat error {error:.1%}{noisy}"
        )
        rows.append(("calibration", told))
    if results:
        rows.append(("seeds", ", ".join(str(s) for s in sorted({r.seed for r in results}))))
    return rows


def table_of(data: pd.DataFrame, caption: str) -> Table:
    """A frame as text; missing values as -."""
    shown = data.head(LINES).astype(object)
    rows: list[Any] = shown.where(shown.notna(), None).to_dict("records")
    columns = [
        (
            HEADINGS.get(str(name), str(name)).replace("_", " "),
            bool(pd.api.types.is_numeric_dtype(data[name])) or _signed(data[name]),
        )
        for name in data.columns
    ]
    text = [[cell(row[name]) for name in data.columns] for row in rows]
    return Table(caption, columns, text, max(0, len(data) - LINES))


def _signed(values: pd.Series[Any]) -> bool:
    """Whether it holds percentages, which are text already."""
    return all(isinstance(v, str) and ("%" in v or v == "-") for v in values)


def picture(drawn: Axes | Figure, caption: str) -> Picture:
    """A figure as a data URI; it is closed."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "edm"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    uri = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(caption, uri, wide=figure.get_figwidth() > WIDE)
