"""The C extensions; everything else is in pyproject.toml."""

import sys

from setuptools import setup

modules = ["edm_policy/_build.py:ffibuilder", "edm_workload/_build.py:ffibuilder"]
if sys.platform == "linux":  # the simulator installs anywhere; only edm_real needs Linux
    modules.append("edm_real/_build.py:ffibuilder")

setup(cffi_modules=modules)
