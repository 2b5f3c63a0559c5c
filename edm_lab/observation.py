"""What not seeing hits costs: a policy with every access, with idle marks, with faults only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import edm_sim
from edm_lab.plot_style import BEST, HATCHES, PALETTE, axes_or_new
from edm_policy import evictors
from edm_policy.config import OBSERVE, evictor_info
from edm_workload import Trace
from edm_workload.units import Size

NAMES = {"exact": "every access", "idle": "idle marks", "faults": "faults only"}


def observation_cost(trace: Trace, evict: Sequence[str], size: Size) -> pd.DataFrame:
    """Misses of each evictor at one size, under every observation it can live with.

    Columns evict, observe, size (pages), refs, misses, miss_ratio and cost: misses over those of
    the same evictor when it sees every access. belady, the bound, is the last row.
    """
    parts = []
    for observe in reversed(OBSERVE):
        names = [e for e in evict if _can(e, observe)]
        if names:
            curve = edm_sim.miss_ratio_curve(trace, names, [size], observe=observe)
            parts.append(curve.assign(observe=observe))
    table = pd.concat(parts, ignore_index=True)
    exact = table[table["observe"] == "exact"].set_index("evict")["misses"]
    table["cost"] = table["misses"] / table["evict"].map(exact)
    if "belady" in evictors() and "belady" not in evict:
        bound = edm_sim.miss_ratio_curve(trace, ["belady"], [size])
        table = pd.concat([table, bound.assign(observe="exact", cost=1.0)], ignore_index=True)
    return table


def _can(evict: str, observe: str) -> bool:
    """Whether it runs with so little, and whether more than less would change anything."""
    info = evictor_info(evict)
    if observe != "exact" and info.best == "faults":
        return False
    return OBSERVE.index(info.needs) <= OBSERVE.index(observe)


def plot_observation(costs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Bars of miss ratio: a group an evictor, a bar an observation; as from observation_cost()."""
    real = costs[costs["evict"] != "belady"]
    names = list(dict.fromkeys(real["evict"]))
    ax = axes_or_new(ax, (6.5, 1.2 + 0.42 * len(names)))
    for number, observe in enumerate(reversed(OBSERVE)):
        part = real[real["observe"] == observe].set_index("evict")["miss_ratio"]
        where = np.array([names.index(str(e)) for e in part.index]) + (number - 1) * 0.27
        ax.barh(
            where,
            part.to_numpy(),
            0.25,
            label=NAMES[observe],
            color=PALETTE[number],
            hatch=HATCHES[number],
            edgecolor="white",
        )
    bound = costs[costs["evict"] == "belady"]["miss_ratio"]
    if len(bound):
        ax.axvline(float(bound.iloc[0]), label="MIN (belady)", **(BEST | {"linewidth": 1.0}))
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("miss ratio")
    ax.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    return ax
