"""Store URLs on their way to C: network presets become numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edm_workload.networks import Network, network

_SHAPED = "shaped:"


def resolved(url: str) -> str:
    """The URL with presets in place of their names: shaped:tcp-az,mem: to shaped:p50=...,mem:.

    The numbers live in edm_workload.networks; C is given numbers only.
    """
    start = url.find(_SHAPED)
    while start >= 0:
        begin = start + len(_SHAPED)
        name = re.match(r"[a-z0-9-]+(?=,)", url[begin:])
        if name and "=" not in name[0]:
            preset = network(name[0])
            rest = url[begin + name.end() + 1 :]
            url = url[:begin] + "".join(f"{o}," for o in _options(preset)) + rest
        start = url.find(_SHAPED, begin)
    return url


def shaped(url: str, spec: str | Mapping[str, Any], seed: int = 1) -> str:
    """The URL behind an experiment's [store] network; itself for "none"."""
    link = network(spec)
    if link is None:
        return url
    if isinstance(spec, str):
        return f"{_SHAPED}{spec},seed={seed},{url}"
    return _SHAPED + ",".join([*_options(link), f"seed={seed}", url])


def _options(link: Network | None) -> list[str]:
    if link is None:
        return []
    options = [f"p50={link.p50_us:g}us", f"p99={link.p99_us:g}us"]
    options += [f"{k}={v:g}" for k, v in (("gbit", link.gbit), ("loss", link.loss)) if v]
    return options
