"""edm_policy."""
