"""An experiment: one TOML file (or a set of options) that both worlds run.

    [memory]    region, local
    [policy]    evict, prefetch, low, high, limit, observe, dirty, batch, working_set,
                auto_min, auto_target, auto_interval
    [store]     url, network
    [workload]  trace, refs, threads, seed, writes
    [run]       faults, lockstep
    [sim]       what only the simulator has: see simulation.Sim

Every key is optional. Sizes are pages, "64MiB" or a share: `region` of nothing, `local`
and `limit` of the region, `high` and `low` of the limit. `limit` is `local` by its exact
name; give one of them.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edm_policy.errors import EdmError, UsageError
from edm_workload.simulation import Sim, check_sim
from edm_workload.synth import DEFAULT_WRITES, is_synth, trace_from
from edm_workload.trace import Trace
from edm_workload.units import PAGE_SIZE, Size, parse_pages, refuse_unknown

if TYPE_CHECKING:
    from edm_policy.config import PolicyConfig

DEFAULT_REGION = "64MiB"
NETWORK_KEYS = ("p50_us", "p99_us", "gbit", "loss")


@dataclass(frozen=True)
class Memory:
    """region: size of the paged memory; without it 64MiB, or a trace file's footprint."""

    region: Size | None = None
    local: Size = "25%"


@dataclass(frozen=True)
class Policy:
    """low, high and limit follow from the local memory unless given.

    working_set: count refault distances. auto_min above 0 lets the limit move by itself
    between that and the local memory (see PolicyConfig).
    """

    evict: str = "lpet"
    prefetch: str = "none"
    low: Size | None = None
    high: Size | None = None
    limit: Size | None = None
    observe: str = "auto"
    dirty: str = "exact"
    batch: int = 256
    working_set: bool = False
    auto_min: Size = 0
    auto_target: int = 0
    auto_interval: int = 0


@dataclass(frozen=True)
class Store:
    """network: "none", a preset's name, or a table of p50_us, p99_us, gbit, loss."""

    url: str = "mem:"
    network: str | dict[str, float] = "none"


@dataclass(frozen=True)
class Workload:
    """trace: a file or a synthetic specification; refs: all of a file, or 1,000,000."""

    trace: str = "zipf:1.0"
    refs: int | None = None
    threads: int = 1
    seed: int = 1
    writes: float = DEFAULT_WRITES


@dataclass(frozen=True)
class Run:
    """lockstep: evict before the faulter goes on, one thread; logs of both worlds are equal."""

    faults: str = "upcall"
    lockstep: bool = False


@dataclass(frozen=True)
class Resolved:
    """The sizes of an experiment in pages: low < high <= limit <= pages."""

    pages: int
    limit: int
    high: int
    low: int
    page_size: int = PAGE_SIZE


_CHOICES = {
    "observe": ("auto", "faults", "idle", "exact"),
    "dirty": ("exact", "always"),
    "faults": ("upcall", "monitor"),
}
_LEAST = {"refs": 1, "threads": 1, "seed": 0, "batch": 1, "auto_target": 0, "auto_interval": 0}
_ALIASES = {"store": "url", "pages": "region"}


@dataclass(frozen=True)
class Experiment:
    """What to run. Immutable: with_() gives a changed copy."""

    memory: Memory = field(default_factory=Memory)
    policy: Policy = field(default_factory=Policy)
    store: Store = field(default_factory=Store)
    workload: Workload = field(default_factory=Workload)
    run: Run = field(default_factory=Run)
    sim: Sim = field(default_factory=Sim)
    name: str = ""

    @classmethod
    def load(cls, path: str | Path) -> Experiment:
        """Read a TOML file. Raises EdmError (unreadable) or UsageError (what it says is wrong).

        A trace file named in it is looked for beside the experiment file, too.
        """
        found = list(cls.grid(path))
        if len(found) > 1:
            raise UsageError(
                f"{path}: lists as values make {len(found)} experiments; run them with sweep"
            )
        return found[0]

    @classmethod
    def grid(cls, path: str | Path) -> Iterator[Experiment]:
        """Every experiment of a TOML file in which values may be lists: their product."""
        tables = _read_toml(Path(path))
        lists = [
            (section, key, value)
            for section, table in tables.items()
            for key, value in table.items()
            if isinstance(value, list) and key != "failures"
        ]
        for section, key, value in lists:
            if not value:
                raise UsageError(f"{path}: [{section}] {key} is an empty list; give a value")
        for values in itertools.product(*(value for _, _, value in lists)):
            chosen = {section: dict(table) for section, table in tables.items()}
            for (section, key, _), value in zip(lists, values, strict=True):
                chosen[section][key] = value
            try:
                experiment = cls.from_tables(chosen, Path(path).stem)
            except UsageError as error:
                raise UsageError(f"{path}: {error}") from error
            yield experiment._trace_beside(Path(path).parent)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Mapping[str, Any]], name: str = "") -> Experiment:
        """From {section: {key: value}}. Raises UsageError for an unknown name or a bad value."""
        parts: dict[str, Any] = {}
        for section, table in tables.items():
            if section not in _SECTIONS:
                refuse_unknown("section", section, _SECTIONS)
            known = [f.name for f in fields(_SECTIONS[section])]
            for key, value in table.items():
                if key not in known:
                    refuse_unknown(f"[{section}] key", key, known)
                _check(key, value)
            parts[section] = _SECTIONS[section](**table)
        return cls(**parts, name=name)

    @classmethod
    def from_options(cls, **options: Any) -> Experiment:
        """From flat options, as with_() takes them."""
        return cls().with_(**options)

    def with_(self, **options: Any) -> Experiment:
        """A copy with keys of any section changed: with_(evict="fifo", local="10%").

        `store` is the store's url, `pages` the region in pages. `local` and `limit` replace
        one another. Raises UsageError for an unknown key or a bad value.
        """
        changes: dict[str, dict[str, Any]] = {}
        if options.get("local") is not None and options.get("limit") is not None:
            raise UsageError("local and limit are the same thing; give one of them")
        if options.get("local") is not None:
            options = {**options, "limit": None}
        for option, value in options.items():
            key = _ALIASES.get(option, option)
            if key not in _SECTION_OF:
                refuse_unknown("option", option, [*_SECTION_OF, *_ALIASES])
            if value is not None:
                _check(key, value)
            changes.setdefault(_SECTION_OF[key], {})[key] = value
        parts = {name: replace(getattr(self, name), **values) for name, values in changes.items()}
        return replace(self, **parts)

    def to_tables(self) -> dict[str, dict[str, Any]]:
        """The inverse of from_tables, without the keys that are not set."""
        return {
            section: {k: v for k, v in asdict(getattr(self, section)).items() if v is not None}
            for section in _SECTIONS
        }

    def to_toml(self) -> str:
        """The experiment as TOML text that load() reads back; [sim] only if it says anything."""
        lines = []
        for section, table in self.to_tables().items():
            if section == "sim" and self.sim == Sim():
                continue
            lines.append(f"[{section}]")
            lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
            lines.append("")
        return "\n".join(lines)

    @cached_property
    def trace(self) -> Trace:
        """The workload's trace, made or read once. Its pages fit the region."""
        workload = self.workload
        pages = parse_pages(self.memory.region or DEFAULT_REGION, what="region")
        return trace_from(workload.trace, pages, workload.refs, workload.seed, workload.writes)

    def resolve(self) -> Resolved:
        """Sizes in pages. Reads the trace file where the region follows from it.

        Raises UsageError when low < high <= limit <= region cannot hold, and for lockstep
        with several threads.
        """
        from edm_policy.config import watermarks

        if self.run.lockstep and self.workload.threads != 1:
            raise UsageError("lockstep runs one thread; leave out --threads, or lockstep")
        pages = self._region_pages()
        memory, policy = self.memory, self.policy
        asked = "local" if policy.limit is None else "limit"
        limit = parse_pages(memory.local if policy.limit is None else policy.limit, pages, asked)
        if limit > pages:
            # More local memory than there is to page: a run with everything local.
            limit = pages
        low, high = watermarks(limit, pages)
        if policy.high is not None:
            high = parse_pages(policy.high, limit, "high")
            low = min(low, max(0, high - 1))
        if policy.low is not None:
            low = parse_pages(policy.low, limit, "low", least=0)
        if high > limit:
            raise UsageError(f"high ({high} pages) is above the limit ({limit}); lower high")
        if low >= high:
            raise UsageError(f"low ({low} pages) must be below high ({high}); lower low")
        return Resolved(pages, limit, high, low)

    def policy_config(self) -> PolicyConfig:
        """What the policy layer is made with."""
        from edm_policy.config import PolicyConfig

        sizes, policy = self.resolve(), self.policy
        return PolicyConfig(
            pages=sizes.pages,
            limit=sizes.limit,
            high=sizes.high,
            low=sizes.low,
            evict=policy.evict,
            prefetch=policy.prefetch,
            observe=policy.observe,
            dirty=policy.dirty,
            batch=policy.batch,
            seed=self.workload.seed,
            working_set=policy.working_set,
            auto_min=parse_pages(policy.auto_min, sizes.limit, "auto_min", least=0),
            auto_target=policy.auto_target,
            auto_interval=policy.auto_interval,
            plan=self._plan(sizes.limit) if policy.prefetch.startswith("planned") else None,
        )

    def _plan(self, limit: int) -> np.ndarray:
        """What the prefetcher planned is given: the misses of this very trace, in order."""
        from edm_policy.prefetching import fault_order

        return fault_order(self.trace.arrays()[0], limit)

    def _region_pages(self) -> int:
        region = self.memory.region
        if is_synth(self.workload.trace):
            return parse_pages(region or DEFAULT_REGION, what="region")
        needed = self.trace.span
        if region is None:
            return needed
        pages = parse_pages(region, needed, "region")
        if pages < needed:
            raise UsageError(
                f"region: {self.workload.trace} touches {needed} pages, the region has {pages}; "
                "leave region out, or give more"
            )
        return pages

    def _trace_beside(self, folder: Path) -> Experiment:
        trace = self.workload.trace
        beside = folder / trace
        if is_synth(trace) or Path(trace).exists() or not beside.exists():
            return self
        return self.with_(trace=str(beside))


