"""Plots. Each function draws on the Axes it is given (or new ones) and returns them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd

    from edm_lab.compare import Comparison

SIM, REAL = "#3b6ea8", "#d0822f"  # told apart in print and by the colour-blind


def _pair(ax: Axes, labels: list[str], sim: Any, real: Any, unit: str, spread: Any = None) -> Axes:
    y = np.arange(len(labels))
    ax.barh(y - 0.2, sim, 0.38, color=SIM, label="simulator")
    ax.barh(y + 0.2, real, 0.38, color=REAL, label="real memory", xerr=spread, capsize=2)
    ax.set_yticks(y, labels)
    ax.set_ylim(max(len(labels), 3) - 0.5, -0.5 if len(labels) > 2 else -1.5)
    ax.set_xlabel(unit)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_comparison(comparison: Comparison) -> Figure:
    """Counts, fault latency and elapsed time of both worlds, with the real runs' spread."""
    frame = comparison.frame
    from edm_lab.compare import COUNTS, LATENCIES

    figure, axes = plt.subplots(
        1, 3, figsize=(11, 3.6), layout="constrained", width_ratios=[3, 3, 2]
    )
    groups: tuple[tuple[tuple[str, ...], str], ...] = (
        (COUNTS, "pages"),
        (LATENCIES, "fault latency, µs"),
        (("elapsed_s",), "elapsed, s"),
    )
    for ax, (names, unit) in zip(axes, groups, strict=True):
        part: pd.DataFrame = frame.loc[list(names)]
        labels = [n.removeprefix("latency_us_").replace("_", " ") for n in names]
        _pair(ax, labels, part["sim"], part["real"], unit, part["repeat_error"] * part["real"])
    axes[0].legend(frameon=False, loc="lower right")
    e = comparison.experiment
    figure.suptitle(
        f"{e.workload.trace}, {e.policy.evict}, {e.memory.local} local, "
        f"{e.store.url}, {e.run.faults}"
    )
    return figure


def plot_miss_ratio(curves: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Miss ratio over size, a line an evictor. curves: columns evict, size (pages), miss_ratio."""
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.8), layout="constrained")[1]
    for name, part in curves.groupby("evict", sort=False):
        part = part.sort_values("size")
        (line,) = ax.plot(part["size"], part["miss_ratio"], marker="o", markersize=3, label=name)
        if name == "belady":
            line.set(linestyle="--", color="black")
    ax.set_xlabel("local memory, pages of 4 KiB")
    ax.set_ylabel("miss ratio")
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def plot_latency(results: dict[str, dict[str, float]], ax: Axes | None = None) -> Axes:
    """Fault latency percentiles, a line a run. results: label -> Result.latency_us."""
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.8), layout="constrained")[1]
    keys = ["p50", "p90", "p99", "p999"]
    for label, latency in results.items():
        ax.plot(keys, [latency[k] for k in keys], marker="o", label=label)
    ax.set_yscale("log")
    ax.set_ylabel("fault latency, µs")
    ax.set_xlabel("percentile of faults")
    ax.set_xticks(range(len(keys)), ["50", "90", "99", "99.9"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax
