"""The plot of a comparison: both worlds side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from edm_lab.plot_style import PALETTE, axes_or_new
from edm_workload import Result
from edm_workload.metadata import redact
from edm_workload.result import frame
from edm_workload.synth import is_synth

if TYPE_CHECKING:
    import pandas as pd

    from edm_lab.compare import Comparison

SIM, REAL = PALETTE[0], PALETTE[4]


def _pair(ax: Axes, labels: list[str], sim: Any, real: Any, unit: str, spread: Any = None) -> Axes:
    y = np.arange(len(labels))
    ax.barh(y - 0.2, sim, 0.38, color=SIM, label="simulator")
    ax.barh(y + 0.2, real, 0.38, color=REAL, label="real memory", xerr=spread, capsize=2)
    ax.set_yticks(y, labels)
    ax.set_ylim(max(len(labels), 3) - 0.5, -0.5 if len(labels) > 2 else -1.5)
    ax.set_xlabel(unit)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
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
        labels = [n.removeprefix("latency_us_").removesuffix("_s").replace("_", " ") for n in names]
        _pair(ax, labels, part["sim"], part["real"], unit, part["repeat_error"] * part["real"])
    axes[0].legend(frameon=False, loc="lower right")
    e = comparison.experiment
    trace = e.workload.trace if is_synth(e.workload.trace) else Path(e.workload.trace).stem
    figure.suptitle(
        f"{trace}, {e.policy.evict}, {e.memory.local} local, {redact(e.store.url)}, {e.run.faults}"
    )
    return figure


def plot_worlds(
    runs: Sequence[Result], value: str, unit: str, by: str = "evict", ax: Axes | None = None
) -> Axes:
    """A figure of runs in both worlds as bars, a group for each value of `by`; medians where
    there are several runs. value: a column of result.frame()."""
    data = frame(runs).groupby([by, "driver"], sort=False)[value].median().unstack("driver")
    ax = axes_or_new(ax, (6.5, 1.3 + 0.55 * len(data)))
    names = [str(name).removeprefix("__main__:") for name in data.index]  # a notebook's own
    _pair(ax, names, data["sim"], data["real"], unit)
    ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax
