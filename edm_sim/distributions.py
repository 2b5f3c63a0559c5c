"""Distributions of durations, and the seeded streams they are drawn from.

Every component of a model draws from a stream of its own, named after it, so that adding
a component or a knob does not shift anybody else's numbers. Draws are integer
nanoseconds, never negative.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edm_policy.errors import UsageError

BLOCK = 4096
"""Draws made at a time: numpy's cost per call is spread over this many."""

Z99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream of the component `name` under `seed`: PCG64, independent of all others."""
    spawned = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),))
    return np.random.Generator(np.random.PCG64(spawned))


class Distribution(Protocol):
    """Durations in nanoseconds."""

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """n draws, ns, shape (n,)."""
        ...

    @property
    def mean_ns(self) -> float:
        """Expected value; infinite where there is none."""
        ...


@dataclass(frozen=True)
class Constant:
    """Always `ns`."""

    ns: float

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return np.full(n, self.ns)

    @property
    def mean_ns(self) -> float:
        return self.ns


@dataclass(frozen=True)
class Uniform:
    """Evenly between `low_ns` and `high_ns`."""

    low_ns: float
    high_ns: float

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return rng.uniform(self.low_ns, self.high_ns, n)

    @property
    def mean_ns(self) -> float:
        return (self.low_ns + self.high_ns) / 2


@dataclass(frozen=True)
class Exponential:
    """Memoryless with mean `mean_ns`."""

    mean_ns: float

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return rng.exponential(self.mean_ns, n)


@dataclass(frozen=True)
class Lognormal:
    """Given by its 50th and 99th percentile, as latencies are usually reported."""

    p50_ns: float
    p99_ns: float

    def __post_init__(self) -> None:
        if not 0 < self.p50_ns <= self.p99_ns:
            raise UsageError(
                f"lognormal: p50 {self.p50_ns:g} ns must be above 0 and not above p99 "
                f"{self.p99_ns:g} ns"
            )

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p99_ns / self.p50_ns) / Z99

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return rng.lognormal(math.log(self.p50_ns), self.sigma, n)

    @property
    def mean_ns(self) -> float:
        return self.p50_ns * math.exp(self.sigma**2 / 2)


@dataclass(frozen=True)
class Pareto:
    """P(X > x) = (least_ns / x) ** alpha: the heavy tail of a shared resource."""

    least_ns: float
    alpha: float

    def __post_init__(self) -> None:
        if self.least_ns <= 0 or self.alpha <= 0:
            raise UsageError("pareto: least_ns and alpha must be above 0")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return self.least_ns * (1 + rng.pareto(self.alpha, n))

    @property
    def mean_ns(self) -> float:
        a = self.alpha
        return self.least_ns * a / (a - 1) if a > 1 else math.inf


@dataclass(frozen=True)
class Empirical:
    """Quantiles of measured durations, at equal steps of probability, joined by lines."""

    quantiles_ns: tuple[float, ...]

    def __post_init__(self) -> None:
        q = self.quantiles_ns
        if len(q) < 2 or any(a > b for a, b in pairwise(q)):
            raise UsageError("empirical: give at least two quantiles in ascending order")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        at = np.linspace(0, 1, len(self.quantiles_ns))
        return np.interp(rng.random(n), at, self.quantiles_ns)

    @property
    def mean_ns(self) -> float:
        q = np.asarray(self.quantiles_ns)
        return float(np.mean((q[1:] + q[:-1]) / 2))


@dataclass(frozen=True)
class Strata:
    """Parts of a measured distribution: the share of each, and its mean, ns. The mean is exact."""

    shares: tuple[float, ...]
    values_ns: tuple[float, ...]

    @classmethod
    def of(cls, parts: Iterable[Sequence[float]]) -> Strata:
        """From [share, ns] of each; the shares are scaled to 1 in all."""
        shares, values = zip(*parts, strict=True)
        total = sum(shares)
        return cls(tuple(s / total for s in shares), values)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        at = np.searchsorted(np.cumsum(self.shares)[:-1], rng.random(n), side="right")
        return np.asarray(self.values_ns)[at]

    @property
    def mean_ns(self) -> float:
        return float(np.dot(self.shares, self.values_ns))


def from_percentiles(p50_us: float, p99_us: float) -> Distribution:
    """What two percentiles describe: constant if they are equal, else lognormal."""
    if p50_us == p99_us:
        return Constant(p50_us * 1000)
    return Lognormal(p50_us * 1000, p99_us * 1000)


_FORMS: dict[str, tuple[int, Callable[..., Distribution]]] = {
    "exp": (1, lambda mean: Exponential(mean * 1000)),
    "uniform": (2, lambda low, high: Uniform(low * 1000, high * 1000)),
    "lognormal": (2, lambda p50, p99: Lognormal(p50 * 1000, p99 * 1000)),
    "pareto": (2, lambda least, alpha: Pareto(least * 1000, alpha)),
}


def distribution(spec: float | int | str, what: str = "duration") -> Distribution:
    """Microseconds as a number or a text: 2.5, "exp:2", "uniform:1-3", "lognormal:5-20",
    "pareto:1-2.5" (least and alpha). Raises UsageError for anything else.
    """
    if not isinstance(spec, str):
        return Constant(float(spec) * 1000)
    name, _, rest = spec.partition(":")
    try:
        numbers = [float(x) for x in rest.split("-")]
        count, make = _FORMS[name]
        if len(numbers) != count or min(numbers) <= 0:
            raise ValueError
        return make(*numbers)
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f'{what}: "{spec}" is no duration; write microseconds, "exp:2.0", "uniform:1-3", '
            '"lognormal:5-20" or "pareto:1-2.5"'
        ) from error


def sampler(distribution: Distribution, rng: np.random.Generator) -> Callable[[], int]:
    """Draws one at a time, whole nanoseconds: call it."""
    if isinstance(distribution, Constant):
        value = max(0, round(distribution.ns))
        return lambda: value

    def draws() -> Iterator[int]:
        while True:
            block = distribution.sample(rng, BLOCK)
            yield from np.maximum(np.rint(block), 0).astype(np.int64).tolist()

    return draws().__next__
