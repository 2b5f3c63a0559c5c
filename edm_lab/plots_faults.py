"""Plots of what a fault costs: percentiles, the whole distribution, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from edm_lab.plot_style import HATCHES, PALETTE, axes_or_new, plain_numbers, styles
from edm_sim import Costs

FAULTS = ("zero_fill", "fetch", "rescue", "allow_write")
"""The events of edm_sim.observe() that are faults, as the thread saw them."""

POINTS = 5_000  # of a distribution, at most: more than a print can show


def plot_latency(results: dict[str, dict[str, float]], ax: Axes | None = None) -> Axes:
    """Fault latency percentiles, a line a run. results: label -> Result.latency_us."""
    ax = axes_or_new(ax)
    keys = ["p50", "p90", "p99", "p999"]
    for style, (label, latency) in zip(styles(), results.items(), strict=False):
        ax.plot(range(len(keys)), [latency[k] for k in keys], label=label, **style)
    ax.set(yscale="log", ylabel="fault latency, µs", xlabel="percentile of faults")
    plain_numbers(ax.yaxis)
    ax.set_xticks(range(len(keys)), ["50", "90", "99", "99.9"])
    ax.legend(frameon=False)
    return ax


def fault_latencies_us(events: pd.DataFrame) -> NDArray[np.float64]:
    """Of the events of edm_sim.observe(): each fault's time at its thread, µs."""
    return events.loc[events["event"].isin(FAULTS), "duration_ns"].to_numpy(np.float64) / 1000


def plot_latency_cdf(
    runs: Mapping[str, ArrayLike], tail: bool = False, ax: Axes | None = None
) -> Axes:
    """Distribution of fault latency, a step line a run. runs: label -> latencies in µs.

    tail: the share of faults that take longer, on a logarithmic axis, which shows the rare ones.
    """
    ax = axes_or_new(ax)
    for style, (label, latencies) in zip(styles(markers=False), runs.items(), strict=False):
        values, counts = np.unique(np.asarray(latencies, np.float64), return_counts=True)
        share = np.cumsum(counts) / counts.sum()
        # The last value has nothing above it, which a logarithm cannot show.
        x, y = (values[:-1], 1 - share[:-1]) if tail else (values, share)
        if len(x) > POINTS:
            chosen = np.unique(np.linspace(0, len(x) - 1, POINTS).astype(int))
            x, y = x[chosen], y[chosen]
        ax.step(x, y, where="post", label=label, **style)
    ax.set(xscale="log", xlabel="fault latency, µs")
    if tail:
        ax.set(yscale="log", ylabel="share of faults that take longer")
    else:
        ax.set(ylabel="share of faults that take at most this", ylim=(0, 1.02))
    ax.legend(frameon=False)
    return ax


def fault_stages(
    events: pd.DataFrame, costs: Costs | None = None, faults: str = "upcall"
) -> pd.DataFrame:
    """What the mean fault is made of: a row a kind of fault, columns in µs.

    delivery, decision and install are what the cost table says; the rest of what was simulated
    is waiting: for the store and the network, in queues, for a core, for room.
    """
    c = costs or Costs()
    there_and_back = (
        c.monitor_ns + c.monitor_return_ns
        if faults == "monitor"
        else c.upcall_ns + c.upcall_return_ns
    )
    install = {
        "zero_fill": c.zero_ns,
        "fetch": c.install_ns,
        "rescue": c.rescue_ns,
        "allow_write": c.allow_write_ns,
    }
    mean = events[events["event"].isin(FAULTS)].groupby("event")["duration_ns"].mean()
    rows = {}
    for kind in [k for k in FAULTS if k in mean.index]:
        known = there_and_back + c.decide_ns + install[kind]
        rows[kind] = {
            "delivery": there_and_back / 1000,
            "decision": c.decide_ns / 1000,
            "install": install[kind] / 1000,
            "waiting": max(0.0, (mean[kind] - known) / 1000),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def plot_breakdown(stages: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Stacked bars: a bar an index value, a part a column, in µs; as from fault_stages()."""
    ax = axes_or_new(ax, (6, 0.9 + 0.5 * len(stages)))
    left = np.zeros(len(stages))
    where = np.arange(len(stages))
    for number, name in enumerate(stages):
        part: Any = stages[name].to_numpy(np.float64)
        look: dict[str, Any] = {
            "color": PALETTE[number % len(PALETTE)],
            "hatch": HATCHES[number % len(HATCHES)],
            "edgecolor": "white",
        }
        ax.barh(where, part, 0.65, left=left, label=str(name), **look)
        left += part
    for y, total in zip(where, left, strict=True):
        ax.annotate(f" {total:.3g}", (total, y), va="center", fontsize="small")
    ax.set_yticks(where, [str(name).replace("_", " ") for name in stages.index])
    ax.invert_yaxis()
    ax.set_xlabel("mean fault latency, µs")
    ax.margins(x=0.1)
    ax.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax
