"""Lockstep: one thread, eviction before the faulter goes on, the reference as the clock.

Both worlds follow this order and must write identical decision logs; `now` of every event
is the index of the reference under way. Simulated time still passes, one timeout a fault.
"""

from __future__ import annotations

from array import array
from collections import Counter

from edm_policy._core import lib

from edm_policy import EdmError, LogBuffer, Pager, PolicyConfig
from edm_sim.clock import Clock
from edm_sim.commands import Commands
from edm_sim.costs import Costs
from edm_sim.dms import DirectDms
from edm_sim.reclaim import Steps
from edm_sim.references import References


class LockstepInstance:
    """An Instance with one thread that does everybody's work in turn."""

    def __init__(
        self,
        env: Clock,
        config: PolicyConfig,
        refs: References,
        costs: Costs,
        dms: DirectDms,
        monitor: bool,
        log: LogBuffer | None,
    ):
        self.env, self.refs, self.costs, self.dms = env, refs, costs, dms
        self.spt = dms.spt
        self.pager = Pager(config, log)
        self.ptr = self.pager.ptr
        self.out = Commands()
        self.latencies = array("q")
        self.spent: Counter[str] = Counter()
        self.finished_ns = 0
        self._there = costs.monitor_ns if monitor else costs.upcall_ns
        self._back = costs.monitor_return_ns if monitor else costs.upcall_return_ns
        self.threads = [env.process(self._run())]

    def _run(self) -> Steps:
        refs, i = self.refs, 0
        while True:
            j = lib.edm_consume(self.ptr, refs.c, i)
            if j == refs.n:
                break
            pause = refs.think_ns(i, j + 1)
            spent = self._there + self._fault(
                j, refs.pages[j], refs.writes[j] if refs.writes else 0
            )
            self.latencies.append(spent + self._back)
            yield self.env.timeout(pause + spent + self._back)
            i = j + 1
        yield self.env.timeout(refs.think_ns(i, j))
        self.finished_ns = self.env.now

    def check(self) -> None:
        """At the end of a run. Raises AssertionError for what must not be."""
        if not self.pager.check():
            raise AssertionError("the pager is inconsistent")

    def _fault(self, i: int, page: int, write: int) -> int:
        """Everything one fault entails; ns."""
        spent = 0
        while True:
            lib.edm_fault(self.ptr, page, write, i, self.out.ptr)
            commands = self.out.all()
            op = commands[0][0]
            spent += self.costs.decide_ns
            if op != lib.EDM_RECLAIM:
                break
            spent += self._reclaim_to_ok(i)
        if any(kind == lib.EDM_WAKE_LPET for kind, _, _ in commands[1:]):
            spent += self._reclaim_to_ok(i)
        if op == lib.EDM_ALLOW_WRITE:
            lib.edm_done(self.ptr, page, i)
            spent += self.costs.allow_write_ns
        elif op in (lib.EDM_ZERO_FILL, lib.EDM_FETCH, lib.EDM_RESCUE):
            spent += self._install(op, page, i)
        elif op != lib.EDM_RETRY:
            raise EdmError(f"lockstep: reference {i} was answered with command {op}, a bug")
        for kind, other, _ in commands[1:]:
            if kind == lib.EDM_PREFETCH:
                spent += self._install(lib.EDM_FETCH, other, i)
        return spent

    def _install(self, op: int, page: int, i: int) -> int:
        lib.edm_installed(self.ptr, page, i)
        self.spt.take(page, 0)
        if op == lib.EDM_ZERO_FILL:
            return self.costs.zero_ns
        if op == lib.EDM_RESCUE:
            return self.costs.rescue_ns
        return self.dms.fetch(0, [page]) + self.costs.install_ns

    def _reclaim_to_ok(self, i: int) -> int:
        spent, status = 0, lib.EDM_RUNNING
        while status == lib.EDM_RUNNING:
            status = lib.edm_reclaim(self.ptr, 0, i, self.out.ptr)
            commands = self.out.all()
            self.pager.raise_policy_error()
            marks = sum(op == lib.EDM_MARK_IDLE for op, _, _ in commands)
            evicted = [(page, f) for op, page, f in commands if op == lib.EDM_EVICT]
            dirty = [page for page, f in evicted if f & lib.EDM_F_DIRTY]
            mapped = [f & lib.EDM_F_DIRTY for _, f in evicted if not f & lib.EDM_F_IDLE]
            out = marks + sum(bool(f) for f in mapped)
            spent += self.costs.decide_ns + self.costs.reclaim_ns(out, marks + len(mapped) - out)
            for _, page, _ in commands:
                lib.edm_done(self.ptr, page, i)
            spent += self.dms.put(0, dirty) if dirty else 0
            for page, _ in evicted:
                if lib.edm_stored(self.ptr, page, i) == 1:
                    self.spt.give(page, 0)
        if status == lib.EDM_FAIL:
            raise EdmError(f"lockstep: reclaim found nothing to evict at reference {i}, a bug")
        return spent
