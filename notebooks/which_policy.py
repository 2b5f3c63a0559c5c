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
# # Which policy for my trace?
#
# **Question:** which eviction policy misses least on a given trace, and how much of that is left
# on real memory, which cannot see hits?
#
# Put your own trace's path into `trace`: anything `python -m edm_workload convert` reads. The
# bundled one was reduced, as its notes say: for lru and MIN it is exact, for the others a few per
# cent off (SIEVE up to 15), so it shows how to look, not which of them is best.

# %% tags=["parameters"]
QUICK = True  # fewer sizes and policies; False for all of them
trace = "../traces/sqlite.parquet"
seed = 1

# %%
import edm_lab
import edm_sim
from edm_policy import evictors
from edm_workload import Trace

sizes = ["2%", "5%", "10%", "25%", "50%"]
if not QUICK:
    sizes = ["1%", "2%", "3%", "5%", "7%", "10%", "15%", "20%", "30%", "50%", "70%"]
names = ["lru", "clock", "sieve", "s3fifo", "arc"]
work = Trace.load(trace)
print(f"{work.name}: {len(work):,} records of {work.references:,} references")
print(f"to {work.footprint:,} pages of 4 KiB")
for name in names:
    if caveat := work.caveat(name, work.footprint // 4):
        print("note:", caveat)

# %% [markdown]
# ## What it looks like
#
# Which pages are touched when. Bands that return are what a policy can use; a diagonal is a scan.

# %%
edm_lab.plot_page_heat(work.dense("address"))
# %% [markdown]
# ## Miss-ratio curves
#
# Each policy as a classical cache that sees every access, at every size. Nothing can be below
# MIN: it knows the future.

# %%
curves = edm_sim.miss_ratio_curve(work, [*names, "belady"], sizes, seed=seed)
edm_lab.plot_miss_ratio(curves)
# %%
curves.pivot(index="size", columns="evict", values="miss_ratio").round(4)

# %% [markdown]
# ## What not seeing hits costs
#
# A page that is mapped is used without anybody noticing. Real memory can mark pages idle and see
# which of them fault again (a rescue), or go by the faults alone. The same policies, with less to
# see, at a quarter of the footprint:

# %%
chosen = names if QUICK else [n for n, i in evictors().items() if i.best != "faults"]
costs = edm_lab.observation_cost(work, [n for n in chosen if n != "belady"], "25%")
edm_lab.plot_observation(costs)
# %%
costs[["evict", "observe", "misses", "miss_ratio", "cost"]]

# %% [markdown]
# Read the lowest bar among *idle marks* and *faults only*: that is the policy for real memory.
# Then let `python -m edm_lab tune` choose its parameters, too.
