"""What all plots share: colours, markers and axes.

Colours are Okabe and Ito's (2008), told apart by the colour-blind; each comes with a marker
and a line of its own, so that a print without colour can be read, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "++")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
SEQUENTIAL = "cividis"
"""For pictures of numbers: even in lightness, the same for the colour-blind."""

BEST: dict[str, Any] = {"color": "black", "linestyle": "--", "marker": "", "linewidth": 1.2}
"""How a bound is drawn that nothing can be better than."""


def styles(markers: bool = True) -> Iterator[dict[str, Any]]:
    """Keyword arguments for one line after another, no two alike in the first 35 of them.
    markers=False: for lines of many points, which differ in colour and dashes."""
    for number, (color, marker) in enumerate(cycle(zip(PALETTE, _MARKERS, strict=True))):
        if markers:
            line = _LINES[number // len(PALETTE) % len(_LINES)]
            yield {"color": color, "marker": marker, "linestyle": line, "markersize": 4}
        else:
            yield {"color": color, "linestyle": _LINES[number % len(_LINES)]}


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (6, 3.8)) -> Axes:
    """The axes given, or those of a new figure, with a frame on two sides."""
    if ax is None:
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plain_numbers(axis: Axis) -> None:
    """Marks a logarithmic axis of a few decades at 1, 2, 5, 10, 20 ..., written out."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    axis.set_minor_locator(NullLocator())
