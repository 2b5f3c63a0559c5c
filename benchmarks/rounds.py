"""What the benchmarks of lines in turn share: rounds, medians, tables, and the machine's state.

A line is a measurement with a name. Each round measures every line once, so that what else the
machine does meets all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from edm_policy.errors import CannotError, EdmError
from edm_real import versus
from edm_real.steady import core_distance_ns
from edm_workload.metadata import LOADED

Figures = dict[str, float]
Line = Callable[[argparse.Namespace, int], Figures]
"""Called with the options and the round's number, from 1: its seed."""


def add_options(p: argparse.ArgumentParser, pages: int, refs: int) -> None:
    p.add_argument("--pages", type=int, default=pages, help="pages of the region")
    p.add_argument("--refs", type=int, default=refs, help="accesses in each measurement")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--only", nargs="+", help="lines that begin with one of these")
    p.add_argument("-o", "--out", help="a file for the figures as JSON")


def chosen(o: argparse.Namespace, lines: dict[str, Line]) -> dict[str, Line]:
    """Those that --only names, or all."""
    return {k: v for k, v in lines.items() if not o.only or k.startswith(tuple(o.only))}


def medians(rounds: list[Figures]) -> Figures:
    return {f: statistics.median(r[f] for r in rounds) for f in rounds[0]}


def measure(
    o: argparse.Namespace, lines: dict[str, Line]
) -> tuple[dict[str, Figures], list[float]]:
    """Medians of the rounds, every line once a round; and how far apart the cores were before each
    and in the end (edm_real/steady.py)."""
    seen: dict[str, list[Figures]] = {name: [] for name in lines}
    apart = [core_distance_ns()]
    for k in range(o.rounds):
        for name, line in lines.items():
            print(f"round {k + 1}/{o.rounds}: {name}".ljust(60), end="\r", file=sys.stderr)
            seen[name].append(line(o, k + 1))
        apart.append(core_distance_ns())
    print(" " * 60, end="\r", file=sys.stderr)
    return {name: medians(rounds) for name, rounds in seen.items()}, apart


def print_table(found: dict[str, Figures], columns: Sequence[str]) -> None:
    print(f"{'':24}" + "".join(f"{c:>10}" for c in columns))
    for name, figures in found.items():
        cells = (f"{figures[c]:10.4g}" if c in figures else f"{'':10}" for c in columns)
        print(f"{name:24}" + "".join(cells))
    print()


def state_of(busy: float) -> str:
    """idle or loaded, by how many cores were at work before."""
    return "idle" if busy < LOADED * (os.cpu_count() or 1) else "loaded"


def run(
    o: argparse.Namespace,
    lines: dict[str, Line],
    ready: AbstractContextManager[object],
    report: Callable[[dict[str, Figures]], Any],
    state: str | None = None,
) -> int:
    """A benchmark's exit code: measures within `ready`, prints report(medians), and saves what that
    answers as `ratios`. state: the label, where it is not the machine's own."""
    name = Path(sys.argv[0]).stem
    try:
        busy = versus.busy_cores()
        with ready:
            found, apart = measure(o, lines)
    except CannotError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 77
    except (EdmError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    cores, state = os.cpu_count() or 1, state or state_of(busy)
    print(f"{state} ({busy:.1f} of {cores} cores were at work before); {o.pages} pages,", end=" ")
    print(f"25 % local, {o.refs} accesses, medians of {o.rounds}; us")
    if all(apart):
        print(f"from core to core and back: {min(apart):.0f} to {max(apart):.0f} ns")
    ratios = report(found)
    if o.out:
        result = {"schema": 1, "state": state, "busy_cores": busy, "cores": cores, **vars(o)}
        result["core_distance_ns"] = apart
        result |= {"medians": found, "ratios": ratios}
        Path(o.out).write_text(json.dumps(result, indent=1))
    return 0
