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
# # Several instances, and memory units that hold copies
#
# **Question:** what do copies of each page on several memory units buy: in the tail of the latency,
# and when a unit fails?
#
# All of this is simulated: racks of machines are dear. The simulator checks itself at the end of
# every run: no page without an owner, no message unaccounted for.

# %% tags=["parameters"]
QUICK = True  # a short workload; False for figures worth keeping
seed = 1

# %%
import edm_lab
import edm_sim
from edm_workload import Experiment

refs = 40_000 if QUICK else 400_000

# %% [markdown]
# ## The tail
#
# Each page on two of three units, whose service time has a tail. `one` asks one unit, `first` both
# and takes the first answer, `hedged` the second one only if the first is late. What a shorter tail
# costs is requests.

# %%
replicated = Experiment.load("../experiments/5-replicas.toml").with_(refs=refs, seed=seed)
points = [replicated.with_(read="one"), replicated.with_(read="first")]
points += [replicated.with_(read="hedged", hedge_us=after) for after in (10, 20, 40, 80)]
swept = edm_sim.sweep(points)
assert not swept.failures, swept.failures
edm_lab.plot_replicas(swept.frame, "p99");

# %%
columns = ["read", "hedge_us", "unit_reads", "fetches", "latency_us_p50", "latency_us_p99"]
swept.frame[columns].round(1)

# %% [markdown]
# ## Failures
#
# 32 instances over 8 units with two copies of each page: a unit crashes, one is slow, one stalls,
# and one instance is taken back by its cloud. With one copy the same crash loses pages.

# %%
rack = Experiment.load("../experiments/rack-with-failures.toml").with_(seed=seed)
seen = edm_sim.observe(rack, interval_us=500)
edm_lab.plot_timeline(seen.series, rack.sim.failures, smooth=5);

# %%
alone = edm_sim.run(rack.with_(replicas=1))
for copies, run in ((2, seen.result), (1, alone)):
    print(
        f"{copies} copies: {run.extra['lost_pages']} pages lost, "
        f"{run.elapsed_s * 1000:.0f} ms, p99 {run.latency_us['p99']:.0f} µs"
    )

# %% [markdown]
# ## Who disturbs whom
#
# Mean answer of each unit to each instance: a unit that was slow stands out as a column.

# %%
edm_lab.plot_interference(seen.answers);

# %% [markdown]
# ## One region for several instances
#
# Three instances share one region: a page that another one has is handed over through the DMS.

# %%
shared = Experiment.load("../experiments/4-several-instances.toml").with_(seed=seed)
for instances in (1, 2, 3):
    run = edm_sim.run(shared.with_(instances=instances, refs=refs // 4))
    per = run.extra["hand_overs"] / max(1, run.fetches)
    print(
        f"{instances} instances: {run.fetches:,} fetches, {per:.0%} of them from another instance, "
        f"p50 {run.latency_us['p50']:.1f} µs"
    )
