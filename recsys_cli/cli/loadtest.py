"""`recsys loadtest`."""
