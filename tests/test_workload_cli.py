import argparse
import json
import os
import signal
import subprocess
import sys

import pytest

from edm_policy.errors import CannotError, EdmError, UsageError
from edm_workload import Trace, cli
from edm_workload.__main__ import main


def parsed(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", nargs="?")
    cli.add_common_options(parser)
    return parser.parse_args(words)


def test_options_that_are_not_given_come_from_the_file(tmp_path):
    path = tmp_path / "e.toml"
    path.write_text('[policy]\nevict = "fifo"\n[workload]\nseed = 8\n')
    experiment = cli.experiment_from_args(parsed(str(path), "--seed", "9", "--local", "10%"))
    assert experiment.policy.evict == "fifo" and experiment.workload.seed == 9
    assert experiment.memory.local == "10%" and experiment.run.lockstep is False


def test_every_common_option_reaches_the_experiment():
    words = (
        "--evict lru --prefetch nextn --observe exact --dirty always --batch 5 --limit 70 --low 3 "
        "--high 50% --store file:x --network cxl --trace seq --pages 4MiB --refs 9 --writes 0.5 "
        "--threads 2 --seed 4 --faults monitor --lockstep"
    )
    tables = cli.experiment_from_args(parsed(*words.split())).to_tables()
    given = {
        **{"evict": "lru", "prefetch": "nextn", "observe": "exact", "dirty": "always"},
        **{"batch": 5, "limit": 70, "low": 3, "high": "50%"},
    }
    assert tables["policy"].items() >= given.items()
    assert tables["memory"]["region"] == "4MiB"
    assert tables["store"] == {"url": "file:x", "network": "cxl"}
    assert tables["workload"] == {
        **{"trace": "seq", "refs": 9, "writes": 0.5, "threads": 2, "seed": 4}
    }
    assert tables["run"] == {"faults": "monitor", "lockstep": True}


@pytest.mark.parametrize(
    ("error", "code"), [(EdmError("a"), 1), (UsageError("b"), 2), (CannotError("c"), 77)]
)
def test_an_edm_error_is_one_line_and_its_code(error, code, capsys):
    def fail():
        raise error

    assert cli.run_cli(fail) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run_cli(lambda: 1 // 0)


def run(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "edm_workload", *words], capture_output=True, text=True, **options
    )


def test_ctrl_c_is_130_without_a_traceback():
    code = "import sys, time; from edm_workload.cli import run_cli\n" + (
        "sys.exit(run_cli(lambda: print('on', flush=True) or time.sleep(60)))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout.readline() == "on\n"
        os.kill(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=20)
    assert child.returncode == 130 and "Traceback" not in err


def test_a_reader_that_went_away_is_quiet():
    code = "import sys; from edm_workload.cli import run_cli\n" + (
        "sys.exit(run_cli(lambda: print('x\\n' * 500_000)))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1) as child:
        child.stdout.close()
        err = child.stderr.read()
    assert child.returncode == 141 and err == b""


def test_synth_info_convert(tmp_path, capsys):
    made, small = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
    assert main(["synth", "zipf:1.2", "-o", made, "--pages", "1MiB", "--refs", "5000"]) == 0
    assert main(["convert", made, "-o", small, "--head", "100", "--dense", "touch"]) == 0
    assert len(Trace.load(small)) == 100 and Trace.load(small).page[0] == 0
    capsys.readouterr()
    assert main(["info", made, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["records"] == 5000 and facts["span_pages"] <= 256
    assert main(["info", "seq", "--pages", "10", "--refs", "30"]) == 0
    assert "footprint_pages  10" in capsys.readouterr().out


def test_convert_splits_blocks(tmp_path):
    source, out = tmp_path / "a.csv", tmp_path / "a.parquet"
    source.write_text("lbn,size\n0,8192\n15,1024\n")
    assert main(["convert", str(source), "-o", str(out), "--blocks", "512"]) == 0
    assert Trace.load(out).page.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["info", "none.parquet"], 1),
        (["info", "zif"], 1),
        (["synth", "zif", "-o", "x.parquet"], 2),
        (["synth", "seq", "-o", "none/x.parquet"], 1),
        (["synth", "seq", "--pages", "0", "-o", "x.parquet"], 2),
        (["convert", "none.u32", "-o", "x.parquet"], 1),
        (["capture", "-o", "x.parquet", "--", "no-such-program-here"], 2),
        (["nothing"], 2),
    ],
)
def test_mistakes_are_short_and_have_their_code(words, code, tmp_path):
    done = run(*words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].count("error: ") == 1
    assert not list(tmp_path.iterdir())
