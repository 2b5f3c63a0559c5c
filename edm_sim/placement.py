"""Placement: on which EMUs a page goes. A rule gives the units in order of preference."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from edm_policy import Ring
from edm_sim.emu import Unit

NEIGHBOURS = 64
"""Pages that `local` keeps together."""

Rule = Callable[[int, list[Unit]], list[Unit]]


def _mix(page: int) -> int:
    """A 64-bit hash (the finaliser of splitmix64), the same everywhere."""
    z = (page + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)


def _from(first: int, units: list[Unit]) -> list[Unit]:
    return units[first:] + units[:first]


def by_hash(page: int, units: list[Unit]) -> list[Unit]:
    """Evenly, wherever the page lies."""
    return _from(_mix(page) % len(units), units)


def least_loaded(page: int, units: list[Unit]) -> list[Unit]:
    """Fewest pages first."""
    return sorted(units, key=lambda unit: (len(unit.pages) + unit.reserved, unit.number))


def local(page: int, units: list[Unit]) -> list[Unit]:
    """Neighbouring pages on one unit, so that a batch goes to few."""
    return _from(_mix(page // NEIGHBOURS) % len(units), units)


_rings = lru_cache(Ring)


def ring(page: int, units: list[Unit]) -> list[Unit]:
    """By consistent hashing, as the store `striped:` does on real memory."""
    return [units[k] for k in _rings(len(units)).order(page)]


def in_order(page: int, units: list[Unit]) -> list[Unit]:
    """As they are numbered, as the store `replicated:` asks its members."""
    return units


RULES: dict[str, Rule] = {
    **{"hash": by_hash, "least": least_loaded, "local": local, "ring": ring, "order": in_order}
}
