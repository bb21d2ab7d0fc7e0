"""What many turn to."""
