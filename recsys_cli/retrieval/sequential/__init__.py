"""Sources that read the order of what people did."""
