"""Heap pages of real programs, compressed: zstd+mem: and lz4+mem: beside kernel swap on zram.

    sudo python benchmarks/heap_pages.py                  both programs, 3 rounds
    sudo python benchmarks/heap_pages.py --programs sqlite --rounds 5
    python benchmarks/heap_pages.py --capture sqlite.pages --programs sqlite    the pages only

A program is run, and the pages of its anonymous memory are read from /proc/PID/mem. They fill a
region of which a quarter is local; then uniform accesses, of reads alone and of writes alone, by
edm_real and by benchmarks/versus/touch.c under a memory cgroup with swap on zram, in turn. Every
byte is verified in the end, on both sides.

ratio: bytes of the pages that are out over bytes they take compressed. edm_real's is pages *
page_size / bytes_held (sizes rounded up to 64), zram's orig_data_size / compr_data_size (exact),
and beside it over mem_used_total, which has zsmalloc's rounding and gaps too. faults: pages that
were brought back (fetches; major faults). us/fault: elapsed time over them, so all that an access
costs (rescues, write-back) is in it. Medians of the rounds.

Exit codes: 0 ok, 1 failed, 77 this machine cannot.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edm_policy.errors import CannotError, EdmError
from edm_real import Region, versus
from edm_real.versus_machine import PAGE, Machine
from edm_workload.metadata import LOADED

PROGRAMS = {
    "pandas": """
import numpy as np, pandas as pd
rng = np.random.default_rng(1)
n = 300_000
frame = pd.DataFrame({
    "id": np.arange(n), "price": rng.lognormal(3, 1, n).round(2), "count": rng.poisson(4, n),
    "city": rng.choice(["Lagos", "Lima", "Lyon", "Oslo", "Osaka"], n),
    "name": [f"customer {k}" for k in rng.integers(0, 50_000, n)],
})
totals = frame.groupby(["city", "count"]).price.agg(["sum", "mean", "max"])
""",
    "sqlite": """
import random, sqlite3
random.seed(1)
base = sqlite3.connect(":memory:")
base.execute("create table event (at integer, user text, path text, status integer, bytes integer)")
words = ["index", "about", "login", "images", "api", "cart", "search", "static"]
base.executemany("insert into event values (?, ?, ?, ?, ?)", (
    (1_700_000_000 + k, f"user{random.randrange(9999)}",
     "/" + "/".join(random.choices(words, k=3)), random.choice([200, 200, 200, 304, 404]),
     random.randrange(100_000)) for k in range(500_000)))
