"""Notebooks: each is the twin of its script, without outputs, and quick where CI runs it."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda p: p.stem)
def test_script_and_notebook_are_the_same_without_outputs(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    here = [(c.cell_type, c.source) for c in notebook.cells]
    there = [(c.cell_type, c.source) for c in jupytext.read(script).cells]
    assert here == there, f"jupytext --to ipynb --update notebooks/{script.name}"
    assert not [c for c in notebook.cells if c.get("outputs") or c.get("execution_count")]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda p: p.stem)
def test_one_question_and_a_parameters_cell(script):
    cells = jupytext.read(script).cells
    assert cells[0].source.startswith("# ") and "**Question:**" in cells[0].source
    (parameters,) = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    values: dict[str, object] = {}
    exec(parameters.source, values)
    assert values["QUICK"] is True and isinstance(values["seed"], int)
