"""Items alike by what they say and are about."""