base.execute("create index by_user on event (user, at)")
""",
}
PAGES = 16384
REFS = 100_000
Pages = NDArray[np.uint8]
Row = dict[str, Any]


def anonymous_pages(pid: int) -> Iterator[bytes]:
    """Every page of its own writable memory that is resident."""
    with (
        open(f"/proc/{pid}/maps") as maps,
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap,
        open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,
    ):
        for line in maps:
            where, rights, _, device, _, *name = line.split()
            if not rights.startswith("rw") or device != "00:00" or name not in ([], ["[heap]"]):
                continue
            start, end = (int(x, 16) for x in where.split("-"))
            pagemap.seek(start // PAGE * 8)
            present = np.frombuffer(pagemap.read((end - start) // PAGE * 8), np.uint64) >> 63
            for k in np.flatnonzero(present):
                memory.seek(start + int(k) * PAGE)
                yield memory.read(PAGE)


def captured(program: str) -> Pages:
    """At most PAGES pages of the program's memory, as it stands when its work is done."""
    code = PROGRAMS[program] + "\nprint('done', flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        if process.stdout.readline() != "done\n":
            raise EdmError(f"{program}: it ended before its work was done")
        pages = b"".join(anonymous_pages(process.pid))
        process.kill()
    found = np.frombuffer(pages, np.uint8).reshape(-1, PAGE)
    step = max(1, len(found) // PAGES)  # all parts of its memory, not the first alone
    return np.ascontiguousarray(found[::step][:PAGES])


def order(seed: int) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(0, PAGES, REFS).astype(np.uint32)


def ours(codec: str, content: Pages, write: bool) -> Row:
    with Region(PAGES, local="25%", store=f"{codec}+mem:") as region:
        done = region.replay(order(1), np.full(REFS, write, np.uint8), fill=content)
        held = region.stats()["store_stats"]
    if not done["verified"]:
        raise EdmError("page contents were NOT as written; please report this")
    ratio = held["pages"] * PAGE / held["bytes_held"]
    return {"elapsed": done["elapsed_s"], "faults": done["fetches"], "ratio": ratio, "used": None}


class Watch:
    """zram's figures, 50 times a second, while most of the region is in it (as touch runs)."""

    def __init__(self, device: Path):
        self._stat = Path("/sys/block") / device.name / "mm_stat"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples: list[list[int]] = []

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            self.samples.append([int(x) for x in self._stat.read_text().split()[:3]])

    def sums(self) -> tuple[int, int, int]:
        """Bytes before compression, after it, and of memory used, over all full samples."""
        most = max(original for original, _, _ in self.samples)
        full = [s for s in self.samples if s[0] > 0.95 * most]
        original, packed, used = (sum(s[k] for s in full) for k in range(3))
        return original, packed, used

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def kernels(machine: Machine, codec: str, content: Path, write: bool, folder: Path) -> Row:
    access = versus.Access((order(1), np.full(REFS, write)), PAGES, PAGES // 4)
    command = [str(versus._touch()), *access.arguments(folder), "--fill-file", str(content)]
    tables = PAGES * 8 + content.stat().st_size // PAGE * 8
    limit = PAGES // 4 * PAGE + tables + versus.OWN_BYTES
    size = PAGES * PAGE * 5 // 4
    for tries_left in range(versus.KILLED_MAX, -1, -1):
        with (
            machine.cgroup(limit) as group,
            machine.zram(size, codec) as device,
            Watch(device) as seen,
        ):
            try:
                done = versus.run_touch(group.command(*command))
                break
            except versus.OutOfMemory:
                if not tries_left:
                    raise
    original, packed, used = seen.sums()
    return {
        "elapsed": done["elapsed_s"],
        "faults": done["major_faults"],
        "ratio": original / packed,
        "used": original / used,
    }


def table(program: str, rounds: int, progress: Any) -> list[Row]:
    content = captured(program)
    same = (content.view(np.uint64) == content.view(np.uint64)[:, :1]).all(axis=1).mean()
    progress(f"{program}: {len(content)} pages, {same:.1%} of them one word")
    runs: dict[tuple[str, bool], list[Row]] = {}
    busy: list[float] = []
    refused: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="edm-heap-") as name, Machine() as machine:
        path = Path(name) / "content"
        content.tofile(path)
        folders = {write: Path(name) / str(write) for write in (False, True)}
        for folder in folders.values():
            folder.mkdir()
        for k in range(rounds):
            progress(f"{program}: round {k + 1} of {rounds}")
            for write, folder in folders.items():
                for codec in ("lz4", "zstd"):
                    busy.append(versus.busy_cores())
                    mine = ours(codec, content, write)
                    runs.setdefault((f"{codec}+mem:", write), []).append(mine)
                    if codec in refused:
                        continue
                    try:
                        theirs = kernels(machine, codec, path, write, folder)
                    except CannotError as error:
                        if codec == "lz4":
                            raise
                        refused.add(codec)
                        progress(str(error))
                        continue
                    runs.setdefault((f"zram, {codec}", write), []).append(theirs)
    load = "loaded" if statistics.median(busy) > LOADED * 2 else "idle"
    return [
        {"program": program, "where": where, "write": write, "load": load, **medians(rows)}
        for (where, write), rows in runs.items()
    ]


def medians(rows: list[Row]) -> Row:
    def of(key: str) -> float:
        return statistics.median(row[key] for row in rows)

    return {
        "ratio": of("ratio"),
        "used": of("used") if rows[0]["used"] else None,
        "us_fault": statistics.median(r["elapsed"] / r["faults"] * 1e6 for r in rows),
        "us_access": of("elapsed") / REFS * 1e6,
        "faults": of("faults"),
    }


def show(rows: list[Row]) -> None:
    head = ["program", "accesses", "pages are in", "ratio", "with gaps"]
    head += ["us/fault", "us/access", "faults", "load"]
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for r in sorted(rows, key=lambda r: (r["program"], r["write"], r["where"])):
        used = f"{r['used']:.2f}" if r["used"] else "-"
        cells = [r["program"], "writes" if r["write"] else "reads", r["where"], f"{r['ratio']:.2f}"]
        cells += [used, f"{r['us_fault']:.1f}", f"{r['us_access']:.1f}", f"{r['faults']:.0f}"]
        print("| " + " | ".join([*cells, r["load"]]) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--capture", metavar="FILE", help="write the pages there, measure nothing")
    args = parser.parse_args()
    try:
        if args.capture:
            np.concatenate([captured(p) for p in args.programs]).tofile(args.capture)
            return 0
        rows: list[Row] = []
        for program in args.programs:
            rows += table(program, args.rounds, lambda text: print(text, file=sys.stderr))
        show(rows)
    except CannotError as error:
        print(error, file=sys.stderr)
        return 77
    except EdmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
