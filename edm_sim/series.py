"""Time series: what the model looks like at equal intervals."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import simpy
from edm_policy._core import ffi, lib

from edm_sim.rack import RackDms

if TYPE_CHECKING:
    from edm_sim.instance import Instance
    from edm_sim.model import Model

Row = dict[str, float]


class Series:
    """One row an interval, over all instances.

    At that moment: resident, leaving and dirty pages (the dirty ones among the resident), and
    for each server (DML, XPET, EMU_k, DISC; without a rack the two wires) its queue in jobs,
    `*_queue`, and how long a new one would wait, `*_ns`. In the interval: faults, writebacks, refs,
    bytes_up and bytes_down between instances and DMS, and the same as bandwidth, Gbit/s."""

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
            "dirty": sum(_dirty(i) for i in model.instances),
        }
        dms = model.dms
        if isinstance(dms, RackDms):
            counts["bytes_up"] = sum(link.up.bytes for link in dms.links)
            counts["bytes_down"] = sum(link.down.bytes for link in dms.links)
        else:
            counts["bytes_up"], counts["bytes_down"] = dms.bytes_up, dms.bytes_down
        for name, server in dms.servers().items():
            row[f"{name}_queue"] = server.queue(now)
            row[f"{name}_ns"] = server.backlog_ns(now)
        for name, value in counts.items():
            row[name] = value - self._before.get(name, 0)
        for way in ("up", "down"):
            row[f"{way}_gbit"] = row[f"bytes_{way}"] * 8 / self._interval_ns
        self._before = counts
        return row

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows)


def _dirty(instance: Instance) -> int:
    """Pages in the LSPT whose content differs from the store's."""
    words = np.frombuffer(
        ffi.buffer(lib.edm_page_words(instance.ptr), 2 * instance.pager.config.pages), np.uint16
    )
    state = words & lib.EDM_STATE_MASK
    here = (state >= lib.EDM_FETCHING) & (state <= lib.EDM_LEAVING)
    return int(np.count_nonzero(here & (words & lib.EDM_DIRTY != 0)))
