"""Files that are written: refused before the work where they cannot be, and whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edm_policy.errors import EdmError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_writable(path: str | Path) -> None:
    """Raises EdmError for a path that could not be written: before an hour's run, not after it."""
    target = Path(path)
    if target.is_dir():
        raise EdmError(f"{path}: is a folder; give the name of a file in it")
    folder = target.parent
    if not folder.is_dir():
        raise EdmError(f"{path}: cannot be written, there is no folder {folder}; make it first")
    if not os.access(target if target.exists() else folder, os.W_OK):
        raise EdmError(f"{path}: cannot be written (Permission denied); choose another folder")


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A file to write beside `path`, which it replaces when the block ends without an error.

    With an error, Ctrl-C included, `path` is as it was. What is no plain file (a pipe, /dev/stdout)
    is written directly. Raises EdmError for what the system refuses.
    """
    target = Path(os.path.realpath(path))
    direct = target.exists() and not target.is_file() and not target.is_dir()
    part = Path(path) if direct else target.with_name(f".{target.name}.{os.getpid()}.part")
    check_writable(path)
    try:
        yield part
        if not direct:
            part.replace(target)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise EdmError(f"{path}: cannot be written ({why})") from error
    finally:
        if not direct:
            part.unlink(missing_ok=True)


def picture_format(path: str | Path) -> str:
    """The format a picture's name asks for. Raises UsageError where there is no such format."""
    from matplotlib.backend_bases import FigureCanvasBase

    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in FigureCanvasBase.get_supported_filetypes():
        raise UsageError(f"{path}: no known picture format; write .png, .svg or .pdf")
    return suffix


def save_figure(figure: Figure, path: str | Path) -> None:
    """A figure as .png, .svg, .pdf or what else its name asks for."""
    kind = picture_format(path)
    with whole(path) as part:
        figure.savefig(part, format=kind, dpi=150)
