"""Spans: where the time of real runs goes, counted inside the runtime."""

from __future__ import annotations

import pytest

from tests.child import passes

pytestmark = pytest.mark.uffd


@pytest.mark.parametrize("store", ["mem:", "mem:?placed=0"])
@pytest.mark.parametrize("faults", ["upcall", "monitor"])
def test_the_spans_of_faults_add_up_to_their_latency(faults: str, store: str) -> None:
    passes(
        """
        from edm_real.spans import FAULT
        from edm_workload import synth
        trace = synth("uniform", 2048, 20_000, 1)
        placed = sys.argv[2] == "mem:"
        with Region(2048, local=512, faults=sys.argv[1], store=sys.argv[2]) as r:
            r.measure()
            out = r.replay(trace)
            spans = r.spans()
            r.measure(False)
            assert r.spans() == []
        timed, mean_us = out["extra"]["timed_faults"], out["latency_us"]["mean"]
        mine = [s for s in spans if s.kind in FAULT and s.role != "lpet"]
        total_us = sum(s.sum_ns for s in mine) / 1000
        assert 0.8 < total_us / (timed * mean_us) < 1.1, (total_us, timed * mean_us)
        count = lambda kind: sum(s.count for s in spans if s.kind == kind)
        # A page in LPET's hands that is still mapped is timed, and may take as long as a fault.
        assert count("arrive") == count("return") <= timed < 1.01 * count("arrive")
        # A page that was clean when it was marked, or placed, is rescued by a fetch.
        assert count("get") == count("check") == count("install")
        assert count("get") + count("rescue") == out["fetches"] + out["rescues"]
        assert count("zero") == out["zero_fills"] and count("rescue") <= out["rescues"]
        assert count("protect") == out["write_faults"]
        assert placed or count("rescue")
        assert {s.kind for s in spans if s.write} <= {"arrive", "zero", "install", "rescue"}
        assert {s.write for s in spans if s.kind == "arrive"} == {False, True}
        assert count("woken") <= count("page_wait")
        puts = sum(s.pages for s in spans if s.kind == "put")
        assert puts == 0 if placed else 0 < puts <= out["writebacks"] + 64
        for s in spans:
            assert s.count == s.counts.sum(), s
            if s.sum_ns / s.count > 300:  # shorter ones are mostly the counting itself
                by_values = (s.values_ns * s.counts).sum()
                assert abs(by_values / s.sum_ns - 1) < 0.05, (s.kind, s.count, by_values, s.sum_ns)
        """,
        faults,
        store,
    )


def test_the_way_to_a_handler_is_told_apart_by_where_it_is_and_what_it_comes_from() -> None:
    passes(
        """
        from edm_workload import synth
        trace = synth("uniform", 4096, 40_000, 1)

        def spans_of(threads):
            with Region(4096, local=1024, faults="monitor") as r:
                r.measure()
                out = r.replay(trace, threads=threads)
                spans = r.spans()
            whole_us = out["extra"]["timed_faults"] * out["latency_us"]["mean"]
            mine = [s for s in spans if s.role != "lpet"]
            assert 0.8 < sum(s.sum_ns for s in mine if s.kind in FAULT) / 1000 / whole_us < 1.1
            found = {}
            for s in mine:
                if s.kind in ("turn", "arrive", "return"):
                    found.setdefault(s.kind, {}).setdefault(s.beside, 0)
                    found[s.kind][s.beside] += s.count
            return found

        from edm_real.spans import FAULT
        alone = spans_of(1)
        assert set(alone) == {"arrive", "return"} and alone["arrive"] == alone["return"]
        assert set(alone["arrive"]) == {"here"}
        two = spans_of(2)
        for kind in ("arrive", "return"):
            assert set(two[kind]) == {"here", "here_next", "away", "away_next"}, two
        assert two["turn"] == {k: n for k, n in two["arrive"].items() if k.endswith("next")}
        assert sum(two["turn"].values()) > 1000
        """
    )
