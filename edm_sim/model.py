"""The world of one experiment: built, run to its end, checked."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

from edm_policy._core import lib

from edm_policy import EdmError, LogBuffer, UsageError
from edm_sim import failures
from edm_sim.clock import Clock
from edm_sim.costs import Costs, store_costs
from edm_sim.dms import DirectDms
from edm_sim.instance import Instance
from edm_sim.lockstep import LockstepInstance
from edm_sim.rack import RackDms
from edm_sim.recorder import Recorder
from edm_sim.references import References, Share, Think, shares
from edm_sim.series import Series
from edm_sim.spt import NOBODY, Spt
from edm_workload import Experiment
from edm_workload.networks import network


class Model:
    """Instances, the DMS between them, and what was observed.

    `instances` are those that ended the run, one a number; `past` those that a spot cloud
    took back. log: of the first instance's decisions.
    """

    def __init__(
        self,
        experiment: Experiment,
        costs: Costs,
        log: LogBuffer | None = None,
        recorder: Recorder | None = None,
        interval_ns: int = 0,
    ):
        sim = experiment.sim
        self.experiment, self.costs, self.recorder, self._log = experiment, costs, recorder, log
        policy = experiment.policy  # by name: each instance makes itself one
        resolved = experiment.policy_config().resolved()
        self.config = replace(resolved, evict=policy.evict, prefetch=policy.prefetch)
        self.env = Clock(0)
        self.seed = experiment.workload.seed
        self.past: list[Instance] = []
        self._separate = 0 if sim.shared else self.config.pages
        self.spt = Spt(self.config.pages * (1 if sim.shared else sim.instances))
        front, store = network(experiment.store.network), store_costs(experiment.store.url, costs)
        self.dms: DirectDms | RackDms
        if sim.rack:
            self.dms = RackDms(self.env, self.spt, sim, front, store, self.seed)
        else:
            self.dms = DirectDms(self.env, self.spt, front, store, self.seed)
        self.instances: list[Instance] = []
        self.lockstep: LockstepInstance | None = None
        self.series: Series | None = None
        if experiment.run.lockstep:
            self._in_lockstep(log)
            return
        for k in range(sim.instances):
            self.instances.append(self.start(k, self._shares(k), asks=sim.shared))
        if isinstance(self.dms, RackDms):
            self.dms.instances = self.instances
            failures.schedule(self, self.dms)
        if interval_ns:
            self.series = Series(self, interval_ns)

    def _think(self) -> Think:
        sim, measured, scale = self.experiment.sim, self.costs.calibration, self.costs.speed.alone
        timed = sim.times == "trace"
        if sim.think_ns is not None or not measured:
            asked = sim.think_ns
            return Think(self.costs.think_ns if asked is None else asked, timed)
        limit = self.config.limit
        by_faults = by_pages = following = None
        if limit < self.config.pages:
            by_faults = [[faults, ns * scale] for faults, ns in measured.hit]
            following = [[faults, ns * scale] for faults, ns in measured.hits]
            by_pages = [[pages, ns * scale] for pages, ns in measured.think]
        ns = round(measured.think_ns(limit) * scale)
        return Think(ns, timed, True, by_faults, by_pages, following)

    def _shares(self, k: int) -> list[Share]:
        # Instances of their own run the same kind of work, not the same references.
        experiment = self.experiment
        if k and not experiment.sim.shared:
            experiment = experiment.with_(seed=self.seed + k)
        return shares(experiment.trace, experiment.workload.threads, self._think())

    def start(self, number: int, work: list[Share], asks: bool) -> Instance:
        """An instance begins to run its shares."""
        sim = self.experiment.sim
        return Instance(
            self.env,
            number,
            self.config,
            work,
            self.costs,
            self.dms,
            base=number * self._separate,
            asks=asks,
            monitor=self.experiment.run.faults == "monitor",
            handlers=sim.handlers,
            spinning=sim.spinning,
            cores=sim.cores or (self.costs.calibration.cores if self.costs.calibration else 0),
            seed=self.seed,
            recorder=self.recorder,
            log=None if number or self.past else self._log,
        )

    def _in_lockstep(self, log: LogBuffer | None) -> None:
        threads = self.experiment.workload.threads
        if threads != 1:
            raise UsageError(f"lockstep runs one thread, not {threads}; leave --threads out")
        if not isinstance(self.dms, DirectDms):
            raise UsageError("lockstep runs one instance with a Disc; leave [sim] out")
        refs = References(self.experiment.trace, self._think())
        monitor = self.experiment.run.faults == "monitor"
        self.lockstep = LockstepInstance(
            self.env, self.config, refs, self.costs, self.dms, monitor, log
        )

    @property
    def all_instances(self) -> list[Instance | LockstepInstance]:
        """Everybody who ran, those taken back included."""
        if self.lockstep:
            return [self.lockstep]
        return [*self.past, *self.instances]

    @property
    def finished(self) -> bool:
        """Whether every application thread has ended."""
        return not any(t.is_alive for i in self.all_instances for t in i.threads)

    @property
    def finished_ns(self) -> int:
        return max(i.finished_ns for i in self.all_instances)

    def run(self) -> None:
        """Runs to the end and checks what must hold. If not: EdmError, with what repeats it."""
        try:
            self.env.run()
            self._check()
        except (EdmError, UsageError):
            raise
        except Exception as error:
            what = str(error) or type(error).__name__
            raise EdmError(
                f"simulation: {what} (a bug: please report it with the experiment; seed "
                f"{self.seed}; to repeat it: {self._repeated_by()})"
            ) from error

    def _repeated_by(self) -> str:
        """A command that runs the very same experiment, which is saved for it."""
        toml = self.experiment.to_toml()
        name = f"edm-failed-{hashlib.sha256(toml.encode()).hexdigest()[:8]}.toml"
        path = Path(tempfile.gettempdir()) / name
        path.write_text(toml)
        own = "" if self.costs == Costs() else ", given the same costs (calibration)"
        return f"python -m edm_sim run {path} --seed {self.seed}{own}"

    def _check(self) -> None:
        """What must hold at the end of every run. Raises AssertionError."""
        for instance in self.all_instances:
            instance.pager.raise_policy_error()
            if any(thread.is_alive for thread in instance.threads):
                raise AssertionError("a thread waits for ever")
            instance.check()
        self.dms.check()
        for instance in self.instances:
            for page in range(self.config.pages):
                self._check_page(instance, page)

    def _check_page(self, instance: Instance, page: int) -> None:
        """It has one owner or a copy, is new, or is known to be lost; and nothing is under way."""
        spt, there = self.spt, instance.base + page
        word = lib.edm_page_word(instance.ptr, page)
        state = word & lib.EDM_STATE_MASK
        if word & lib.EDM_HELD or state in (lib.EDM_FETCHING, lib.EDM_LEAVING):
            raise AssertionError(f"page {there}: its way in or out never ended")
        here = state in (lib.EDM_RESIDENT, lib.EDM_IDLE)
        if here != (spt.owner[there] == instance.number):
            raise AssertionError(f"page {there}: its owner is {spt.owner[there]}")
        # Where others may know a page, REMOTE can be one that was read but never written.
        stored = instance.asks or there in spt.copies or there in spt.lost
        if state == lib.EDM_REMOTE and spt.owner[there] == NOBODY and not stored:
            raise AssertionError(f"page {there} is nowhere")
