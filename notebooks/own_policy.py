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
# # Your own policy, in both worlds
#
# **Question:** does an idea for a policy work, in the simulator and on real memory?
#
# A policy is a Python class with three methods. It is asked by the same state machine that asks
# the compiled ones, and what it decides can be compared with theirs, one by one.

# %% tags=["parameters"]
QUICK = True  # small sizes; False for figures worth keeping
seed = 1

# %%
from collections import deque

import pandas as pd

import edm_lab
import edm_real
import edm_sim
from edm_policy import EvictionPolicy
from edm_policy.checker import first_difference
from edm_workload import Experiment, result, synth

pages, refs = (2048, 40_000) if QUICK else (16_384, 1_000_000)

# %% [markdown]
# ## An idea
#
# Newcomers leave soon, unseen hits or not. Who comes back shortly after it left has shown that it
# is wanted, and is kept in a second queue, where it goes round again as long as it is used.


# %%
class Returning(EvictionPolicy):
    """Two queues: newcomers in the short one, those that came back soon in the long one."""

    needs, best = "faults", "idle"  # the least it can live with; what it is made for
    share = 0.1  # of the local memory that is for newcomers

    def start(self, pages, limit):
        self.new, self.kept, self.gone = deque(), deque(), {}
        self.most, self.room = limit, max(1, int(limit * self.share))

    def insert(self, page):  # it is resident now
        if page in self.gone:
            del self.gone[page]
            self.kept.append(page)
        else:
            self.new.append(page)

    def choose(self):  # the victim leaves the records; None: there is none
        if self.new and (len(self.new) > self.room or not self.kept):
            page = self.new.popleft()
            self.gone[page] = True
            if len(self.gone) > self.most:
                del self.gone[next(iter(self.gone))]  # the one that left longest ago
            return page
        while self.kept:
            if not self.used(self.kept[0]):
                return self.kept.popleft()
            self.kept.rotate(-1)
        return None

    def remove(self, page):  # it leaves by another way
        (self.new if page in self.new else self.kept).remove(page)


# %% [markdown]
# ## Is it any good? Miss-ratio curves
#
# Against compiled policies, and against MIN, on skewed references. `idle` is what
# real memory can show.

# %%
trace = synth("zipf:1.0", pages=pages, refs=refs, seed=seed)
sizes = ["5%", "10%", "20%", "40%", "60%"]
curves = [
    edm_sim.miss_ratio_curve(trace, [Returning, "lpet", "s3fifo"], sizes, observe="idle"),
    edm_sim.miss_ratio_curve(trace, ["belady"], sizes),
]
edm_lab.plot_miss_ratio(pd.concat(curves));

# %% [markdown]
# ## Where does it part from the nearest compiled policy?

# %%
print(first_difference(Returning, "lpet", trace.arrays()[0], pages // 10, "idle"))

# %% [markdown]
# ## Both worlds
#
# On real memory the class runs where no Python code faults: in the replay loop. It is named as
# `module:Class`; here the module is this notebook.

# %%
experiment = Experiment.from_options(
    trace="zipf:1.0", pages=pages, refs=refs, local="10%", store="mem:", seed=seed
)
runs = []
for evict in ("__main__:Returning", "lpet", "s3fifo"):
    one = experiment.with_(evict=evict)
    runs += [edm_sim.run(one), edm_real.run(one)]
frame = result.frame(runs)
assert frame["verified"].dropna().all()
frame[["driver", "evict", "faults", "rescues", "evictions", "writebacks", "miss_ratio"]]

# %%
edm_lab.plot_worlds(runs, "miss_ratio", "miss ratio");

# %% [markdown]
# A callback costs about half a microsecond of Python. When the idea has proved itself, a file in
# `edm_policy/c` makes it as fast as the others; `first_difference` shows that both are the same.
