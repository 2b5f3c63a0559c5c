"""The C extensions; everything else is in pyproject.toml."""

import os
import runpy
import sys

from setuptools import setup

modules = ["edm_policy/_build.py:ffibuilder", "edm_workload/_build.py:ffibuilder"]
libraries = []
if sys.platform == "linux":  # the simulator installs anywhere; only edm_real needs Linux
    modules.append("edm_real/_build.py:ffibuilder")
    if not os.environ.get("EDM_SANITIZE"):  # they take malloc over, too
        libraries.append(runpy.run_path("edm_real/_build.py")["preload"]())

setup(cffi_modules=modules, ext_modules=libraries)
