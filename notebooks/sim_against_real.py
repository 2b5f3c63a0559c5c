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
# # Simulator against real memory
#
# **Question:** how far is the simulator off, and where does the difference come from?
#
# Both worlds run in turn, several times. Beside the simulator's error stands the spread of the real
# runs themselves: no model can be told apart from the machine below it.

# %% tags=["parameters"]
QUICK = True  # few points, two runs of each; False for more of both
seed = 1

# %%
from pathlib import Path

import pandas as pd

import edm_lab
from edm_lab import calibration as calibrations
from edm_workload import Experiment

pages, refs, repeats = (4096, 40_000, 2) if QUICK else (32_768, 1_000_000, 7)
shares = ["25%"] if QUICK else ["10%", "25%", "50%", "75%"]
policies = ["lpet", "s3fifo"] if QUICK else ["lpet", "s3fifo", "sieve", "clock", "arc", "mglru"]
base = Experiment.from_options(trace="zipf:1.0", pages=pages, refs=refs, local="25%", seed=seed)

# %% [markdown]
# ## What this machine's own work costs
#
# Measured inside the runtime, on workloads of its own, never on those compared below: half
# a minute, or more for less noise.

# %%
calibration = calibrations.make(quick=QUICK)
for line in calibrations.warnings(calibration):
    print("warning:", line)
print(f"a fault of the anchor took {calibration.anchor_ns / 1000:.2f} µs")

# %% [markdown]
# ## One experiment
#
# `error` is simulator over real memory, less 1. Counts come from one state machine, fed by two
# drivers; they differ only where timing decides (did LPET get there before the next fault?).

# %%
comparison = edm_lab.compare(base, repeats, calibration=calibration)
assert comparison.verified
comparison.frame.style.format("{:,.4g}", subset=["sim", "real"]).format(
    "{:+.1%}", subset=["error", "repeat_error"]
)

# %%
comparison.plot();

# %% [markdown]
# ## Several
#
# Every policy at every size; a point is a comparison, the grey band 10 %.

# %%
comparisons = [
    edm_lab.compare(base.with_(evict=evict, local=share), repeats, calibration=calibration)
    for evict in policies
    for share in shares
]
edm_lab.plot_scatter(comparisons);

# %%
metrics = ["faults", "evictions", "writebacks", "elapsed_s", "latency_us_mean"]
labels = [f"{c.experiment.policy.evict}, {c.experiment.memory.local}" for c in comparisons]
errors = pd.DataFrame([c.frame["error"][metrics] for c in comparisons], index=labels)
errors.style.format("{:+.1%}")

# %% [markdown]
# ## Without any timing
#
# In lockstep eviction ends before the faulting thread goes on. Then both worlds must take the same
# decisions, one by one: their logs are compared byte by byte.

# %%
import tempfile

with tempfile.TemporaryDirectory() as folder:
    for evict in policies:
        same = edm_lab.lockstep(base.with_(evict=evict), Path(folder))
        assert same.identical, same.context
        print(f"{evict:10} {same.records:,} records, identical")

# %% [markdown]
# What remains is time. `python -m edm_lab compare` shows where it went, component by component, and
# with `--matrix` does it for many policies, workloads and stores.