_SECTIONS: dict[str, Any] = {
    "memory": Memory,
    "policy": Policy,
    "store": Store,
    "workload": Workload,
    "run": Run,
    "sim": Sim,
}
_SECTION_OF = {f.name: name for name, kind in _SECTIONS.items() for f in fields(kind)}
_SIM_KEYS = {f.name for f in fields(Sim)}


def _read_toml(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise EdmError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML ({error}); mend that line") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {name} must stand in a section, such as [memory]")
    return tables


def _check(key: str, value: Any) -> None:
    """Refuse a value of the wrong kind or range, naming the key."""
    if key in _SIM_KEYS:
        check_sim(key, value)
    elif key in ("region", "local", "low", "high", "limit", "auto_min"):
        parse_pages(value, base=2**32, what=key, least=key == "region")
    elif key in _CHOICES:
        if value not in _CHOICES[key]:
            refuse_unknown(key, str(value), _CHOICES[key])
    elif key in _LEAST:
        if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[key]:
            raise UsageError(f"{key}: {value!r} must be a whole number from {_LEAST[key]} up")
    elif key == "writes":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UsageError(f"writes: {value!r} must be a share from 0 to 1")
    elif key in ("lockstep", "working_set"):
        if not isinstance(value, bool):
            raise UsageError(f"{key}: {value!r} must be true or false")
    elif key == "network" and isinstance(value, Mapping):
        for name, number in value.items():
            if name not in NETWORK_KEYS:
                refuse_unknown("network key", name, NETWORK_KEYS)
            known = isinstance(number, int | float) and not isinstance(number, bool)
            if not known or not 0 <= number < math.inf:
                raise UsageError(f"network {name}: {number!r} must be a number from 0 up")
    elif not isinstance(value, str) or not value:
        raise UsageError(f'{key}: {value!r} must be text, such as {key} = "..."')


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
