"""python -m edm_lab replay-log FILE...: does a recorded run decide the same again?"""

from __future__ import annotations

import argparse

from edm_policy.log import describe, load_log, replay
from edm_workload.result import rows_table, table_console


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    c = commands.add_parser(
        "replay-log",
        help="a run's decision log through a fresh pager: the same commands?",
        description="FILE is what `edm_real replay --log` or `edm_sim run --log` wrote. Its events "
        "are given to a fresh pager under the configuration in its header; whatever threads did, "
        "every command must be the same. Exit 1 where one is not.",
    )
    c.add_argument("files", nargs="+", metavar="FILE")
    c.add_argument("--quiet", action="store_true", help="only what differs")
    c.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    rows, parted = [], []
    for file in args.files:
        config, records, head = load_log(file)
        at, got = replay(config, records)
        same = at == len(records)
        rows.append(
            {
                "file": file,
                "driver": head.get("driver", "?"),
                "workload": head.get("workload", "?"),
                "threads": head.get("threads", 1),
                "evict": config.evict,
                "records": len(records),
                "identical": same,
            }
        )
        if not same:
            before = [f"  {i:>8}  log   {describe(records[i])}" for i in range(max(0, at - 4), at)]
            there = describe(records[at]) if at < len(records) else "(ended)"
            lines = [*before, f"  {at:>8}  log   {there}", f"  {at:>8}  pager {describe(got)}"]
            parted.append(f"\n{file}: parts at record {at}\n" + "\n".join(lines))
    if not args.quiet:
        table_console().print(rows_table(rows))
    for text in parted:
        print(text)
    return 1 if parted else 0
