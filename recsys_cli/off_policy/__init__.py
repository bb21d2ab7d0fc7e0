"""`recsys off-policy`: a policy judged, or learned, from the log of another."""
