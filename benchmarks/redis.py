"""What a fault and a write-back cost over redis:// on this machine, beside bare clients, in turn.

    python benchmarks/redis.py                  all lines, 5 rounds
    python benchmarks/redis.py --rounds 3 --only hiredis uniform

A redis-server of its own is started, on a free port of 127.0.0.1. The bare clients: a C program
on hiredis (benchmarks/hiredis: GETs one by one; pipelines), and redis-benchmark. Each round
measures every line once; figures are medians of the rounds, labelled idle or loaded by what else
ran before them. Goals are printed beside the ratios, and gate nothing.

Exit codes: 0 ok, 1 a page was not as written, 2 usage, 77 no userfaultfd, server or hiredis here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rounds
from edm_policy.errors import CannotError, EdmError
from edm_real import Region
from rounds import Figures, Line

CLIENT = Path(__file__).resolve().parent / "hiredis"
FIGURES = ("mean", "p50", "p99", "pages/s")


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """Its port."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if not program:
        raise CannotError("no redis-server here: sudo apt install redis-server")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        server = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise EdmError("redis-server does not come up") from None
                    time.sleep(0.01)
            yield port
        finally:
            server.kill()
            server.wait()


def client(o: argparse.Namespace, what: str, n: int, last: int) -> Figures:
    command = [str(CLIENT / "client"), str(o.port), what, str(o.pages), str(n), str(last)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EdmError(done.stderr.strip())
    got = json.loads(done.stdout)
    if "rate" in got:
        return {"pages/s": got["rate"]}
    return {k: got[k] / 1000 for k in ("mean", "p50", "p99")}


def redis_benchmark(o: argparse.Namespace, clients: int) -> Figures:
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if not program:
        raise CannotError("no redis-benchmark here: sudo apt install redis-tools")
    command = [program, "-p", str(o.port), "-P", "32", "-d", "4096", "-t", "set", "--csv"]
    command += ["-n", str(o.refs), "-c", str(clients), "-r", str(o.pages)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"pages/s": float(done.stdout.strip().splitlines()[-1].split(",")[1].strip('"'))}


def faults(
    o: argparse.Namespace, seed: int, store: str, accesses: str, write: float, **region: Any
) -> Figures:
    """One replay, in upcall mode: latency of faults in us; pages/s: accesses a second."""
    rng = np.random.default_rng(seed)
    if accesses == "uniform":
        refs = rng.integers(0, o.pages, o.refs, dtype=np.uint32)
    else:
        refs = (np.arange(o.refs, dtype=np.int64) % o.pages).astype(np.uint32)
    writes = (rng.random(o.refs) < write).astype(np.uint8)
    with Region(o.pages, local="25%", store=store, deadline_s=10, **region) as r:
        got = r.replay(refs, write=writes, fill=True)
    if not got["verified"]:
        raise EdmError(f"{accesses} {store}: pages were NOT as written")
    return {k: got["latency_us"][k] for k in ("mean", "p50", "p99")} | {
        "pages/s": got["refs"] / got["elapsed_s"]
    }


def write_back(o: argparse.Namespace, store: str) -> Figures:
    """flush() of a region whose pages have all changed."""
    with Region(o.pages, local="100%", store=store, deadline_s=10) as r:
        a = r.array(np.uint64, (o.pages, r.page_size // 8))
        for turn in (1, 2):  # the second replaces what is there, as the other clients' SETs do
            a[:] = turn * np.arange(1, o.pages + 1, dtype=np.uint64)[:, None]
            before, begin = r.stats()["writebacks"], time.perf_counter()
            r.flush()
            took = time.perf_counter() - begin
            written = r.stats()["writebacks"] - before
        del a
    if written != o.pages:
        raise EdmError(f"flush wrote {written} of {o.pages} pages")
    return {"pages/s": written / took}


def _faults(store: str, accesses: str, write: float, **region: Any) -> Line:
    return lambda o, s: faults(o, s, store.format(port=o.port), accesses, write, **region)


REDIS = "redis://127.0.0.1:{port}/0"
LINES: dict[str, Line] = {
    "hiredis GET": lambda o, s: client(o, "get", o.refs // 2, s),
    "mem:, uniform": _faults("mem:", "uniform", 0),
    "redis, uniform": _faults(REDIS, "uniform", 0),
    "mem:, uniform, writes": _faults("mem:", "uniform", 0.3),
    "redis, uniform, writes": _faults(REDIS, "uniform", 0.3),
    "redis, seq": _faults(REDIS, "seq", 0),
    "redis, seq, nextn": _faults(REDIS, "seq", 0, prefetch="nextn"),
    "hiredis GET by 64": lambda o, s: client(o, "mget", o.refs, 64),
    "hiredis SET by 32": lambda o, s: client(o, "set", o.refs, 32),
    "hiredis SET by 64": lambda o, s: client(o, "set", o.refs, 64),
    "redis-benchmark, 1": lambda o, s: redis_benchmark(o, 1),
    "redis-benchmark, 50": lambda o, s: redis_benchmark(o, 50),
    "redis, flush": lambda o, s: write_back(o, REDIS.format(port=o.port)),
}


def ratios(m: dict[str, Figures]) -> list[tuple[str, float, str]]:
    """(what, value, goal), as far as their lines were measured."""
    out = []
    for kind in ("", ", writes"):
        names = ("hiredis GET", f"mem:, uniform{kind}", f"redis, uniform{kind}")
        if all(n in m for n in names):
            get, mem, ours = (m[n]["mean"] for n in names)
            goal = "" if kind else "<= 1.25"
            out.append((f"{names[2]}: mean / (hiredis GET + mem: fault)", ours / (get + mem), goal))
    pairs = (
        ("redis, seq, nextn", "redis, seq", ">= 4"),
        ("redis, seq, nextn", "hiredis GET by 64", ""),
        ("redis, flush", "redis-benchmark, 1", ">= 0.8"),
        ("redis, flush", "redis-benchmark, 50", ">= 0.8"),
        ("redis, flush", "hiredis SET by 32", ">= 0.8"),
    )
    for ours_, base, goal in pairs:
        if ours_ in m and base in m:
            value = m[ours_]["pages/s"] / m[base]["pages/s"]
            out.append((f"{ours_}: pages/s / {base}", value, goal))
    return out


def report(medians: dict[str, Figures]) -> list[dict[str, Any]]:
    """Prints the tables; the ratios, as they go into the JSON."""
    rounds.print_table(medians, FIGURES)
    found = ratios(medians)
    for what, value, goal in found:
        print(f"{what:64} {value:6.2f}" + (f"   goal {goal}" if goal else ""))
    return [dict(zip(("ratio", "value", "goal"), r, strict=True)) for r in found]


@contextlib.contextmanager
def ready(o: argparse.Namespace, lines: dict[str, Line]) -> Iterator[None]:
    """The bare client is built, where a line needs it, and the server runs."""
    if any(name.startswith("hiredis") for name in lines):
        if subprocess.run(["pkg-config", "--exists", "hiredis"]).returncode:
            raise CannotError("no hiredis here: sudo apt install pkg-config libhiredis-dev")
        subprocess.run(["make", "-sC", str(CLIENT)], check=True)
    with redis_server() as o.port:
        yield


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    rounds.add_options(p, pages=16384, refs=40_000)
    o = p.parse_args(argv)
    lines = rounds.chosen(o, LINES)
    return rounds.run(o, lines, ready(o, lines), report)


if __name__ == "__main__":
    sys.exit(main())
