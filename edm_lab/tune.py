"""tune: search the policy's settings in the simulator, then measure the best few on real memory.

The search is optuna's (TPE: Bergstra, Bardenet, Bengio, Kegl, "Algorithms for hyper-parameter
optimization", NIPS 2011), in generations of a fixed number of points, so that one seed gives one
search with any number of worker processes. What it finds is a prediction. The best few different
policies and the experiment as it was given are then run on real memory in turn, several times,
and the winner is the one that is best there.

Three goals: p99 and elapsed at the experiment's local memory; local, the least local memory that
keeps a bound (see Bound).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import edm_real
from edm_lab.compare import simulated
from edm_lab.tune_space import at_limit, check_knobs, plain_points, suggest
from edm_policy.errors import EdmError, UsageError
from edm_sim.costs import Costs
from edm_sim.pool import WorkerPool, cores
from edm_workload import Experiment, Result
from edm_workload.units import refuse_unknown

GOALS = ("p99", "elapsed", "local")
AT_ONCE = 4  # points of a generation: what a search finds depends on it, and not on the cores
FINEST = 200  # the least local memory is looked for in steps of the region over this
CLOSEST = 12  # policies whose least local memory is looked for

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Bound:
    """What less local memory may cost: `kind` "slowdown": elapsed over elapsed with all memory
    local, first touches included in both; "faults": faults over references; "elapsed": seconds,
    by which the world they were taken in is meant: those of the experiment as given.
    """

    kind: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Bound:
        """From "slowdown=1.5" or "faults=2%". Raises UsageError."""
        kind, _, value = text.partition("=")
        if kind not in ("slowdown", "faults"):
            refuse_unknown("bound", kind, ("slowdown", "faults"))
        try:
            number = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            number = 0.0
        if number <= 0:
            raise UsageError(f'bound: "{text}" has no number above 0; write {kind}=1.5 or 2%')
        return cls(kind, number)

    def keeps(self, result: Result, all_local_s: float) -> bool:
        """Whether a run is within the bound."""
        if self.kind == "faults":
            return result.faults <= self.value * result.refs
        if self.kind == "slowdown":
            return result.elapsed_s <= self.value * all_local_s
        return result.elapsed_s <= self.value


@dataclass
class Candidate:
    """One policy: what the simulator predicts of it, and what real memory then measured.

    In the goal's unit: microseconds (p99), seconds (elapsed), pages (local).
    """

    experiment: Experiment
    predicted: float
    measured: list[float] = field(default_factory=list)
    simulated: Result | None = None
    real: list[Result] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of what was measured; nan: nothing was."""
        return float(np.median(self.measured)) if self.measured else float("nan")

    @property
    def repeat_error(self) -> float:
        """Half the spread of what was measured over its median."""
        return float(np.ptp(self.measured)) / 2 / self.median if self.measured else float("nan")

    @property
    def kind(self) -> tuple[str, str, str]:
        """Which policy it is, whatever its numbers."""
        p = self.experiment.policy
        return p.evict.split(":")[0], p.observe, p.prefetch.split(":")[0]


@dataclass
class Tuned:
    """default: the experiment as given; best: the policies that went to real memory, by what was
    predicted; trials: every point of the search; stopped: by Ctrl-C, in "search" or
    "measurement"; failed: why points could not be simulated.
    """

    goal: str
    bound: Bound | None
    default: Candidate
    best: list[Candidate]
    trials: list[dict[str, Any]]
    seed: int
    stopped: str = ""
    failed: list[str] = field(default_factory=list)

    @property
    def winner(self) -> Candidate:
        """The best on real memory, which may be the default; by prediction where nothing was
        measured."""
        everybody = [self.default, *self.best]
        done = [c for c in everybody if c.measured]
        if self.default.measured and len(done) > 1:
            return min(done, key=lambda c: c.median)
        return min(everybody, key=lambda c: c.predicted)

    @property
    def predicted_gain(self) -> float:
        """Share of the default's figure that the winner saves, as simulated."""
        return _gain(self.winner.predicted, self.default.predicted)

    @property
    def measured_gain(self) -> float:
        """The same on real memory, of the medians; nan where nothing was measured."""
        return _gain(self.winner.median, self.default.median)

    @property
    def verified(self) -> bool:
        """Every real run found its pages' contents as written."""
        return all(r.verified for c in [self.default, *self.best] for r in c.real)


def _gain(new: float, old: float) -> float:
    return 1 - new / old if old else 0.0


def value_of(goal: str, result: Result) -> float:
    """What is to be made small: p99 of a fault in microseconds, or seconds."""
    return result.latency_us.get("p99", 0.0) if goal == "p99" else result.elapsed_s


