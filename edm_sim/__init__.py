"""edm_sim."""
