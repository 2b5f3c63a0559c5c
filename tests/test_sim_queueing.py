"""The DMS against queueing theory, and the distributions against what they are given by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edm_policy import UsageError
from edm_sim.clock import Clock
from edm_sim.costs import StoreCosts
from edm_sim.distributions import Lognormal, Pareto, distribution, sampler, stream
from edm_sim.rack import RackDms
from edm_sim.spt import Spt
from edm_workload.simulation import Sim

JOBS = 400_000


def dms_delays(service: str | float, servers: int, load: float, n: int = JOBS) -> np.ndarray:
    """Sojourn times, us, of requests that come to DML at random: mean service 10 us."""
    env = Clock(0)
    sim = Sim(dms=True, dml_service=service, dml_servers=servers)
    dms = RackDms(env, Spt(1), sim, None, StoreCosts(0, 0), seed=7)
    dms.spt.stored(0, (0,))
    gap = sampler(distribution(f"exp:{10 / (load * servers)}"), stream(11, "arrivals"))
    delays: list[int] = []

    def request():
        begin = env.now
        yield from dms.fetch(0, [0])
        delays.append(env.now - begin)

    def arrivals():
        for _ in range(n):
            yield env.timeout(gap())
            env.process(request())

    env.process(arrivals())
    env.run()
    assert len(delays) == n == dms.dml.jobs
    # Little's law, from two sides: time all requests spent, and time the server accounts for.
    assert sum(delays) == dms.dml.busy_ns + dms.dml.waited_ns
    return np.sort(np.array(delays[n // 10 :])) / 1000


def ks(sorted_values: np.ndarray, cdf) -> float:
    """Kolmogorov-Smirnov distance to a distribution function."""
    n = len(sorted_values)
    theory = cdf(sorted_values)
    return float(
        max(np.abs(theory - np.arange(n) / n).max(), np.abs(theory - np.arange(1, n + 1) / n).max())
    )


@pytest.mark.slow
def test_one_server_with_exponential_service_is_m_m_1() -> None:
    delays = dms_delays("exp:10", 1, 0.6)
    mean = 10 / (1 - 0.6)
    assert delays.mean() == pytest.approx(mean, rel=0.02)
    assert ks(delays, lambda x: 1 - np.exp(-x / mean)) < 0.01


@pytest.mark.slow
def test_one_server_with_constant_service_is_m_d_1() -> None:
    delays = dms_delays(10.0, 1, 0.6)
    # Pollaczek-Khinchine without variance.
    wait = 10 * 0.6 / (2 * (1 - 0.6))
    assert delays.mean() - 10 == pytest.approx(wait, rel=0.02)
    waits = delays - 10
    times = np.linspace(0, 150, 601)  # 15 services: beyond lies a ten-thousandth
    seen = np.searchsorted(waits, times, side="right") / len(waits)
    theory = np.array([m_d_1_waits_at_most(t, 10, 0.6) for t in times])
    assert np.abs(seen - theory).max() < 0.01


def m_d_1_waits_at_most(t: float, service: float, load: float) -> float:
    """P(wait <= t) of M/D/1 (Erlang 1909; alternating, so for some tens of services at most)."""
    rate, whole = load / service, int(t // service)
    terms = (
        (rate * (k * service - t)) ** k / math.factorial(k) * math.exp(-rate * (k * service - t))
        for k in range(whole + 1)
    )
    return (1 - load) * sum(terms)


@pytest.mark.slow
def test_several_servers_are_m_m_c() -> None:
    c, load = 4, 0.8
    delays = dms_delays("exp:10", c, load, 3 * JOBS)
    a = c * load
    last = a**c / math.factorial(c) / (1 - load)
    queued = last / (sum(a**k / math.factorial(k) for k in range(c)) + last)  # Erlang C
    wait = queued * 10 / (c * (1 - load))
    assert delays.mean() - 10 == pytest.approx(wait, rel=0.02)

    mu, drain = 0.1, c * (1 - load) * 0.1

    def cdf(x: np.ndarray) -> np.ndarray:
        tail = np.exp(-mu * x) + queued * mu / (mu - drain) * (np.exp(-drain * x) - np.exp(-mu * x))
        return 1 - tail

    assert ks(delays, cdf) < 0.01


def test_a_lognormal_has_the_percentiles_it_is_given_by() -> None:
    draws = Lognormal(5_000, 20_000).sample(stream(1, "x"), 400_000)
    assert np.percentile(draws, [50, 99]) == pytest.approx([5_000, 20_000], rel=0.02)
    assert draws.mean() == pytest.approx(Lognormal(5_000, 20_000).mean_ns, rel=0.01)


def test_a_pareto_tail_falls_as_its_exponent_says() -> None:
    draws = Pareto(1_000, 2.5).sample(stream(1, "x"), 400_000)
    assert draws.min() >= 1_000
    assert (draws > 10_000).mean() == pytest.approx(10**-2.5, rel=0.1)


def test_streams_do_not_depend_on_one_another() -> None:
    alone = stream(3, "network").random(4)
    stream(3, "something else").random(1000)
    assert (stream(3, "network").random(4) == alone).all()
    assert (stream(3, "dml").random(4) != alone).all()


@pytest.mark.parametrize("spec", ["exp", "exp:0", "exp:1-2", "uniform:1", "gauss:3", "pareto:x-2"])
def test_a_duration_that_is_none_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="no duration"):
        distribution(spec)
