"""Business rules: conditions on attributes in YAML, and what they do to candidates."""
