"""edm_real."""
