"""edm_lab."""
