"""What the rankers see: features defined once, counted as of each impression or as of now."""
