"""Plots of many machines: load, replicas, failures, and who disturbs whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from edm_lab.plot_style import PALETTE, SEQUENTIAL, axes_or_new, styles

PERCENTILES = ("p50", "p99", "p999")


def plot_tail_against_load(
    results: pd.DataFrame,
    load: str = "faults_per_s",
    by: str | None = None,
    percentiles: Sequence[str] = PERCENTILES,
    ax: Axes | None = None,
) -> Axes:
    """Fault latency percentiles against the load, thousand faults a second.

    results: rows of result.frame() or of a sweep, over think_ns, threads or instances, say;
    load: the column that holds faults a second; by: a column whose values get lines of their
    own.
    """
    ax = axes_or_new(ax)
    groups = [("", results)] if by is None else list(results.groupby(by, sort=False))
    for number, (name, part) in enumerate(groups):
        part = part.sort_values(load)
        for look, percentile in zip(styles(), percentiles, strict=False):
            label = " ".join(str(word) for word in (name, percentile) if word != "")
            x, y = part[load] / 1000, part[f"latency_us_{percentile}"]
            # A colour a group, a marker a percentile; a single group needs no colour of its own.
            own = {} if by is None else {"color": PALETTE[number % len(PALETTE)]}
            ax.plot(x, y, label=label, **(look | own))
    ax.set(xlabel="load, thousand faults/s", ylabel="fault latency, µs", yscale="log")
    ax.set_xlim(left=0)
    ax.legend(frameon=False)
    return ax


def plot_replicas(results: pd.DataFrame, percentile: str = "p99", ax: Axes | None = None) -> Axes:
    """What a shorter tail costs: fault latency at a percentile against requests that memory units
    served for each fetch. Every run is a point; runs that differ in hedge_us only are joined.

    results: rows of a sweep over read, replicas or hedge_us (columns unit_reads and fetches).
    """
    ax = axes_or_new(ax)
    names = [name for name in ("replicas", "read") if name in results]
    groups = list(results.groupby(names, sort=False)) if names else [((), results)]
    for style, (values, part) in zip(styles(), groups, strict=False):
        x = part["unit_reads"] / part["fetches"]
        order = np.argsort(x.to_numpy(), kind="stable")
        y = part[f"latency_us_{percentile}"]
        label = ", ".join(_told(n, v) for n, v in zip(names, values, strict=True))
        ax.plot(x.iloc[order], y.iloc[order], label=label or "all runs", **style)
        if "hedge_us" in part and (not names or "hedged" in values):
            for k in order:
                text = f" after {part['hedge_us'].iloc[k]:g} µs"
                ax.annotate(text, (x.iloc[k], y.iloc[k]), va="bottom", fontsize="x-small")
    ax.set(xlabel="requests to memory units per page fetched", ylabel=f"{percentile} of fault, µs")
    ax.set_ylim(bottom=0)
    ax.margins(x=0.15)
    ax.legend(frameon=False)
    return ax


def _told(name: str, value: Any) -> str:
    return f"read {value}" if name == "read" else f"{value} {name if value != 1 else 'copy'}"


def plot_timeline(
    series: pd.DataFrame,
    failures: Sequence[Mapping[str, Any]] = (),
    columns: Sequence[str] = ("refs", "faults"),
    smooth: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """How fast the program runs while things fail: counts a millisecond over time.

    series: of edm_sim.observe(..., interval_us=...), counts of one interval a row. failures:
    as in the experiment's [sim]; each is shaded while it lasts. smooth: intervals that a
    point is the mean of. A short burst, as the first touches of all pages are, may leave the
    top of the picture.
    """
    ax = axes_or_new(ax, (7, 3.8))
    t_ms = series["t_ns"].to_numpy(np.float64) / 1e6
    lasts = np.diff(t_ms, prepend=0.0)
    top = 0.0
    for style, name in zip(styles(markers=False), columns, strict=False):
        rate = pd.Series(series[name].to_numpy(np.float64) / lasts)
        rate = rate.rolling(smooth, center=True, min_periods=1).mean()
        label = {"refs": "references"}.get(name, name)
        ax.plot(t_ms, rate, label=label, **style)
        top = max(top, float(rate.quantile(0.98)))
    ax.set_ylim(0, 1.35 * top if top else None)
    for number, failure in enumerate(failures):
        begin = float(failure["at_ms"])
        ends = begin + _duration_ms(failure)
        ax.axvspan(begin, min(ends, float(t_ms[-1])), color="0.5", alpha=0.18, linewidth=0)
        # One above the other, so that failures at about one time can all be read.
        height = 0.99 - 0.07 * (number % 4)
        ax.text(
            begin,
            height,
            f" {_named(failure)}",
            transform=ax.get_xaxis_transform(),
            fontsize="small",
            va="top",
        )
    ax.set(xlabel="time, ms", ylabel="events per ms")
    ax.margins(x=0)
    ax.legend(frameon=False, loc="center right")
    return ax


def _duration_ms(failure: Mapping[str, Any]) -> float:
    if failure["kind"] == "spot":
        return float(failure.get("notice_ms", 120_000)) + float(failure.get("away_ms", 0))
    return float(failure.get("for_ms", 0)) or float("inf")


def _named(failure: Mapping[str, Any]) -> str:
    who = [f"EMU {failure['unit']}"] if "unit" in failure else []
    who += [f"instance {failure['instance']}"] if "instance" in failure else []
    return " ".join([str(failure["kind"]), *who])


def plot_interference(
    answers: pd.DataFrame,
    value: str = "mean_us",
    unit: str = "mean answer, µs",
    ax: Axes | None = None,
) -> Axes:
    """Instance by memory unit: how long each one's requests take at each.

    answers: columns instance, unit (a name) and `value`, as Observed.answers has them. A pair
    without requests stays white.
    """
    table = answers.pivot(index="instance", columns="unit", values=value)
    ax = axes_or_new(ax, (1.8 + 0.6 * table.shape[1], 1.4 + 0.28 * min(16, max(4, table.shape[0]))))
    cells = np.ma.masked_invalid(table.to_numpy(np.float64))
    image = ax.imshow(cells, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest", vmin=0)
    ax.set_xticks(range(table.shape[1]), [str(c).replace("_", " ") for c in table.columns])
    each = -(-table.shape[0] // 16)  # no more than 16 of the rows have room for their name
    ax.set_yticks(range(0, table.shape[0], each), [str(r) for r in table.index[::each]])
    ax.set(xlabel="memory unit", ylabel="instance")
    if table.size <= 100:
        middle = float(cells.max()) * 0.55 if cells.count() else 0.0
        for (row, column), number in np.ndenumerate(table.to_numpy(np.float64)):
            if np.isfinite(number):
                color = "white" if number < middle else "black"
                words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "small"}
                ax.text(column, row, f"{number:.3g}", color=color, **words)
    plt.colorbar(image, ax=ax, label=unit)
    return ax
