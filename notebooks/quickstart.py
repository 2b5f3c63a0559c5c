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
# # Quickstart: one experiment, two worlds
#
# **Question:** does the simulator fault as real memory does, and how long does a fault take?
#
# The same compiled policy drives both: once in a discrete-event model, once against real
# memory, where every page fault is resolved from user space (Linux userfaultfd).

# %% tags=["parameters"]
QUICK = True  # small sizes, a few seconds; False for figures worth keeping
seed = 1

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import edm_lab
import edm_real
import edm_sim
from edm_workload import Experiment, result

pages, refs = (4096, 40_000) if QUICK else (65_536, 2_000_000)
shares = ["10%", "25%", "50%", "75%"]

# %% [markdown]
# An experiment is one small table. As a file it is TOML; here it is made from options.

# %%
experiment = Experiment.from_options(
    trace="zipf:1.0", pages=pages, refs=refs, local="25%", evict="lpet", store="mem:", seed=seed
)
print(experiment.to_toml())

# %% [markdown]
# ## Both worlds, at four sizes of local memory
#
# The counts come from the policy's own state machine, so both worlds count alike. On real
# memory every page is checked against what was written to it (`verified`).

# %%
runs = []
for share in shares:
    at_size = experiment.with_(local=share)
    runs += [edm_sim.run(at_size), edm_real.run(at_size)]

frame = result.frame(runs)
frame[["driver", "limit", "refs", "faults", "evictions", "writebacks", "miss_ratio", "verified"]]

# %%
names = {"sim": "simulator", "real": "real memory"}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for (driver, label), style in zip(names.items(), edm_lab.styles(), strict=False):
    part = frame[frame["driver"] == driver]
    if driver == "real":  # open marks, so that the simulator's are seen below them
        style |= {"linestyle": "none", "markersize": 9, "markerfacecolor": "none"}
    left.plot(100 * part["limit"] / part["pages"], part["miss_ratio"], label=label, **style)
left.set_xlabel("local memory, % of the region")
left.set_ylabel("miss ratio")
left.set_ylim(bottom=0)
left.spines[["top", "right"]].set_visible(False)
left.legend(frameon=False)
left.set_title(f"{experiment.workload.trace}, {experiment.policy.evict}")

quarter = {r.driver: r.latency_us for r in runs if r.limit == pages // 4}
edm_lab.plot_latency({label: quarter[driver] for driver, label in names.items()}, ax=right)
right.set_title("a fault, as the program sees it (25 % local)");

# %% [markdown]
# The miss ratios lie on each other, because one state machine decided both. The latencies do
# not have to: the simulator's costs are defaults until they are calibrated on this machine.
#
# ## Reference by reference
#
# In lockstep (one thread, eviction before the faulter goes on) both worlds must write the
# very same decision log.

# %%
with tempfile.TemporaryDirectory() as folder:
    same = edm_lab.lockstep(experiment, Path(folder))
assert same.identical, same.context
print(f"{same.records:,} records, identical: {same.identical}, sha256 {same.digest}")
