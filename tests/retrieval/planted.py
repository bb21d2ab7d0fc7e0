"""The small worlds of the tests of sources, which `check_retriever` builds too."""

from recsys_cli.testing.planted_world import DAY, NOW, edges, make_catalogue, make_log, make_window, planted

__all__ = ["DAY", "NOW", "edges", "make_catalogue", "make_log", "make_window", "planted"]
