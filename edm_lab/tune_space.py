"""What tune may change of an experiment: the policy, and how hard it works.

    evict      every evictor that marks in the fault path can serve, and its parameters
    observe    idle marks, or none: a mark costs time, and must tell enough for it
    prefetch   every prefetcher that needs no plan, and its parameters
    high, low  the head start that LPET has on the faults, and what it frees at one go
    batch      pages evicted at a time

Parameters and their ranges are the registry's, so a new policy is searched without a line here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from edm_policy import evictors, prefetchers
from edm_policy.config import OBSERVE, PolicyInfo
from edm_workload import Experiment
from edm_workload.units import refuse_unknown

KNOBS = ("evict", "observe", "prefetch", "watermarks", "batch")
BATCHES = (4, 128)
WIDEST = 4  # a gap between watermarks is at most the limit over this

_RANGE = re.compile(r"(\w+)=(\d+) \((\d+)\.\.(\d+)\)")
_CHOICE = re.compile(r"(\w+)=(\d+) \((\d+(?:, \d+)+)\)")


class Trial(Protocol):
    """What is needed of an optuna.Trial."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = ...) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def tunable_evictors() -> list[str]:
    """Those that need neither the future nor every access."""
    return [n for n, i in evictors().items() if not i.needs_future and i.needs != "exact"]


def tunable_prefetchers() -> list[str]:
    """Those that need no plan."""
    return [name for name in prefetchers() if name != "planned"]


def check_knobs(names: Iterable[str]) -> frozenset[str]:
    """Names among KNOBS. Raises UsageError for another one."""
    for name in names:
        if name not in KNOBS:
            refuse_unknown("--keep", name, KNOBS)
    return frozenset(names)


def with_parameters(trial: Trial, info: PolicyInfo) -> str:
    """A policy's specification, each parameter whose range the registry tells drawn from it."""
    values = {}
    for name, _, low, high in _RANGE.findall(info.params):
        log = int(low) > 0 and int(high) >= 8 * int(low)
        values[name] = trial.suggest_int(f"{info.name}.{name}", int(low), int(high), log=log)
    for name, _, choices in _CHOICE.findall(info.params):
        numbers = [int(c) for c in choices.split(", ")]
        values[name] = trial.suggest_categorical(f"{info.name}.{name}", numbers)
    if {"min", "max"} <= set(values):  # a window
        values["min"] = min(values["min"], values["max"])
    return ":".join([info.name, *(f"{k}={v}" for k, v in values.items())])


def marks(name: str) -> list[str]:
    """The observations real memory can give an evictor in the fault path, the best one first."""
    info = evictors()[name]
    most = min(OBSERVE.index(info.best), OBSERVE.index("idle"))
    return list(reversed(OBSERVE[OBSERVE.index(info.needs) : most + 1]))


def suggest(trial: Trial, base: Experiment, keep: frozenset[str]) -> Experiment:
    """One point of the space; knobs in `keep` stay as in `base`."""
    changes: dict[str, Any] = {}
    evict = base.policy.evict
    if "evict" not in keep:
        name = trial.suggest_categorical("evict", tunable_evictors())
        evict = changes["evict"] = with_parameters(trial, evictors()[name])
    name = evict.split(":")[0]
    if "observe" not in keep and name in evictors():
        levels = marks(name)
        changes["observe"] = (
            trial.suggest_categorical(f"{name}.observe", levels) if len(levels) > 1 else levels[0]
        )
    if "prefetch" not in keep:
        chosen = trial.suggest_categorical("prefetch", tunable_prefetchers())
        changes["prefetch"] = with_parameters(trial, prefetchers()[chosen])
    if "batch" not in keep:
        changes["batch"] = trial.suggest_int("batch", *BATCHES, log=True)
    if "watermarks" not in keep:
        widest = max(1, base.resolve().limit // WIDEST)
        # One more than the head start, because a logarithm has no 0.
        ahead = trial.suggest_int("ahead", 1, widest + 1, log=True) - 1
        changes |= gaps(base.resolve().limit, ahead, trial.suggest_int("gap", 1, widest, log=True))
    return base.with_(**changes)


def gaps(limit: int, ahead: int, gap: int) -> dict[str, int]:
    """high and low, in pages: high lies `ahead` below the limit, low `gap` below high."""
    high = max(1, limit - ahead)
    return {"high": high, "low": max(0, high - gap)}


def at_limit(experiment: Experiment, limit: int) -> Experiment:
    """The same policy with another limit: its gaps stay as many pages, a quarter of it at most."""
    policy = experiment.policy
    if policy.high is None and policy.low is None:
        return experiment.with_(local=limit)
    now = experiment.resolve()
    widest = max(1, limit // WIDEST)
    ahead, gap = min(now.limit - now.high, widest), min(now.high - now.low, widest)
    return experiment.with_(local=limit, **gaps(limit, ahead, gap))


def plain_points(keep: frozenset[str]) -> list[dict[str, Any]]:
    """Where a search begins: every evictor and every prefetcher once, nothing else special."""
    points: list[dict[str, Any]] = []
    if "evict" not in keep:
        points += [{"evict": name, "prefetch": "none"} for name in tunable_evictors()]
    if "prefetch" not in keep:
        points += [{"prefetch": name} for name in tunable_prefetchers()]
    return points
