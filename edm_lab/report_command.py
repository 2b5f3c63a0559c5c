"""python -m edm_lab report RESULT... -o report.html: results for people, in one file."""

from __future__ import annotations

import argparse

import matplotlib

from edm_lab.report import report
from edm_workload.files import whole


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="one HTML file of results: tables, figures, and how they were made",
        description="RESULT is what bench, replay, run, compare or tune wrote with -o, a sweep's "
        "Parquet, or the CSV of mrc. The HTML needs no other file and no network.",
    )
    parser.add_argument("files", nargs="+", metavar="RESULT")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.html")
    parser.add_argument("--title", default="", help="(the names of the files)")
    parser.add_argument("--quiet", action="store_true", help="do not say what was written")
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    matplotlib.use("Agg")
    text = report(args.files, args.title)
    with whole(args.output) as part:
        part.write_text(text, encoding="utf-8")
    if not args.quiet:
        print(f"{args.output}: {len(args.files)} files, {len(text) / 1024:,.0f} KiB")
    return 0