def tune(
    experiment: Experiment,
    goal: str = "elapsed",
    *,
    bound: Bound | None = None,
    trials: int = 200,
    seed: int = 1,
    keep: Iterable[str] = (),
    few: int = 3,
    repeats: int = 5,
    jobs: int | None = None,
    costs: Costs | None = None,
    real: bool = True,
    progress: Progress = _silent,
) -> Tuned:
    """Searches `trials` points and measures the best `few` policies, `repeats` times each.

    bound: with goal "local" (None: no slower than the experiment as given). keep: knobs that stay
    as given, of tune_space.KNOBS. jobs: worker processes that simulate (None: a core each; 1:
    none, all in this one). real: whether anything is measured.

    Ctrl-C ends the search and goes on with the best so far; during the measurement it ends that.
    Raises UsageError for what cannot be asked, EdmError when no point could be simulated.
    """
    if goal not in GOALS:
        refuse_unknown("goal", goal, GOALS)
    if bound and goal != "local":
        raise UsageError(f"bound: only goal local has one, not {goal}; leave it out")
    if experiment.run.lockstep:
        raise UsageError("lockstep has no time to tune; leave it out")
    for name, number in (("trials", trials), ("few", few), ("repeats", repeats)):
        if number < 1:
            raise UsageError(f"{name}: {number} is too few; give 1 or more")
    knobs = check_knobs(keep)
    result = simulated(experiment, costs)
    search = _Search(costs, seed, knobs, jobs, progress)
    if goal != "local":
        default = Candidate(experiment, value_of(goal, result), simulated=result)
        stopped = search.run(experiment, goal, trials)
        best = search.best(few)
    else:
        own = bound is None  # the experiment as given keeps it, by definition
        bound = bound or Bound("elapsed", result.elapsed_s)
        world = _Least(lambda e: [simulated(e, costs)], bound)
        default = Candidate(experiment, result.limit, simulated=result)
        if not own:
            start = world.find(experiment)
            default = Candidate(
                at_limit(experiment, start.limit), start.limit, simulated=start.result
            )
        stopped = search.run(default.experiment, "elapsed", trials)
        best = _least_of(search.best(CLOSEST), world, few, progress)
    tuned = Tuned(goal, bound, default, best, search.trials, seed, stopped, search.failed)
    if not best:
        if stopped:
            raise KeyboardInterrupt  # before there was anything to keep
        raise EdmError(f"tune: nothing could be simulated: {search.failed[0]}")
    if real:
        _measure(tuned, experiment, repeats, progress)
    return tuned


# -- the search


def simulate(
    tables: dict[str, dict[str, Any]], name: str, costs: Costs | None
) -> dict[str, Any] | str:
    """One point, in a worker: its Result as plain values, or in one line why it cannot run."""
    try:
        return simulated(Experiment.from_tables(tables, name), costs).to_dict()
    except EdmError as error:
        return str(error)


class _Search:
    """Points asked of optuna and simulated; every one is kept."""

    def __init__(
        self,
        costs: Costs | None,
        seed: int,
        keep: frozenset[str],
        jobs: int | None,
        progress: Progress,
    ):
        self.optuna = _optuna()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multivariate and group: "experimental" since 2020
            sampler = self.optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True
            )
        self.study = self.optuna.create_study(sampler=sampler)
        self.costs, self.keep, self.jobs, self.progress = costs, keep, jobs, progress
        self.found: dict[str, Candidate] = {}  # by what is run: the sampler asks some points twice
        self.trials: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def run(self, base: Experiment, goal: str, trials: int) -> str:
        """Searches around `base`; "search" if Ctrl-C ended it."""
        for point in plain_points(self.keep):
            self.study.enqueue_trial(point)
        jobs = min(AT_ONCE, self.jobs or cores())
        try:
            with WorkerPool(jobs) if jobs > 1 else nullcontext() as pool:
                while len(self.trials) < trials:
                    self._generation(base, goal, min(AT_ONCE, trials - len(self.trials)), pool)
                    self._tell(goal, trials)
        except KeyboardInterrupt:
            return "search"
        return ""

    def _generation(self, base: Experiment, goal: str, size: int, pool: WorkerPool | None) -> None:
        asked = [self.study.ask() for _ in range(size)]
        points = [suggest(trial, base, self.keep) for trial in asked]
        keys = [json.dumps(p.to_tables(), sort_keys=True) for p in points]
        todo = {k: p for k, p in zip(keys, points, strict=True) if k not in self.found}
        if pool:
            futures = {
                k: pool.executor.submit(simulate, p.to_tables(), p.name, self.costs)
                for k, p in todo.items()
            }
            outcomes = {k: f.result() for k, f in futures.items()}
        else:
            outcomes = {k: simulate(p.to_tables(), p.name, self.costs) for k, p in todo.items()}
        for trial, key, point in zip(asked, keys, points, strict=True):
            outcome = outcomes.get(key)
            if isinstance(outcome, str):
                self.failed.append(outcome)
                self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
                self.trials.append({**trial.params, "value": None})
                continue
            if outcome is not None:
                result = Result.from_dict(outcome)
                self.found[key] = Candidate(point, value_of(goal, result), simulated=result)
            value = self.found[key].predicted
            self.study.tell(trial, value)
            self.trials.append({**trial.params, "value": value})

    def _tell(self, goal: str, trials: int) -> None:
        best = self.best(1)
        if best:
            unit = "us" if goal == "p99" else "s"
            kind = ", ".join(best[0].kind)
            so_far = f"best {best[0].predicted:.4g} {unit}: {kind}"
            self.progress(f"{len(self.trials)}/{trials} simulated, {so_far} (Ctrl-C ends it)")

    def best(self, few: int) -> list[Candidate]:
        """The best point of each kind of policy, the best kinds first."""
        kinds: dict[tuple[str, str, str], Candidate] = {}
        for candidate in sorted(self.found.values(), key=_order):
            kinds.setdefault(candidate.kind, candidate)
        return list(kinds.values())[:few]


