"""What is opened without the registries is what the registries have."""

import subprocess
import sys

from recsys_cli.ranking.kind import SERVED_GRAPH
from recsys_cli.ranking.registry import RANKERS
from recsys_cli.ranking.serving.served import GRAPHS
from recsys_cli.retrieval.kinds import PLACES, source_class
from recsys_cli.retrieval.registry import SOURCES


def test_a_bundle_opens_the_class_of_the_registry():
    assert {kind: source_class(kind) for kind in SOURCES} == SOURCES
    assert PLACES.keys() <= SOURCES.keys()


def test_kinds_that_are_opened_as_graphs_are_served_as_graphs():
    assert {kind for kind, entry in RANKERS.items() if entry.serve is SERVED_GRAPH} >= GRAPHS


def test_the_engine_is_imported_without_what_training_alone_needs():
    program = (
        "import sys, recsys_cli.engine, recsys_cli.pipeline.answer_settings; from recsys_cli.retrieval.kinds import "
        "source_class; source_class('als'); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    registries = {"recsys_cli.retrieval.registry", "recsys_cli.ranking.registry"}
    assert not {"recsys_cli.settings", "torch", "polars", *registries} & set(loaded)
