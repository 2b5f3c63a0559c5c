"""docs/write-a-store.md: its example compiles with all warnings, and passes the contract's tests.

The contract suite runs it as one store more: see `example` in tests/store.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.store import ROOT, example

TEXT = (ROOT / "docs" / "write-a-store.md").read_text()


def test_the_example_opens_and_says_what_will_not_do(tmp_path: Path) -> None:
    with example(tmp_path) as store:
        assert store.get([0])[1] == [-2]
    with pytest.raises(ValueError, match="it takes nothing behind the colon; write heap:"):
        example(tmp_path, rest="x")


def test_the_places_the_page_names_are_there() -> None:
    """Where a store is made known; the files it points to."""
    assert "extern const edm_store_kind " in (ROOT / "edm_real/c/stores.h").read_text()
    assert " kinds[] = {" in (ROOT / "edm_real/c/store.c").read_text()
    assert "\nURLS = [\n" in (ROOT / "tests/test_store_contract.py").read_text()
    for name in re.findall(r"`(\w+\.[ch])`", TEXT):
        if name != "store_heap.c":
            assert (ROOT / "edm_real/c" / name).exists(), name
