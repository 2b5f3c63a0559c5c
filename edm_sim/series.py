"""Time series: what the model looks like at equal intervals."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pandas as pd
import simpy
from edm_policy._core import lib

from edm_sim.rack import RackDms

if TYPE_CHECKING:
    from edm_sim.model import Model

Row = dict[str, float]


class Series:
    """One row an interval: t_ns, and over all instances resident and leaving pages, faults
    and write-backs of the interval; for a rack also the backlog of DML, XPET and each unit in
    ns, and bytes sent to and by the instances."""

    def __init__(self, model: Model, interval_ns: int):
        self._model = model
        self._interval_ns = interval_ns
        self._rows: list[Row] = []
        self._before: Row = {}
        model.env.process(self._sample())

    def _sample(self) -> Generator[simpy.Event, Any, None]:
        model = self._model
        while not model.finished:
            yield model.env.timeout(self._interval_ns)
            self._rows.append(self._row())

    def _row(self) -> Row:
        model, now = self._model, self._model.env.now
        everybody = [*model.past, *model.instances]
        stats = [lib.edm_stats_of(i.ptr) for i in everybody]
        counts: Row = {
            "faults": sum(s.faults for s in stats),
            "writebacks": sum(s.writebacks for s in stats),
            "refs": sum(s.refs + s.faults for s in stats),
        }
        row: Row = {
            "t_ns": now,
            "resident": sum(lib.edm_resident(i.ptr) for i in model.instances),
            "leaving": sum(lib.edm_leaving(i.ptr) for i in model.instances),
        }
        dms = model.dms
        if isinstance(dms, RackDms):
            counts["bytes_up"] = sum(link.up.bytes for link in dms.links)
            counts["bytes_down"] = sum(link.down.bytes for link in dms.links)
            row["dml_ns"] = dms.dml.backlog_ns(now)
            row["xpet_ns"] = dms.xpet.backlog_ns(now)
            for unit in dms.units:
                row[f"{unit.name}_ns"] = unit.server.backlog_ns(now)
        for name, value in counts.items():
            row[name] = value - self._before.get(name, 0)
        self._before = counts
        return row

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows)
