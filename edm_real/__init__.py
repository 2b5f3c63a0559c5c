"""edm_real: drives the policy with userfaultfd: regions, fault paths, page stores. Linux only."""

from edm_real.budget import Budget
from edm_real.errors import PageLostError, WritebackError
from edm_real.region import Region
from edm_real.run import run

__all__ = ["Budget", "PageLostError", "Region", "WritebackError", "run"]
