"""file: what is beyond the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.store import Store


def test_the_file_has_no_name_while_open_and_leaves_nothing(tmp_path: Path) -> None:
    with Store(f"file:{tmp_path}/pages"):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_gets_a_file_without_a_name(tmp_path: Path) -> None:
    with Store(f"file:{tmp_path}/"):
        assert list(tmp_path.iterdir()) == []


def test_keep_leaves_the_file(tmp_path: Path) -> None:
    with Store(f"file:{tmp_path}/pages?keep=1") as store:
        store.put([3], np.full((1, 4096), 9, np.uint8))
    assert (tmp_path / "pages").read_bytes() == bytes(3 * 4096) + b"\x09" * 4096


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("taken", "there is something already"),
        ("no/such/folder", "No such file or directory; give a path you may write to"),
        ("x?kep=1", "unknown option"),
    ],
)
def test_a_path_that_will_not_do(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ValueError) as error:
        Store(f"file:{tmp_path}/{path}")
    assert says in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "taken").read_text() == "mine"
