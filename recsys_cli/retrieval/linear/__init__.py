"""Items scored by a matrix of items × items: EASE, SLIM, graph filters."""
