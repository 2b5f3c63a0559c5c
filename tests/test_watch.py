"""watch: figures that renew themselves, in a notebook and in text, until the region closes."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.child import passes, run

pytestmark = pytest.mark.uffd

TOUCH = """
a = region.array(np.uint8, 512 * 4096)
def touch(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        a[::4096] += 1
"""


def test_lines_of_text_outside_of_a_notebook_until_the_region_closes():
    done = run(
        "import time\nregion = Region(512, local=128, name='my one')"
        + TOUCH
        + "view = region.watch(0.2)\ntouch(0.7)\ndel a\nregion.close()\nview._thread.join(5)\n"
        "assert not view._thread.is_alive() and view.closed"
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stderr.splitlines()
    assert len(lines) >= 2 and "the region is closed" in last
    seen = [int(re.search(r" faults=(\d+)", line)[1]) for line in lines]
    assert seen == sorted(seen) and seen[-1] > seen[0] > 0
    assert all("region=my_one" in line and "limit=0.5" in line for line in lines)


def test_a_still_region_prints_no_more_lines():
    done = run(
        """
        import time
        with Region(16) as region, region.watch(0.2):
            time.sleep(1.2)
        """
    )
    assert done.returncode == 0 and len(done.stderr.splitlines()) <= 2, done.stderr


def test_the_view_keeps_nothing_alive_and_leaves_no_descriptor():
    passes(
        """
        fds = lambda: len(os.listdir("/proc/self/fd"))
        before = fds()
        for _ in range(3):
            region = Region(16)
            view = region.watch(0.2)
            del region  # collected, and so closed
            view._thread.join(5)
            assert view.closed and not view._thread.is_alive()
        region = Region(16)
        view = region.watch(60)
        view.stop()
        assert not view.closed and region.stats()["faults"] == 0
        region.close()
        assert fds() == before, (fds(), before)
        """
    )


@pytest.mark.parametrize(
    ("made", "asked", "why"),
    [("Region(16)", "0.1", "at least 0.2"), ("Region(16, watch=False)", "1", "watch=False")],
)
def test_what_cannot_be_is_refused_in_a_line(made, asked, why):
    out = passes(
        f"""
        with {made} as region:
            try:
                region.watch({asked})
            except UsageError as error:
                print(error)
        """
    )
    assert why in out and out.count("\n") == 1


def test_a_notebook_shows_one_output_that_is_renewed():
    cells = [
        "import time, numpy as np\nfrom edm_real import Region\n"
        "region = Region(512, local=128, name='<mine>')\n" + TOUCH,
        "region.watch(0.2);",
        "touch(1.5)",
        "del a; region.close(); time.sleep(1)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    shown = [o for o in book.cells[1].outputs if o.output_type == "display_data"]
    assert len(shown) == 1 and not [o for c in book.cells[2:] for o in c.outputs]
    text = shown[0].data["text/html"]
    assert "(closed)" in text and "&lt;mine&gt;" in text and "<polyline" in text
    faults = re.search(r">([\d,]+)<br><small[^>]*>faults<", text)[1]
    assert int(faults.replace(",", "")) > 512
