"""The same numpy work on paged and on plain memory, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from edm_lab.plot_style import HATCHES, PALETTE, axes_or_new
from edm_real import Region
from edm_workload.result import cell

COUNTED = ("faults", "fetches", "rescues", "evictions", "writebacks")


def compare_arrays(
    region: Region,
    paged: NDArray[Any],
    plain: NDArray[Any],
    work: Mapping[str, Callable[[NDArray[Any]], Any]],
) -> pd.DataFrame:
    """Does each piece of work once on `plain`, then on `paged`, an array of `region`.

    A row a piece: plain_s and paged_s (seconds), slowdown, and what the region counted meanwhile.
    """
    rows = {}
    for name, do in work.items():
        plain_s = _seconds(do, plain)
        before = region.stats()
        paged_s = _seconds(do, paged)
        after = region.stats()
        counts = {key: after[key] - before[key] for key in COUNTED}
        rows[name] = {
            "plain_s": plain_s,
            "paged_s": paged_s,
            "slowdown": paged_s / plain_s,
        } | counts
    return pd.DataFrame.from_dict(rows, orient="index")


def _seconds(do: Callable[[NDArray[Any]], Any], array: NDArray[Any]) -> float:
    begin = time.perf_counter()
    do(array)
    return time.perf_counter() - begin


def plot_arrays(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Bars of seconds (logarithmic), as from compare_arrays(), with the slowdown beside them."""
    ax = axes_or_new(ax, (6.5, 1.2 + 0.55 * len(runs)))
    where = np.arange(len(runs))
    columns = {"plain_s": "all in memory", "paged_s": "paged"}
    for number, (column, label) in enumerate(columns.items()):
        ax.barh(
            where + (number - 0.5) * 0.4,
            runs[column].to_numpy(),
            0.38,
            label=label,
            color=PALETTE[number],
            hatch=HATCHES[number],
            edgecolor="white",
        )
    for y, (seconds, times) in enumerate(zip(runs["paged_s"], runs["slowdown"], strict=True)):
        ax.annotate(f" {cell(float(times))} x", (seconds, y + 0.2), va="center", fontsize="small")
    ax.set_yticks(where, [str(name) for name in runs.index])
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="time, s")
    ax.margins(x=0.12)
    ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax
