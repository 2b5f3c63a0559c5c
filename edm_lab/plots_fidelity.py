"""Plots of how far the simulator is from real memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edm_lab.plot_style import axes_or_new, plain_numbers, styles

if TYPE_CHECKING:
    from edm_lab.matrix import Matrix


def plot_scatter(matrix: Matrix, metric: str, label: str, ax: Axes | None = None) -> Axes:
    """A metric of every point: simulated over real, the line where both are equal, and 10 %."""
    ax = axes_or_new(ax, (4.6, 4.2))
    groups: dict[str, list[tuple[float, float]]] = {}
    for c in matrix.comparisons:
        row: Any = c.frame.loc[metric]
        threads = c.experiment.workload.threads
        name = f"{threads} thread{'s' if threads > 1 else ''}"
        groups.setdefault(name, []).append((float(row["real"]), float(row["sim"])))
    everything = np.array([point for points in groups.values() for point in points])
    ends = np.array([everything.min() * 0.8, everything.max() * 1.25])
    ax.plot(ends, ends, color="black", linewidth=0.8)
    ax.fill_between(ends, ends * 0.9, ends * 1.1, color="0.88", linewidth=0, label="within 10 %")
    for (name, points), style in zip(sorted(groups.items()), styles(), strict=False):
        real, sim = np.array(points).T
        ax.plot(real, sim, **(style | {"linestyle": "", "alpha": 0.8}), label=name)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ax.set(xlabel=f"{label}, real memory", ylabel=f"{label}, simulator")
    for axis in (ax.xaxis, ax.yaxis):
        plain_numbers(axis)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_error_cdf(matrix: Matrix, ax: Axes | None = None) -> Axes:
    """What share of points has at most this error; the real runs' own repeat error beside it."""
    ax = axes_or_new(ax, (4.6, 4.2))
    lines = {
        "elapsed time": [abs(c.errors["elapsed_s"]) for c in matrix.comparisons],
        "mean fault latency": [abs(c.errors["latency_us_mean"]) for c in matrix.comparisons],
        "evictions": [abs(c.errors["evictions"]) for c in matrix.comparisons],
        "real runs' repeat error": [c.repeat_errors["elapsed_s"] for c in matrix.comparisons],
    }
    for (name, values), style in zip(lines.items(), styles(markers=False), strict=False):
        x = np.sort(100 * np.array(values))
        ax.step(np.r_[0, x], np.arange(len(x) + 1) / len(x), where="post", label=name, **style)
    ax.set(xlabel="error, %", ylabel="share of points with at most this", ylim=(0, 1.02))
    ax.set_xlim(left=0)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_matrix(matrix: Matrix) -> Figure:
    """Elapsed time and mean latency, simulated against real, and the distribution of errors."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    plot_scatter(matrix, "elapsed_s", "elapsed, s", axes[0])
    plot_scatter(matrix, "latency_us_mean", "mean fault latency, µs", axes[1])
    plot_error_cdf(matrix, axes[2])
    return figure
