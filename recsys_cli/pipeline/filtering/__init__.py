"""Filters that `pipeline.stages` can add: what a user asked not to see, cannot see, or has as good as seen."""
