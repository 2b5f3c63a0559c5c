"""edm_policy: decides. LSPT, watermarks, LPET, eviction policies, prefetchers.

A deterministic state machine in C (c/pager.h is the contract) under a Python face. It
does no I/O, reads no clock, starts no thread; edm_sim and edm_real drive it.
"""

from edm_policy.bounds import DirtyBound, dirty_bound, gap_closed, next_uses, optimum
from edm_policy.config import PolicyConfig, PolicyInfo, evictors, prefetchers, watermarks
from edm_policy.custom import EvictionPolicy, Prefetcher
from edm_policy.errors import CannotError, EdmError, PolicyError, UsageError
from edm_policy.log import LogBuffer, load_log, replay, save_log
from edm_policy.pager import Command, Pager
from edm_policy.placement import Ring
from edm_policy.prefetching import PrefetchMetrics, fault_order, prefetch_metrics
from edm_policy.shards import Shards, sampled_miss_ratio

__all__ = [
    "CannotError",
    "Command",
    "DirtyBound",
    "EdmError",
    "EvictionPolicy",
    "LogBuffer",
    "Pager",
    "PolicyConfig",
    "PolicyError",
    "PolicyInfo",
    "PrefetchMetrics",
    "Prefetcher",
    "Ring",
    "Shards",
    "UsageError",
    "dirty_bound",
    "evictors",
    "fault_order",
    "gap_closed",
    "load_log",
    "next_uses",
    "optimum",
    "prefetch_metrics",
    "prefetchers",
    "replay",
    "sampled_miss_ratio",
    "save_log",
    "watermarks",
]
