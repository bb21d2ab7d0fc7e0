"""Items as dense vectors of what they say: encoders, semantic ids, and a source that compares them with a history."""
