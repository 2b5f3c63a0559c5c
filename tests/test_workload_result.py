import json

import numpy as np
import pytest
from rich.console import Console

from edm_policy.errors import EdmError
from edm_workload import Result
from edm_workload.metadata import collect, load_label, redact
from edm_workload.result import (
    frame,
    load,
    load_document,
    print_table,
    rows_table,
    save,
    table_console,
)

KEYS = (
    "driver workload evict prefetch observe store faults_mode threads pages low high limit refs "
    "faults zero_fills fetches rescues evictions writebacks clean_drops prefetches prefetch_hits "
    "stalls store_errors elapsed_s latency_us seed verified"
)


def example(**changes):
    values = {
        "driver": "sim",
        "workload": "zipf:1.0",
        "refs": 1000,
        "faults": 300,
        "rescues": 100,
        "elapsed_s": 0.5,
        "latency_us": {"mean": 9.5, "p50": 8.0},
        "extra": {"note": "x", "nested": {"a": 1}},
    }
    return Result(**(values | changes))


def test_the_contract_keys():
    assert set(example().to_dict()) == {*KEYS.split(), "extra"}


def test_save_and_load(tmp_path):
    path = tmp_path / "out.json"
    results = [example(), example(driver="real", verified=True)]
    save(path, results)
    document = json.loads(path.read_text())
    assert list(document) == ["schema", "metadata", "results"] and document["schema"] == 1
    assert load(path) == results


def test_numpy_values_are_written_plainly(tmp_path):
    save(tmp_path / "o.json", [example(faults=np.int64(7), elapsed_s=np.float64(2.5))], {})
    assert load(tmp_path / "o.json")[0].faults == 7


def test_unknown_latency_key_is_a_bug():
    with pytest.raises(ValueError, match="p42"):
        example(latency_us={"p42": 1.0})


BAD = """
{
[]
{}
{"schema": 2, "results": []}
{"schema": 1, "results": [{"a": 1}]}
{"schema": 1, "results": [{"driver": "sim"}]}
{"schema": 1, "results": [{"driver": "sim", "workload": "seq", "latency_us": {"p42": 1}}]}
{"schema": 1, "results": 3}
"""


@pytest.mark.parametrize("text", ["", *BAD.strip().split("\n")])
def test_bad_files_are_one_line(tmp_path, text):
    path = tmp_path / "o.json"
    path.write_text(text)
    with pytest.raises(EdmError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(EdmError, match="cannot be read"):
        load(tmp_path / "none.json")
    with pytest.raises(EdmError, match="no folder"):
        save(tmp_path / "no" / "o.json", [])


def test_frame_is_flat():
    data = frame([example(), example(latency_us={})])
    assert len(data) == 2 and data.latency_us_p50[0] == 8.0 and np.isnan(data.latency_us_p50[1])
    assert data.note[0] == "x" and "nested" not in data
    assert data.faults_per_s[0] == 600 and data.miss_ratio[0] == 0.2
    assert example(elapsed_s=0.0).faults_per_s == 0 and example(refs=0).miss_ratio == 0


def rendered(results, **options):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(results, console=console, **options)
    return console.export_text()


def test_table_shows_figures_and_gaps():
    text = rendered([example(verified=True), example(verified=False, latency_us={})])
    lines = [line.split() for line in text.splitlines() if line.startswith("sim")]
    assert "faults/s" in text and "p99 us" in text
    assert lines[0][-1] == "yes" and lines[1][-1] == "NO"
    assert lines[1].count("-") == 3


def test_table_of_nothing():
    assert rows_table([], ["a"]).row_count == 0
    assert "driver" in rendered([])


def test_a_store_s_brackets_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    table_console().print(rows_table([{"store": "striped:[shaped:p50=1us,mem:],mem:"}]))
    assert "striped:[shaped:p50=1us,mem:],mem:" in capsys.readouterr().out


def test_metadata_says_what_a_reader_needs():
    found = collect()
    for key in ("date", "command", "python", "kernel", "cpu", "cores", "packages"):
        assert found[key], key
    assert found["machine_load"] in ("idle", "loaded") and len(found["load_average"]) == 3
    assert json.loads(json.dumps(found)) == found


def test_metadata_given_is_metadata_kept(tmp_path):
    save(tmp_path / "o.json", [], {"a": 1})
    assert load_document(tmp_path / "o.json") == ([], {"a": 1})


def test_load_labels():
    assert load_label((0.1, 2, 2), 2) == "idle"
    assert load_label((0.9, 0, 0), 2) == "loaded"
    assert load_label(None, 2) == "unknown"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:pw@host/0", "redis://***@host/0"),
        ("redis://:p@a redis://h/1", "redis://***@a redis://h/1"),
        ("replicated:redis://me:s3@a:1/0,rediss://:s@b?x=1", "replicated:redis://***@a:1/0,rediss://***@b?x=1"),
        ("redis-cluster://:a,b/c d@e@h,i:2/?wait=1", "redis-cluster://***@h,i:2/?wait=1"),
        ("redis+unix://u:p@/run/s?db=1", "redis+unix://***@/run/s?db=1"),
        ("redis://h:1/0?prefix=a@b", "redis://h:1/0?prefix=a@b"),
    ],
)  # fmt: skip
def test_credentials_of_urls_are_not_kept(text: str, shown: str) -> None:
    assert redact(text) == shown