def _order(c: Candidate) -> tuple[float, float]:
    """The best first; many may have one p99, and then the fastest as a whole."""
    return c.predicted, c.simulated.elapsed_s if c.simulated else 0.0


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise EdmError("tune: optuna is missing: pip install 'edm-paging[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


# -- the least local memory


@dataclass(frozen=True)
class _Found:
    limit: int
    result: Result
    runs: list[Result]


class _Least:
    """Looks for the least limit at which the median of some runs keeps a bound, in one world."""

    def __init__(self, run: Callable[[Experiment], Sequence[Result]], bound: Bound):
        self.run, self.bound = run, bound
        self.all_local_s: float | None = None

    def find(self, experiment: Experiment, expected: int | None = None) -> _Found:
        """By bisection, from all of the region, or from a guess. Raises UsageError if even all
        memory is not enough."""
        pages = experiment.resolve().pages
        step = max(1, pages // FINEST)
        low, high, best = 0, pages, None
        if self.all_local_s is None or expected is None:
            everything = self._at(experiment, pages)
            if self.all_local_s is None:
                self.all_local_s = everything.result.elapsed_s
            if not self._keeps(everything):
                raise UsageError(
                    f"bound: {self.bound.kind} {self.bound.value:.4g} does not hold with all "
                    "memory local either; allow more"
                )
            best = everything
        guess = expected or experiment.resolve().limit
        while high - low > step:
            here = self._at(experiment, guess)
            if self._keeps(here):
                high, best = guess, here
                # Near a good guess the answer is near, too: look just below before halving.
                guess = max((low + high) // 2, high - 4 * step)
            else:
                low = guess
                guess = min(-(-(low + high) // 2), low + 4 * step)
        return best or self._at(experiment, high)

    def _at(self, experiment: Experiment, limit: int) -> _Found:
        runs = list(self.run(at_limit(experiment, limit)))
        middle = sorted(runs, key=lambda r: r.elapsed_s)[(len(runs) - 1) // 2]
        return _Found(limit, middle, runs)

    def _keeps(self, found: _Found) -> bool:
        assert self.all_local_s is not None
        return self.bound.keeps(found.result, self.all_local_s)


def _least_of(
    candidates: list[Candidate], world: _Least, few: int, progress: Progress
) -> list[Candidate]:
    """The policies that need the least local memory in the simulator."""
    done = []
    for number, candidate in enumerate(candidates, 1):
        progress(f"least local memory, {number}/{len(candidates)}: {', '.join(candidate.kind)}")
        try:
            found = world.find(candidate.experiment, candidate.experiment.resolve().limit)
        except KeyboardInterrupt:
            break
        at = at_limit(candidate.experiment, found.limit)
        done.append(Candidate(at, found.limit, simulated=found.result))
    return sorted(done, key=lambda c: c.predicted)[:few]


# -- on real memory


def _measure(tuned: Tuned, given: Experiment, repeats: int, progress: Progress) -> None:
    everybody = [tuned.default, *tuned.best]
    try:
        if tuned.goal == "local":
            _measure_local(tuned, given, repeats, progress)
            return
        for i in range(repeats):
            for number, candidate in enumerate(everybody):
                progress(f"real memory, run {i + 1}/{repeats} of {number + 1}/{len(everybody)}")
                result = edm_real.run(candidate.experiment)
                candidate.real.append(result)
                candidate.measured.append(value_of(tuned.goal, result))
    except KeyboardInterrupt:
        tuned.stopped = "measurement"


def _measure_local(tuned: Tuned, given: Experiment, repeats: int, progress: Progress) -> None:
    """The least local memory on real memory. It is one search a policy, each step a median."""
    assert tuned.bound is not None

    def runs(experiment: Experiment) -> list[Result]:
        progress(f"real memory, {experiment.policy.evict}: {experiment.resolve().limit} pages")
        return [edm_real.run(experiment) for _ in range(repeats)]

    bound, todo = tuned.bound, [tuned.default, *tuned.best]
    if bound.kind == "elapsed":  # as fast as the experiment as given is: in this world
        tuned.default.real = runs(given)
        tuned.default.measured = [given.resolve().limit]
        bound = Bound("elapsed", float(np.median([r.elapsed_s for r in tuned.default.real])))
        todo = tuned.best
    world = _Least(runs, bound)
    for candidate in todo:
        found = world.find(candidate.experiment, round(candidate.predicted))
        candidate.real = found.runs
        candidate.measured = [found.limit]
        candidate.experiment = at_limit(candidate.experiment, found.limit)
