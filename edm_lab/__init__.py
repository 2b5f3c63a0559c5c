"""edm_lab: the only place that imports both worlds: compare, tune, plots, report."""

from edm_lab.arrays import compare_arrays, plot_arrays
from edm_lab.compare import Comparison, compare
from edm_lab.lockstep import Lockstep, lockstep
from edm_lab.observation import observation_cost, plot_observation
from edm_lab.plot_style import styles
from edm_lab.plots import plot_comparison, plot_worlds
from edm_lab.plots_faults import (
    fault_latencies_us,
    fault_stages,
    plot_breakdown,
    plot_latency,
    plot_latency_cdf,
)
from edm_lab.plots_memory import (
    least_local,
    page_heat,
    plot_miss_ratio,
    plot_page_heat,
    plot_slowdown,
    slowdown,
)
from edm_lab.plots_rack import (
    plot_interference,
    plot_replicas,
    plot_tail_against_load,
    plot_timeline,
)
from edm_lab.plots_report import plot_gains, plot_scatter, plot_search
from edm_lab.report import report
from edm_lab.tune import Bound, Tuned, tune

__all__ = [
    "Bound",
    "Comparison",
    "Lockstep",
    "Tuned",
    "compare",
    "compare_arrays",
    "fault_latencies_us",
    "fault_stages",
    "least_local",
    "lockstep",
    "observation_cost",
    "page_heat",
    "plot_arrays",
    "plot_breakdown",
    "plot_comparison",
    "plot_gains",
    "plot_interference",
    "plot_latency",
    "plot_latency_cdf",
    "plot_miss_ratio",
    "plot_observation",
    "plot_page_heat",
    "plot_replicas",
    "plot_scatter",
    "plot_search",
    "plot_slowdown",
    "plot_tail_against_load",
    "plot_timeline",
    "plot_worlds",
    "report",
    "slowdown",
    "styles",
    "tune",
]
