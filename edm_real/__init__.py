"""edm_real: drives the policy with userfaultfd: regions, fault paths, page stores. Linux only."""

from edm_real.region import PageLostError, Region, WritebackError
from edm_real.run import run

__all__ = ["PageLostError", "Region", "WritebackError", "run"]
