"""python -m edm_workload: look at traces, convert, make and capture them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edm_workload import capture as valgrind
from edm_workload.cli import Parser, count, files_to_write, run_cli
from edm_workload.formats import FORMATS
from edm_workload.reduce import reduce_trace
from edm_workload.synth import DEFAULT_WRITES, SYNTHS, is_synth, synth
from edm_workload.trace import Trace, check_name
from edm_workload.units import format_bytes, parse_pages


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m edm_workload", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="what is in a trace")
    info.add_argument("trace", metavar="TRACE", help="a file, or a synthetic workload")
    _add_reading(info)
    _add_synth(info)
    info.add_argument("--json", action="store_true", help="as JSON")

    convert = commands.add_parser("convert", help="any known format to Parquet")
    convert.add_argument("trace", metavar="IN", type=Path)
    convert.add_argument("-o", "--output", metavar="OUT.parquet", required=True)
    _add_reading(convert)
    convert.add_argument("--head", type=count, metavar="N", help="only the first N records")
    convert.add_argument(
        "--dense", choices=("touch", "address"), help="renumber pages from 0, in this order"
    )
    convert.add_argument(
        "-k", type=int, metavar="FRAMES", help="reduce; exact for LRU from so many frames (0: 1)"
    )

    make = commands.add_parser(
        "synth",
        help="make a synthetic trace",
        description=f"Names: {', '.join(SYNTHS)}; parameters as in zipf:1.2, stride:8, loop:0.5.",
    )
    make.add_argument("spec", metavar="SYNTH")
    make.add_argument("-o", "--output", metavar="OUT.parquet", required=True)
    _add_synth(make)

    capture = commands.add_parser(
        "capture",
        help="a program's memory accesses",
        usage="%(prog)s -o OUT.parquet [options] -- PROG [ARGS ...]",
        description=valgrind.ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    capture.add_argument("-o", "--output", metavar="OUT.parquet", required=True)
    capture.add_argument(
        "-k", type=int, default=64, metavar="FRAMES", help="exact from so many frames (64; 0: all)"
    )
    capture.add_argument("--instructions", action="store_true", help="instruction fetches, too")
    capture.add_argument(
        "--seconds", type=float, metavar="S", help="end the program then, keep what came"
    )
    capture.add_argument("--lackey", action="store_true", help="by valgrind's own tool")
    capture.add_argument("--quiet", action="store_true", help="no progress on stderr")
    capture.add_argument("program", nargs="+", metavar="PROG", help="name it itself, no wrapper")
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", metavar="NAME", help=f"of a file: {', '.join(FORMATS)}")
    parser.add_argument(
        "--blocks", type=int, metavar="BYTES", help="a block trace: split into pages, ids count so"
    )


def _add_synth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pages", default="16384", metavar="SIZE", help="pages or 64MiB (16384)")
    parser.add_argument("--refs", type=int, default=1_000_000, metavar="N", help="(1000000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(1)")
    parser.add_argument(
        "--writes", type=float, default=DEFAULT_WRITES, metavar="SHARE", help=f"({DEFAULT_WRITES})"
    )


def _synth(spec: str, args: argparse.Namespace) -> Trace:
    pages = parse_pages(args.pages, what="--pages")
    return synth(spec, pages, args.refs, args.seed, args.writes)


def _read(path: Path, args: argparse.Namespace) -> Trace:
    trace = Trace.load(path, args.format)
    return trace if args.blocks is None else trace.split_blocks(args.blocks)


def _show(facts: Mapping[str, Any]) -> None:
    flat = {k: v for k, v in facts.items() if k != "metadata"} | dict(facts["metadata"])
    for key, value in flat.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        elif key == "footprint_bytes":
            value = format_bytes(value)
        elif isinstance(value, int) and key not in ("seed", "format_version"):
            value = f"{value:,}"
        elif isinstance(value, float):
            value = f"{value:.4g}"
        print(f"{key:16} {value}")


def _info(args: argparse.Namespace) -> None:
    trace = _synth(args.trace, args) if is_synth(args.trace) else _read(Path(args.trace), args)
    if args.json:
        print(json.dumps(trace.info(), indent=2))
    else:
        _show(trace.info())


def _convert(args: argparse.Namespace) -> None:
    trace = _read(args.trace, args)
    if args.head is not None:
        trace = trace.head(args.head)
    if args.k is not None:
        trace = reduce_trace(trace, args.k)
    if args.dense:
        trace = trace.dense(args.dense)
    _write(trace, args.output)


def _capture(args: argparse.Namespace) -> int:
    progress = None if args.quiet else valgrind.terminal_progress()
    check_name(args.output)
    trace = valgrind.capture(
        args.program,
        args.k,
        args.instructions,
        progress,
        seconds=args.seconds,
        lackey=args.lackey,
    )
    if progress:
        print(file=sys.stderr)
    stopped = trace.metadata.get("stopped", "")
    if "gave way" in stopped:
        fix = "name that one; of a Python, what sys.executable says"
        print(f"note: {args.program[0]} is traced to {stopped}; {fix}", file=sys.stderr)
    elif stopped:
        print(
            f"note: {args.program[0]} was ended {stopped}; this is its beginning", file=sys.stderr
        )
    if code := trace.metadata.get("exit_code"):
        print(f"note: {args.program[0]} ended with exit code {code}", file=sys.stderr)
    _write(trace, args.output)
    return 130 if "Ctrl-C" in stopped else 0


def _write(trace: Trace, output: str) -> None:
    trace.save(output)
    print(
        f"{output}: {len(trace):,} records of {trace.references:,} references, "
        f"{trace.footprint:,} pages, {format_bytes(Path(output).stat().st_size)}",
        file=sys.stderr,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is that of run_cli."""
    args = _parser().parse_args(argv)
    commands = {
        "info": _info,
        "convert": _convert,
        "synth": lambda a: _write(_synth(a.spec, a), a.output),
        "capture": _capture,
    }
    return run_cli(lambda: commands[args.command](args), files_to_write(args))


if __name__ == "__main__":
    sys.exit(main())
