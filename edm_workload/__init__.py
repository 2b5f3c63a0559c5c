"""What both worlds are given and what both give back: traces, experiments, results."""

from edm_workload.experiment import Experiment, Resolved
from edm_workload.result import Result
from edm_workload.synth import synth, trace_from
from edm_workload.trace import Trace
from edm_workload.units import PAGE_SIZE

__all__ = ["PAGE_SIZE", "Experiment", "Resolved", "Result", "Trace", "synth", "trace_from"]
