"""The kernel's own paging alone, as a table: what edm_real is measured against.

sudo .venv/bin/python benchmarks/versus/baselines.py --pattern uniform --busy
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edm_real import versus
from edm_workload.cli import run_cli
from edm_workload.result import rows_table, table_console
from edm_workload.units import parse_pages

COLUMNS = ("kind", "load", "busy_cores", "refs", "mean_us", "least_us", "most_us", "p50_us")
COLUMNS += ("p90_us", "p99_us", "p999_us", "major_faults", "resident_pages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--region", default="256MiB", metavar="SIZE")
    parser.add_argument("--local", default="25%", metavar="SIZE")
    parser.add_argument("--pattern", default="uniform", metavar="uniform|seq|stride:K")
    parser.add_argument("--refs", type=int, default=200_000, metavar="N")
    parser.add_argument("--read", action="store_true", help="read only, else read-modify-write")
    parser.add_argument("--fill", default="half", metavar="none|word|half|random")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--repeats", type=int, default=versus.REPEATS, metavar="N")
    parser.add_argument("--kinds", default=",".join(versus.KINDS), metavar="A,B")
    parser.add_argument("--busy", action="store_true", help="a process computes on the other core")
    parser.add_argument("--folder", default="/var/tmp", help="on the disk to measure")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.json")
    args = parser.parse_args()
    pages = parse_pages(args.region, what="region")
    rows = versus.baselines(
        args.pattern,
        pages,
        parse_pages(args.local, pages, "local"),
        write=not args.read,
        seed=args.seed,
        kinds=args.kinds.split(","),
        refs=args.refs,
        fill=args.fill,
        repeats=args.repeats,
        busy=args.busy,
        folder=args.folder,
        progress=lambda text: print(text, file=sys.stderr),
    )
    for row in rows:
        if "refused" in row:
            print(row["refused"], file=sys.stderr)
    done = [row for row in rows if "refused" not in row]
    table_console().print(rows_table(done, COLUMNS, f"{args.pattern}, {args.region}"))
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_cli(main))
