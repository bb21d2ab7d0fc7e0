"""The server: pools of candidates, requests, events, keys and limits, and what speaks to it."""
