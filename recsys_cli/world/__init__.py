"""The synthetic social network: its people, content and behaviour, as a dataset and as a simulator."""
