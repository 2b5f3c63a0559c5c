"""Wrong command lines: one line that says what is wrong, exit 1 or 2, and no file is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edm_policy.errors import EdmError, UsageError
from edm_workload import cli
from edm_workload.files import check_writable, save_figure, whole

FILES = {
    "t.csv": "page,write\n" + "".join(f"{i % 50},{i % 2}\n" for i in range(500)),
    "negative.csv": "page\n1\n-2\n",
    "nan.toml": "[store]\nnetwork = { p50_us = nan }\n",
    "e.toml": "[memory]\nregion = '4MiB'\n[workload]\nrefs = 2000\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("edm_real replay uniform --pages 0", 2, "region: 0 comes to 0 pages"),
        ("edm_real replay uniform --seed x", 2, "replay --help tells the options"),
        ("edm_real replay uniform --refs 99999999999999", 1, "out of memory"),
        ("edm_real replay negative.csv", 1, "negative.csv: trace: a page number is negative"),
        ("edm_real replay binary.csv", 1, "binary.csv: not text"),
        ("edm_real replay uniform --evict lfu:x=1", 2, "'x' is no parameter of lfu; it has aging"),
        ("edm_real replay uniform --evict lfu:aging=nan", 2, "name:key=number"),
        ("edm_real replay uniform -o no/x.json", 1, "no/x.json: cannot be written"),
        ("edm_real replay uniform --log folder", 1, "folder: is a folder"),
        ("edm_real run --deadline nan -- true", 2, "deadline: nan s"),
        ("edm_real run --handlers 0 -- true", 2, "0 must be a whole number from 1 up"),
        ("edm_real run --handlers 17 -- true", 2, "handlers: 17 cannot be; 1 to 16"),
        ("edm_sim run nan.toml", 2, "network p50_us: nan"),
        ("edm_sim run e.toml -o no/x.json", 1, "there is no folder no"),
        ("edm_sim sweep e.toml -o no/x.parquet", 1, "there is no folder no"),
        ("edm_sim sweep e.toml -o x.docx", 2, "name it x.parquet"),
        ("edm_sim mrc t.csv -o x.csv --plot x.docx", 2, "no known picture format"),
        ("edm_lab compare e.toml --repeats 0", 2, "0 must be a whole number from 1 up"),
        ("edm_lab compare e.toml --plot folder", 1, "folder: is a folder"),
        ("edm_lab compare e.toml --plot x.docx", 2, "no known picture format"),
        ("edm_lab plot pages t.csv -o no/x.png", 1, "there is no folder no"),
        ("edm_workload convert t.csv -o x.csv", 2, "name it x.parquet"),
        ("edm_workload synth uniform --seed -1 -o x.parquet", 2, "seed -1"),
        ("edm_workload synth uniform --refs 99999999999999999999 -o x.parquet", 2, "2**48"),
        ("edm_workload capture -o x.txt -- true", 2, "name it x.parquet"),
    ],
)
def test_a_wrong_command_is_one_line_and_leaves_no_file(folder, command, code, said):
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_curves_of_a_small_trace_leave_out_the_sizes_below_a_page(folder):
    from edm_sim import miss_ratio_curve
    from edm_workload import Trace

    assert miss_ratio_curve(Trace.load(folder / "t.csv"))["size"].tolist() == [1, 2, 5, 10, 20, 40]
    assert miss_ratio_curve(Trace([3, 3]))["size"].tolist() == [1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_is_as_it_was_when_writing_it_is_cut_off(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), whole(target) as part:
        part.write_text("half")
        raise error
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with whole(target) as part:
        part.write_text("new")
    assert target.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_a_link_stays_one_and_what_is_no_file_is_written_directly(tmp_path):
    target, link = tmp_path / "a", tmp_path / "b"
    link.symlink_to(target)
    with whole(link) as part:
        part.write_text("x")
    assert link.is_symlink() and target.read_text() == "x"
    with whole(os.devnull) as part:
        part.write_text("x")
    assert Path(os.devnull).is_char_device()


def test_a_full_disk_is_one_line():
    with pytest.raises(EdmError, match="/dev/full: cannot be written"), whole("/dev/full") as part:
        part.write_text("x")


def test_a_figures_format_is_its_names(tmp_path):
    from matplotlib.figure import Figure

    save_figure(Figure(), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    with pytest.raises(UsageError):
        save_figure(Figure(), tmp_path / "a.docx")


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, capsys):
    assert cli.run_cli(lambda: pytest.fail("it began"), [str(tmp_path / "no" / "x")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    check_writable(tmp_path / "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.uffd
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"handlers": 0}, "handlers: 0 cannot be"),
        ({"handlers": 17, "faults": "monitor"}, "1 to 16"),
        ({"deadline_s": float("inf")}, "deadline: inf s"),
        ({"dedline_s": 1}, "did you mean deadline_s"),
        ({"low": 10, "high": 5}, "low"),
        ({"evict": "s3fifo:x=1"}, "'x' is no parameter of s3fifo; it has none"),
    ],
)
def test_a_region_that_cannot_be_is_one_line(options, said):
    from edm_real import Region

    with pytest.raises(UsageError) as caught:
        Region(100, **{"local": 10} | options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pages", "writes"),
    [([1.5], None), ([-1], None), ([2**32], None), ([[1]], None), ([1, 2], [1]), ([1], [[1]])],
)
def test_references_that_are_none_are_refused_before_c_reads_them(pages, writes):
    from edm_real.replay import references

    with pytest.raises(UsageError):
        references(np.array(pages), None if writes is None else np.array(writes))
