"""The documents say what the program does: code blocks run, tables are the registry's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edm_policy import Pager, PolicyConfig, evictors

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "policies").glob("*.md"))
DOCUMENTS = [
    *PAGES,
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    ROOT / "experiments" / "README.md",
]
PAGER_BYTES = 2
SLACK = 64 * 1024  # what does not grow with the region
MOST = 32  # bytes a page, pager and evictor together


def section(name: str) -> str:
    """What docs/policies says under the policy's own heading, blanks squeezed."""
    text = "\n".join(page.read_text() for page in PAGES)
    found = re.findall(rf"^## {re.escape(name)}\n(.*?)(?=^## |^# |\Z)", text, re.M | re.S)
    assert len(found) == 1, f"{name}: {len(found)} sections in docs/policies, there must be one"
    return found[0]


def squeezed(text: str) -> str:
    return " ".join(re.sub("[`*]", "", text).split()).lower()


def row(name: str) -> list[str]:
    """needs, defined for, parameters, bytes a page, smallest limit."""
    lines = [line for line in section(name).splitlines() if line.startswith("|")]
    return [cell.strip() for cell in lines[2].strip("|").split("|")]


@pytest.mark.parametrize("name", evictors())
def test_page_of_a_policy_agrees_with_the_registry(name):
    info = evictors()[name]
    needs, best, params, size, _ = row(name)
    assert (needs, best) == (info.needs, info.best)
    assert params == (info.params.split(" ")[0] or "none")
    assert size == f"{info.bytes_per_page} + {PAGER_BYTES}"
    assert squeezed(info.idle_note) in squeezed(section(name))


@pytest.mark.parametrize("name", evictors())
def test_smallest_limit_of_the_page_runs(name):
    smallest = int(row(name)[4])
    pager = Pager(PolicyConfig(pages=8, limit=smallest, evict=name))
    assert pager.config.limit == smallest


@pytest.mark.parametrize("name", evictors())
@pytest.mark.parametrize("pages", [1_000, 65_536, 131_073])
@pytest.mark.parametrize("share", [1, 4])
def test_memory_per_page_is_what_is_documented(name, pages, share):
    pager = Pager(PolicyConfig(pages=pages, limit=pages // share, evict=name))
    promised = PAGER_BYTES + evictors()[name].bytes_per_page
    assert promised <= MOST
    assert pager.bytes <= pages * promised + SLACK


@pytest.mark.parametrize("name", evictors())
def test_cost_table_has_every_policy_under_every_observation_it_takes(name):
    text = (ROOT / "docs" / "policies" / "README.md").read_text()
    levels = ["faults", "idle", "exact"]
    for observe in levels[levels.index(evictors()[name].needs) :]:
        assert f"\n| {name} | {observe} |" in text, "run benchmarks/policy_costs.py again"


def test_code_of_python_policies_runs():
    path = ROOT / "docs" / "python-policies.md"
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)
    assert len(blocks) >= 4
    world: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(path), "exec"), world)


def commands(page: Path) -> list[str]:
    """The indented command lines of a document, in order."""
    return re.findall(r"^    ((?:python|seq|printf) .*)$", page.read_text(), re.M)


@pytest.mark.uffd
@pytest.mark.slow
def test_tutorial_runs_from_top_to_bottom_in_an_empty_folder(tmp_path):
    page = ROOT / "docs" / "tutorial.md"
    toml = re.search(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S)
    (tmp_path / "mine.toml").write_text(toml[1])
    todo = commands(page)
    if not shutil.which("valgrind"):  # what it would have captured
        capture = next(c for c in todo if " capture " in c)
        synth = "python -m edm_workload synth zipf:1.0 --pages 800 --refs 40000 -o mine.parquet"
        todo[todo.index(capture)] = synth
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in todo:
        command = command.replace("--trials 60", "--trials 8").replace(" 6000 ", " 600 ")
        if " compare " in command or " tune " in command:  # not calibrated on the spot
            command += " --calibration default"
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    made = ["mine.png", "mine.html", "mrc.png", "pages.png", "mine-tuned.toml", "tuned.json"]
    assert not [name for name in made if not (tmp_path / name).stat().st_size]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
