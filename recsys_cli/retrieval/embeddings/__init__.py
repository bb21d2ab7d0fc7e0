"""Embeddings that torch trains: two towers, LightGCN, TwHIN."""
