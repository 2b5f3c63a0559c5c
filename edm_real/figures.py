"""The C structs of figures as Python values, by the names of their fields."""

from __future__ import annotations

from typing import Any

from edm_real._core import ffi

POLICY_FIELDS = [name for name, _ in ffi.typeof("edm_stats").fields]
RUNTIME_FIELDS = [name for name, _ in ffi.typeof("edm_runtime_stats").fields]
STORE_FIELDS = [name for name, _ in ffi.typeof("edm_store_stats").fields]


def latency_us(latency: Any) -> dict[str, float]:
    """An edm_latency in microseconds; empty where nothing was recorded."""
    if not latency.count:
        return {}
    return {
        key: getattr(latency, f"{key}_ns") / 1000
        for key in ("mean", "p50", "p90", "p99", "p999", "max")
    }
