"""edm_lab: the only place that imports both worlds. Compare, plots."""

from edm_lab.compare import Comparison, compare
from edm_lab.lockstep import Lockstep, lockstep
from edm_lab.plots import plot_comparison, plot_latency, plot_miss_ratio

__all__ = [
    "Comparison",
    "Lockstep",
    "compare",
    "lockstep",
    "plot_comparison",
    "plot_latency",
    "plot_miss_ratio",
]
