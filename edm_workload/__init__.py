"""edm_workload."""
