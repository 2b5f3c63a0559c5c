"""python -m edm_lab: compare, tune, plot, report, replay-log."""

from __future__ import annotations

import sys

from edm_lab import (
    compare_command,
    plot_command,
    replay_log_command,
    report_command,
    tune_command,
)
from edm_workload.cli import Parser, files_to_write, run_cli


def main() -> int:
    parser = Parser(prog="python -m edm_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (compare_command, plot_command, tune_command, report_command, replay_log_command):
        module.add(commands)
    args = parser.parse_args()
    return run_cli(lambda: args.run(args), files_to_write(args))


if __name__ == "__main__":
    sys.exit(main())
