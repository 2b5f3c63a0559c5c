"""The schedule of failures: crashes, slow phases, stalls, partitions, spot reclaims."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from edm_policy.errors import UsageError
from edm_sim.emu import Unit
from edm_sim.network import Duplex
from edm_sim.rack import RackDms

if TYPE_CHECKING:
    from edm_sim.model import Model

Steps = Generator[simpy.Event, Any, Any]

FOREVER = 1 << 62


def _ns(failure: dict[str, Any], key: str, otherwise: int) -> int:
    return round(failure[key] * 1e6) if key in failure else otherwise


def schedule(model: Model, dms: RackDms) -> None:
    """Starts a process for each failure. Raises UsageError for an unknown unit."""
    for failure in model.experiment.sim.failures:
        kind = failure["kind"]
        if kind == "spot":
            steps = _spot(model, _number(failure, "instance", len(dms.links)), failure)
        elif kind in ("crash", "slow"):
            unit = dms.units[_number(failure, "unit", len(dms.units))]
            steps = (
                _crash(model, dms, unit, failure)
                if kind == "crash"
                else _slow(model, unit, failure)
            )
        else:
            steps = _cut(model, _link(dms, failure), failure)
        model.env.process(_at(model, failure, steps))


def _number(failure: dict[str, Any], key: str, count: int) -> int:
    number = int(failure.get(key, 0))
    if number >= count:
        raise UsageError(
            f"failure {failure['kind']}: there is no {key} {number}, only 0 to {count - 1}"
        )
    return number


def _link(dms: RackDms, failure: dict[str, Any]) -> Duplex:
    if "instance" in failure:
        return dms.links[_number(failure, "instance", len(dms.links))]
    return dms.units[_number(failure, "unit", len(dms.units))].link


def _at(model: Model, failure: dict[str, Any], steps: Steps) -> Steps:
    yield model.env.timeout(_ns(failure, "at_ms", 0))
    if not model.finished:
        yield from steps


def _crash(model: Model, dms: RackDms, unit: Unit, failure: dict[str, Any]) -> Steps:
    keep = failure.get("keep", False)
    if not keep:
        dms.lose(unit)
    unit.crash(keep)
    yield model.env.timeout(_ns(failure, "for_ms", FOREVER))
    unit.restart()


def _slow(model: Model, unit: Unit, failure: dict[str, Any]) -> Steps:
    unit.slow = float(failure.get("factor", 10.0))
    yield model.env.timeout(_ns(failure, "for_ms", FOREVER))
    unit.slow = 1.0


def _cut(model: Model, link: Duplex, failure: dict[str, Any]) -> Steps:
    until = model.env.now + _ns(failure, "for_ms", FOREVER)
    (link.stall if failure["kind"] == "stall" else link.cut)(until)
    yield model.env.timeout(0)


def _spot(model: Model, number: int, failure: dict[str, Any]) -> Steps:
    """Notice, flush, the machine is gone; another one takes up the work."""
    env, instance = model.env, model.instances[number]
    if instance.stopping:
        return  # it is on its way out already
    until = env.now + _ns(failure, "notice_ms", 120_000_000_000)
    instance.stopping = True
    for thread in instance.threads:
        if thread.is_alive:
            yield thread | env.timeout(max(1, until - env.now))
    if env.now < until:
        yield from instance.evacuate(until)
    instance.abandon()
    yield env.timeout(_ns(failure, "away_ms", 0))
    model.past.append(instance)
    model.instances[number] = model.start(number, instance.shares, asks=True)
