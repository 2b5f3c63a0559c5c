"""LPET's sleep between sessions."""

from __future__ import annotations

from edm_sim import Costs
from edm_sim.draws import Machine
from edm_sim.rest import LOOK_NS, STEADY_NS, Rest


def test_lpet_naps_where_rings_are_steady_and_sleeps_where_they_are_not() -> None:
    rest = Rest(Machine(Costs(nap_ns=LOOK_NS + 5_000), 1, "test", monitor=False))
    assert rest.rung(10 * STEADY_NS) is None  # nothing is known of the pace yet
    rest.ended(1_600_000)
    first, step = 1_205_000, 105_000  # three quarters, then sixteenths; each nap 5 us late
    assert rest.rung(1_000_000) == first - 1_000_000
    assert rest.rung(first + 1) == step - 1
    assert rest.rung(first + 18 * step + 1) == step - 1
    assert rest.rung(first + 19 * step + 1) is None  # overdue: twice as long as usual
    rest.ended(800_000)
    assert rest.idle_ns == 1_400_000
    rest.ended(STEADY_NS)
    assert rest.rung(1) is None
