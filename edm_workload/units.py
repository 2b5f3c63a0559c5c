"""Sizes, durations and shares as people write them: "64MiB", "25%", "200us", 4096.

A size is a number of pages unless it carries a unit: `16384` (or "16384") is pages,
"64MiB" bytes, "25%" a share of a base that the caller names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NoReturn

from edm_policy.errors import UsageError

PAGE_SIZE = 4096
"""Bytes of a page; everything in the project counts in these."""

_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATIONS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
_NUMBER = r"([0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)"
_SIZE = re.compile(_NUMBER + r"\s*([kmgt]?)(i?)b", re.IGNORECASE)
_SHARE = re.compile(_NUMBER + r"\s*%")
_COUNT = re.compile(r"[0-9][0-9_]*")
_DURATION = re.compile(_NUMBER + r"\s*(ns|us|µs|ms|s|min)")

Size = int | str
"""Pages as an int, or text: "64MiB", "25%", "16384"."""


def parse_bytes(text: str, what: str = "size") -> int:
    """Bytes of "64MiB", "1GiB", "512kB". Units are powers of 1024 with or without the i.

    Raises UsageError for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f'{what}: "{text}" is not a size; write for example 64MiB or 1GiB')
    number, unit, _ = match.groups()
    return int(float(number.replace("_", "")) * _BYTES[unit.lower()])


def parse_pages(value: Size, base: int | None = None, what: str = "size", least: int = 1) -> int:
    """Pages of a size: an int or digits are pages, "64MiB" bytes, "25%" a share of `base` pages.

    Shares and bytes round down to whole pages.
    Raises UsageError when the text is no size, when it is a share and there is no base,
    and when it comes to less than `least` pages.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UsageError(f'{what}: {value!r} is not a size; write "64MiB", "25%" or pages')
    text = str(value).strip()
    if match := _SHARE.fullmatch(text):
        if base is None:
            raise UsageError(f'{what}: "{text}" is a share of nothing here; write 64MiB or pages')
        pages = int(base * float(match[1].replace("_", "")) / 100 + 1e-9)
    elif _COUNT.fullmatch(text):
        pages = int(text)
    elif _SIZE.fullmatch(text):
        pages = parse_bytes(text, what) // PAGE_SIZE
    else:
        raise UsageError(f'{what}: "{text}" is not a size; write 64MiB, 25% or a number of pages')
    if pages < least:
        share = f" of {base} pages" if text.endswith("%") else ""
        raise UsageError(f"{what}: {value}{share} comes to {pages} pages; give at least {least}")
    return pages


def parse_duration_ns(value: int | str, what: str = "duration") -> int:
    """Nanoseconds of "200us", "1.5ms", "2s"; a bare int is nanoseconds. Raises UsageError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise UsageError(f'{what}: "{value}" is not a duration; write for example 200us or 1.5ms')
    return round(float(match[1].replace("_", "")) * _DURATIONS[match[2]])


def seconds_to_ns(seconds: float, what: str) -> int:
    """Nanoseconds of a number of seconds above 0. Raises UsageError, for more than a year, too."""
    if not 0 < seconds <= 366 * 86400:
        raise UsageError(f"{what}: {seconds:g} s cannot be; give seconds, more than 0")
    return max(1, round(seconds * 1e9))


def format_bytes(count: int) -> str:
    """A number of bytes for people: 65536 -> "64KiB"; three figures at most after rounding."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f}{unit}" if size == int(size) else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}TiB"


def refuse_unknown(what: str, name: str, known: Iterable[str]) -> NoReturn:
    """Raise UsageError for a name that is not among `known`, with the nearest one that is."""
    choices = sorted(known)
    near = get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(choices)}"
    raise UsageError(f'{what}: unknown "{name}"; {hint}')
