"""edm_sim: drives the policy with SimPy: instances, network, DMS, EMUs."""

from edm_sim.costs import Costs
from edm_sim.mrc import miss_ratio_curve
from edm_sim.run import Observed, observe, run
from edm_sim.sweep import Swept, sweep

__all__ = ["Costs", "Observed", "Swept", "miss_ratio_curve", "observe", "run", "sweep"]
