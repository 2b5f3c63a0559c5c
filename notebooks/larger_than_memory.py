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
# # A numpy array larger than memory
#
# **Question:** what does it cost to work on an array of which only a quarter fits?
#
# The array is plain numpy. Pages that do not fit go to a store, here to a file, and come back
# when they are touched, checked against the checksum they left with.

# %% tags=["parameters"]
QUICK = True  # 32 MiB of which 8 are local; False for 1 GiB and 256 MiB
seed = 1

# %%
import numpy as np

import edm_lab
from edm_real import Region

size, local = ("32MiB", "8MiB") if QUICK else ("1GiB", "256MiB")

# %% [markdown]
# ## The same work, with and without enough memory
#
# `region.watch()` shows below its cell what the region does, and renews it while later cells run.

# %%
region = Region(size, local=local, store="file:", evict="s3fifo", prefetch="nextn", name="demo")
region.watch(interval_s=0.5);

# %%
paged = region.array(np.float64, region.nbytes // 8)
plain = np.empty_like(paged, subok=False)
rng = np.random.default_rng(seed)
somewhere = rng.integers(0, len(plain), 20_000)
work = {
    "fill": lambda a: np.random.default_rng(seed).random(out=a),
    "sum": lambda a: a.sum(),
    "scale": lambda a: np.multiply(a, 2.0, out=a),
    "20,000 at random": lambda a: a[somewhere].sum(),
    "sort": lambda a: a.sort(),
}
runs = edm_lab.compare_arrays(region, paged, plain, work)
runs

# %% [markdown]
# Nothing was lost on the way:

# %%
assert np.array_equal(paged, plain)
stats = region.stats()
print(
    f"equal, {len(paged):,} numbers; {stats['faults']:,} faults, "
    f"{stats['evictions']:,} evictions, {stats['writebacks']:,} pages written"
)

# %%
edm_lab.plot_arrays(runs)
# %% [markdown]
# Work that goes through memory in order pays a little for each page, and a prefetcher hides part
# of it. Work at random pays a whole fault for a few bytes: sort such accesses, or block them, so
# that a page that came is used up before it goes.
#
# A region closes when nothing of it is left in use.

# %%
del paged
region.close()
