"""Windows: what is learned from, what is trained on, what only measures."""
