"""What the command lines share: common options, an experiment from them, errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from edm_policy.errors import EdmError
from edm_workload.experiment import Experiment
from edm_workload.files import check_writable
from edm_workload.hide import hide_credentials

_EXPERIMENT_OPTIONS = (
    *("evict", "prefetch", "observe", "dirty", "batch"),
    *("local", "low", "high", "limit", "store", "network"),
    *("trace", "pages", "refs", "writes", "threads", "seed", "faults", "lockstep", "calibration"),
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with an option in one line, and where the options are told."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; {self.prog} --help tells the options\n")


def count(text: str) -> int:
    """The type of an option that is a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number from 1 up")
    return int(text)


def _size(text: str) -> int | str:
    """Digits are pages; everything else is checked where its base is known."""
    return int(text) if text.isdigit() else text


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the bench, run, replay and compare commands share.

    None of them has a default of its own: what is not given comes from the experiment.
    """
    policy = parser.add_argument_group("policy")
    policy.add_argument("--evict", metavar="NAME", help="evictor, or mymodule:MyPolicy")
    policy.add_argument("--prefetch", metavar="NAME", help="prefetcher")
    policy.add_argument("--observe", metavar="auto|faults|idle|exact", help="what it may see")
    policy.add_argument("--dirty", metavar="exact|always", help="how written pages are told")
    policy.add_argument("--batch", type=int, metavar="N", help="pages evicted at a time")
    memory = parser.add_argument_group("memory (sizes: 25%, 64MiB, or pages)")
    memory.add_argument("--local", type=_size, metavar="SIZE", help="local memory, the limit")
    memory.add_argument("--low", type=_size, metavar="SIZE", help="eviction stops here")
    memory.add_argument("--high", type=_size, metavar="SIZE", help="eviction starts here")
    memory.add_argument("--limit", type=_size, metavar="SIZE", help="never exceeded")
    memory.add_argument("--store", metavar="URL", help="where evicted pages go")
    memory.add_argument("--network", metavar="PRESET", help="network in front of the store")
    workload = parser.add_argument_group("workload")
    workload.add_argument("--trace", metavar="FILE|SYNTH", help="a trace file, or zipf:1.0 ...")
    workload.add_argument("--pages", type=_size, metavar="SIZE", help="the region")
    workload.add_argument("--refs", type=int, metavar="N", help="references to run")
    workload.add_argument("--writes", type=float, metavar="SHARE", help="share that writes")
    workload.add_argument("--threads", type=int, metavar="N", help="application threads")
    workload.add_argument("--seed", type=int, metavar="N", help="one seed, one run")
    run = parser.add_argument_group("run")
    run.add_argument("--faults", metavar="upcall|monitor", help="who resolves a fault")
    run.add_argument("--lockstep", action="store_true", default=None, help="equal decision logs")
    run.add_argument(
        "--calibration", metavar="FILE", help="what the simulator's costs are (edm_real calibrate)"
    )
    add_output_options(run)


def add_output_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add -o and --quiet."""
    parser.add_argument("-o", "--output", metavar="OUT.json", help="write the results as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def experiment_from_args(args: argparse.Namespace) -> Experiment:
    """The experiment file (args.experiment, where the command has one) with options over it.

    Raises EdmError or UsageError for a file or an option that cannot be.
    """
    path = getattr(args, "experiment", None)
    experiment = Experiment.load(path) if path else Experiment()
    return experiment.with_(**given_options(args))


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The common options that were given, as Experiment.with_() takes them."""
    values = {name: getattr(args, name, None) for name in _EXPERIMENT_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def note_caveats(experiments: Iterable[Experiment]) -> None:
    """A line on stderr for each trace that was reduced in a way its policy is not exact for."""
    said = set()
    for e in experiments:
        line = e.trace.caveat(e.policy.evict, e.resolve().limit)
        if line and line not in said:
            said.add(line)
            print(f"note: {line}", file=sys.stderr)


def files_to_write(args: argparse.Namespace) -> list[str]:
    """What the command will write when it is done."""
    named = (getattr(args, name, None) for name in ("output", "plot", "log", "toml"))
    return [path for path in named if path]


def run_cli(main: Callable[[], int | None], writes: Iterable[str] = ()) -> int:
    """Run a command; return its exit code: `sys.exit(run_cli(main))`. A file of `writes` that could
    not be written ends it before it begins.

    An EdmError is one line on stderr and its exit code, Ctrl-C is 130, a reader that went
    away (| head) 141; none of them a traceback. Anything else is a bug and shows as one.
    Passwords on the command line are hidden from ps first.
    """
    hide_credentials()
    try:
        for path in writes:
            check_writable(path)
        code = main() or 0
        sys.stdout.flush()
        return code
    except EdmError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError as error:
        why = f" ({error})" if str(error) else ""
        print(f"error: out of memory{why}; ask for fewer references or pages", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
