"""The pager's answer buffer, read without making cffi objects for each field."""

from __future__ import annotations

from edm_policy._core import ffi


class Commands:
    """What a call of the pager's answers into, as `ptr`."""

    def __init__(self) -> None:
        self.ptr = ffi.new("edm_cmds *")
        view = memoryview(ffi.buffer(self.ptr))
        self.words = view.cast("I")  # words[0]: count; words[1 + 2 k]: page of command k
        self.bytes = view.cast("B")  # bytes[8 + 8 k]: op of command k; bytes[9 + 8 k]: flags

    def all(self) -> list[tuple[int, int, int]]:
        """(op, page, flags) of each command."""
        w, b = self.words, self.bytes
        return [(b[8 + 8 * k], w[1 + 2 * k], b[9 + 8 * k]) for k in range(w[0])]
