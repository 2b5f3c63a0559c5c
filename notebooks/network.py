# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How slow may the network be?
#
# **Question:** how much local memory does a program need, so that it runs well with the rest of
# its memory behind a given network?
#
# All of this is simulated: no network is needed to find out which one to buy.

# %% tags=["parameters"]
QUICK = True  # a short workload, four networks; False for more of both
trace = "zipf:1.0"  # or a file
think_ns = 500  # computing between two references, where the trace has no times
seed = 1

# %%
import pandas as pd

import edm_lab
import edm_sim
from edm_workload import Experiment
from edm_workload.networks import NETWORKS

pages, refs = (4096, 100_000) if QUICK else (65_536, 5_000_000)
networks = ["cxl", "rdma", "nvme", "tcp-az"] if QUICK else [n for n in NETWORKS if n != "hdd"]
shares = ["10%", "25%", "50%", "75%", "90%", "100%"]
if not QUICK:
    shares = [f"{s}%" for s in (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)]
base = Experiment.from_options(
    trace=trace, pages=pages, refs=refs, evict="s3fifo", think_ns=think_ns, seed=seed
)

# %% [markdown]
# ## The networks
#
# A network is the round trip of one page, as a distribution. Where the figures come from:

# %%
for name in networks:
    n = NETWORKS[name]
    print(f"{name:15} p50 {n.p50_us:g} µs, p99 {n.p99_us:g} µs, {n.gbit:g} Gbit/s   ({n.source})")

# %% [markdown]
# ## Slowdown against local memory
#
# Every combination, each run to its end; 1 is the program with all its memory local.

# %%
points = [base.with_(network=n, local=share) for n in networks for share in shares]
swept = edm_sim.sweep(points)
assert not swept.failures, swept.failures
ax = edm_lab.plot_slowdown(swept.frame, by="network", log=True)
ax.set_title(f"{trace}, {think_ns} ns of computing between references, {base.policy.evict}")
# %% [markdown]
# ## What to buy
#
# The least share of memory that must be local for a slowdown of at most 1.5, 2 and 5:

# %%
least = {f"{b:g} x": edm_lab.least_local(swept.frame, b, by="network") for b in (1.5, 2, 5)}
pd.DataFrame(least).map("{:.0%}".format)

# %% [markdown]
# Computing hides nothing of a fault here: the program waits for each page. A prefetcher can hide
# some where pages come in order; set `prefetch="nextn"` above, with `trace="seq"`, to see it.
