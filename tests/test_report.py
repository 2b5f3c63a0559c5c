"""report: one file that needs no other, with the very figures of the results in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import edm_sim
from edm_lab.report import comparisons, report, section, together
from edm_policy import EdmError, UsageError
from edm_sim.sweep import save_table
from edm_workload import Experiment, Result, synth
from edm_workload.result import save

METADATA = {"command": "python -m edm_lab compare <x> & y", "machine_load": "idle", "cpu": "a cpu"}
BASE = Experiment.from_options(trace="zipf:1.0", pages=256, refs=3000, seed=7)


def as_real(result: Result, longer: float) -> Result:
    latency = {k: v * longer for k, v in result.latency_us.items()}
    return replace(
        result,
        driver="real",
        elapsed_s=result.elapsed_s * longer,
        latency_us=latency,
        verified=True,
    )


@pytest.fixture(scope="module")
def both() -> list[Result]:
    found = []
    for evict in ("lpet", "sieve"):
        sim = edm_sim.run(BASE.with_(evict=evict))
        found += [sim, sim, as_real(sim, 1.25), as_real(sim, 2.0), as_real(sim, 1.25)]
    return found


def self_contained(text: str) -> None:
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "<script" not in text and "@import" not in text and "url(" not in text


def test_one_comparison_in_full(tmp_path: Path, both: list[Result]) -> None:
    save(tmp_path / "c.json", both[:5], METADATA)
    text = report([tmp_path / "c.json"], "A <title>")
    self_contained(text)
    assert "A &lt;title&gt;" in text and "compare &lt;x&gt; &amp; y" in text
    assert re.search(r"<th>seeds</th><td>7</td>", text)
    assert re.search(r"<th>runs</th><td>\d simulated, \d on real memory</td>", text)
    row = re.search(r"<tr><td>elapsed, s</td>(.*?)</tr>", text)
    assert row and re.findall(r">([^<]+)<", row[1])[-2:] == ["-20.0%", "30.0%"]
    assert text.count("data:image/svg+xml") == 2 == text.count("<figcaption>")


def test_many_comparisons_are_a_table_of_errors_with_a_summary(
    tmp_path: Path, both: list[Result]
) -> None:
    save(tmp_path / "m.json", both, METADATA)
    assert [(len(p.simulated), len(p.real)) for p in comparisons(both)] == [(2, 3), (2, 3)]
    found = section(tmp_path / "m.json")
    assert len(found.tables[0].rows) == 2 and "sieve" in found.tables[0].rows[1]
    assert any(
        line.startswith("elapsed, s: mean absolute error 20.0%, worst 20.0%, 0% of 2 points")
        for line in found.summary
    )


def test_parts_of_a_matrix_become_one_table(tmp_path: Path, both: list[Result]) -> None:
    # Two points that differ in the network only, of which a Result knows nothing.
    for number, runs in enumerate((both[:5], both[:5], both[5:])):
        told = [replace(r, extra=r.extra | {"point": f"point {number}"}) for r in runs]
        calibration = {"date": "today" if number < 2 else "another day"}
        metadata = METADATA | {"matrix": [], "calibration": calibration, "command": f"no {number}"}
        save(tmp_path / f"{number}.json", told, metadata)
    files = [tmp_path / f"{number}.json" for number in range(3)]
    assert [len(part) for part in together(files)] == [2, 1]
    found = section(*files[:2])
    assert found.title == "0.json, 1.json" and len(found.tables[0].rows) == 2
    assert ("command", "no 0; no 1") in found.about


def test_wrong_contents_are_said_first_of_all(tmp_path: Path, both: list[Result]) -> None:
    bad = [*both[:2], replace(both[2], verified=False)]
    save(tmp_path / "c.json", bad, METADATA)
    assert "PAGE CONTENTS WERE NOT AS WRITTEN" in section(tmp_path / "c.json").summary[0]


def test_runs_of_one_world(tmp_path: Path, both: list[Result]) -> None:
    whole = as_real(edm_sim.run(BASE.with_(local="100%")), 1.0)
    versus = [{"who": "swap on zram", "us": 6.6}, {"who": "us", "us": 4.2}]
    save(tmp_path / "b.json", [whole, both[2]], METADATA | {"versus": versus})
    found = section(tmp_path / "b.json")
    headings = [name for name, _ in found.tables[0].columns]
    slowdown = found.tables[0].rows[1][headings.index("slowdown")]
    assert float(slowdown) == pytest.approx(both[2].elapsed_s / whole.elapsed_s, rel=0.01)
    assert found.tables[1].rows == [["swap on zram", "6.6"], ["us", "4.2"]]
    assert found.summary[0] == "page contents verified in 2 of 2 runs"
    assert "evict lpet" in found.summary[1] and len(found.pictures) == 1


def test_sweeps_and_curves(tmp_path: Path) -> None:
    points = [
        BASE.with_(local=local, evict=e) for local in ("25%", "100%") for e in ("lru", "fifo")
    ]
    save_table(tmp_path / "s.parquet", edm_sim.sweep(points, jobs=1), METADATA)
    curves = edm_sim.miss_ratio_curve(synth("loop", 100, 2000, 1), ["lru", "belady"], ["50%"])
    curves.to_csv(tmp_path / "m.csv", index=False)
    text = report([tmp_path / "s.parquet", tmp_path / "m.csv"])
    self_contained(text)
    assert "4 points over local, evict" in text and text.count("<figure") == 3
    assert text.count("<section") == 2 and 'href="#s2"' in text


def test_a_search(tmp_path: Path) -> None:
    from edm_lab.tune import tune
    from edm_lab.tune_command import document, summary

    tuned = tune(BASE, "elapsed", trials=12, real=False, jobs=1)
    tuned.default.measured, tuned.best[0].measured = [2.0, 4.0, 2.5], [1.0, 2.0]
    save(tmp_path / "t.json", [], METADATA | {"tune": document(tuned)})
    found = section(tmp_path / "t.json")
    assert found.summary[0] == summary(tuned)
    assert "+40.0%" in found.tables[0].rows[1] and len(found.pictures) == 2


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("none.json", None, "cannot be read"),
        ("bad.json", "{", "damaged"),
        ("bad.parquet", "no", "cannot be read"),
        ("bad.csv", "a,b\n1,2\n", "no miss-ratio curves"),
    ],
)
def test_what_is_no_result_is_refused_in_a_line(
    tmp_path: Path, name: str, content: str | None, why: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(EdmError, match=why) as error:
        report([tmp_path / name])
    assert "\n" not in str(error.value)


def test_a_trace_is_no_sweep(tmp_path: Path) -> None:
    synth("loop", 100, 2000, 1).save(tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="no sweep"):
        report([tmp_path / "t.parquet"])
