"""Plots of a report: many comparisons at once, a search, a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edm_lab.plot_style import BEST, HATCHES, PALETTE, axes_or_new, plain_numbers, styles

if TYPE_CHECKING:
    from edm_lab.compare import Comparison

UNITS = {"p99": "p99 of a fault, µs", "elapsed": "elapsed, s", "local": "elapsed, s"}


def plot_scatter(pairs: Sequence[Comparison]) -> Figure:
    """Simulated against measured, a point a comparison: elapsed time and mean fault latency."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for ax, name, unit in zip(
        axes, ("elapsed_s", "latency_us_mean"), ("elapsed, s", "mean fault, µs"), strict=True
    ):
        axes_or_new(ax)
        points = [(p.real[0].evict, p.frame.loc[name]) for p in pairs]
        names = list(dict.fromkeys(evict for evict, _ in points))
        for evict, style in zip(names, styles(), strict=False):
            x = [row["real"] for e, row in points if e == evict]
            y = [row["sim"] for e, row in points if e == evict]
            ax.plot(x, y, label=evict, **(style | {"linestyle": ""}))
        values = [v for _, row in points for v in (row["real"], row["sim"]) if v > 0]
        if values:
            ends = np.array([min(values) / 1.3, max(values) * 1.3])
            ax.plot(ends, ends, **(BEST | {"label": "equal"}))
            ax.fill_between(ends, ends * 0.9, ends * 1.1, color="0.85", zorder=0, linewidth=0)
            ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
            for axis in (ax.xaxis, ax.yaxis):
                plain_numbers(axis)
        ax.set(xlabel=f"real memory: {unit}", ylabel=f"simulator: {unit}")
    axes[0].legend(frameon=False, fontsize="small")
    return figure


def plot_search(
    trials: Sequence[Mapping[str, Any]], default: float, goal: str, ax: Axes | None = None
) -> Axes:
    """Every point of a search in order, the best so far, and the default's figure."""
    ax = axes_or_new(ax)
    values = np.array([t["value"] if t["value"] is not None else np.nan for t in trials])
    number = np.arange(1, len(values) + 1)
    ax.plot(number, values, ".", color=PALETTE[5], label="a point")
    ax.step(number, np.fmin.accumulate(values), where="post", color=PALETTE[0], label="best so far")
    if goal != "local":  # the search's own figure is another one then
        ax.axhline(default, color=PALETTE[1], linestyle="--", linewidth=1.2, label="default")
    # Points that are far off would flatten all others.
    top = float(np.nanquantile(values, 0.9)) if len(values) else 1.0
    ax.set_ylim(0, 1.15 * max(top, default if goal != "local" else 0.0))
    ax.set(xlabel="point", ylabel=f"simulated {UNITS[goal]}")
    ax.legend(frameon=False)
    return ax


def plot_gains(candidates: Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Axes:
    """Predicted and measured gain over the default (the first one), in per cent."""
    base, others = candidates[0], candidates[1:]
    ax = axes_or_new(ax, (6.5, 1.4 + 0.6 * len(others)))
    where = np.arange(len(others))
    predicted = [100 * (1 - c["predicted"] / base["predicted"]) for c in others]
    measured = [
        100 * (1 - np.median(c["measured"]) / np.median(base["measured"])) if c["measured"] else 0
        for c in others
    ]
    for number, (label, gains) in enumerate({"predicted": predicted, "measured": measured}.items()):
        look: dict[str, Any] = {"color": PALETTE[(0, 4)[number]], "hatch": HATCHES[number]}
        ax.barh(where + (number - 0.5) * 0.4, gains, 0.38, label=label, edgecolor="white", **look)
    names = [f"{c['settings']['evict']}\n{c['settings']['prefetch']}" for c in others]
    ax.set_yticks(where, names, fontsize="small")
    ax.invert_yaxis()
    ax.axvline(0, color="0.5", linewidth=1)
    ax.set_xlabel("gain over the default, %")
    ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return ax


def plot_grid(data: pd.DataFrame, grid: Sequence[str], value: str = "elapsed_s") -> Axes:
    """A figure of each point over the first numeric key of a grid, a line for each value of the
    next one; keys beyond these are averaged over. As bars where no key is numeric."""
    numeric = [n for n in ("limit", *grid) if n in data and _many_numbers(data[n])]
    other = [n for n in grid if n not in (*numeric[:1], "local", "limit", "low", "high")]
    ax = axes_or_new(None)
    if not numeric:
        labels = data[list(grid)].astype(str).agg(", ".join, axis=1) if grid else data["evict"]
        ax.barh(labels, data[value], color=PALETTE[0])
        ax.set_xlabel("elapsed, s")
        return ax
    groups = list(data.groupby(other[0], sort=False)) if other else [("", data)]
    for style, (name, part) in zip(styles(), groups, strict=False):
        line = part.groupby(numeric[0])[value].mean()
        ax.plot(line.index, line, label=str(name), **style)
    ax.set(xlabel=numeric[0].replace("_", " "), ylabel="elapsed, s")
    if data[value].min() > 0 and data[value].max() > 50 * data[value].min():
        ax.set_yscale("log")
        plain_numbers(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    if other:
        ax.legend(frameon=False, title=other[0])
    return ax


def _many_numbers(values: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_numeric_dtype(values)) and values.nunique() > 1
