"""Plots over the size of local memory, and of what a trace touches."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from edm_lab.plot_style import BEST, SEQUENTIAL, axes_or_new, plain_numbers, styles
from edm_policy.errors import UsageError
from edm_workload import Trace


def slowdown(results: pd.DataFrame, by: str = "evict") -> pd.DataFrame:
    """results with local_share (limit over pages) and slowdown: elapsed over elapsed with all
    memory local, taken from the row of the same `by` (else of any) with limit = pages.

    Raises UsageError when there is no such row.
    """
    everything = results[results["limit"] >= results["pages"]]
    if everything.empty:
        raise UsageError('slowdown: no run has all memory local; add local = "100%" to the sweep')
    baseline = everything.groupby(by)["elapsed_s"].min()
    base = results[by].map(baseline).fillna(everything["elapsed_s"].min())
    share = results["limit"] / results["pages"]
    return results.assign(local_share=share, slowdown=results["elapsed_s"] / base)


def least_local(results: pd.DataFrame, bound: float, by: str = "evict") -> pd.Series[float]:
    """For each value of `by`, the least share of memory that was local in a run with a slowdown of
    at most `bound`; nan where none had. results: as for slowdown(), which is what is looked at."""
    data = slowdown(results, by)
    within = data[data["slowdown"] <= bound].groupby(by, sort=False)["local_share"].min()
    return within.reindex(data[by].unique())


def plot_slowdown(
    results: pd.DataFrame, by: str = "evict", ax: Axes | None = None, log: bool = False
) -> Axes:
    """Slowdown against the share of memory that is local, a line for each value of `by`; the
    ideal is 1 at every size. results: rows of result.frame() or of a sweep. log: of slowdowns
    that are worlds apart."""
    ax = axes_or_new(ax)
    data = slowdown(results, by)
    for style, (name, part) in zip(styles(), data.groupby(by, sort=False), strict=False):
        line = part.groupby("local_share")["slowdown"].median()
        bound = BEST if name == "belady" else {}
        ax.plot(line.index * 100, line, label=_shown(name), **(style | bound))
    ax.axhline(1, color="0.5", linewidth=1, label="ideal: all local")
    ax.set(xlabel="local memory, % of the region", ylabel="slowdown (1 = all memory local)")
    if log:
        ax.set_yscale("log")
        plain_numbers(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return ax


def plot_miss_ratio(curves: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Miss ratio over size, a line an evictor; belady is drawn as the bound that it is, MIN.

    curves: columns evict, size (pages), miss_ratio."""
    ax = axes_or_new(ax)
    for style, (name, part) in zip(styles(), curves.groupby("evict", sort=False), strict=False):
        part = part.sort_values("size")
        bound = BEST if name == "belady" else {}
        ax.plot(part["size"], part["miss_ratio"], label=_shown(name), **(style | bound))
    ax.set(xlabel="local memory, pages of 4 KiB", ylabel="miss ratio", xscale="log")
    plain_numbers(ax.xaxis)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return ax


def _shown(name: object) -> str:
    return "MIN (belady)" if name == "belady" else str(name)


def page_heat(trace: Trace, columns: int = 200, rows: int = 120) -> tuple[np.ndarray, int, int]:
    """References in each cell of time by pages: shape (rows, columns) at most, records that
    stand for several counted as such; pages a row and records a column."""
    if not len(trace):
        raise UsageError(f"{trace.name}: an empty trace has no picture")
    a_row = -(-trace.span // rows)
    a_column = -(-len(trace) // columns)
    weights = None if trace.hits is None else 1 + trace.hits.astype(np.int64)
    width = -(-len(trace) // a_column)
    where = trace.page.astype(np.int64) // a_row * width + np.arange(len(trace)) // a_column
    height = -(-trace.span // a_row)
    counts = np.bincount(where, weights, minlength=width * height).reshape(height, width)
    return counts.astype(np.int64), a_row, a_column


def plot_page_heat(trace: Trace, ax: Axes | None = None) -> Axes:
    """Which pages are touched when: references by page and position in the trace. What was
    never touched stays white. Pages are taken as they are numbered: dense() closes gaps."""
    ax = axes_or_new(ax, (6.5, 4))
    counts, a_row, a_column = page_heat(trace)
    height, width = counts.shape
    image = ax.imshow(
        np.ma.masked_equal(counts, 0),
        norm=LogNorm(1, max(2, int(counts.max()))),
        cmap=SEQUENTIAL,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(0, width * a_column / 1000, 0, height * a_row),
    )
    ax.set(xlabel="record of the trace, thousands", ylabel="page of 4 KiB", title=trace.name)
    unit = f"references, in cells of {a_row} pages\nby {a_column:,} records"
    plt.colorbar(image, ax=ax, label=unit)
    return ax
