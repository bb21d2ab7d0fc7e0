"""How far an export is, as it is told while the rows are written."""

import contextlib
from collections import Counter
from types import SimpleNamespace

import pyarrow as pa
import pytest

from recsys_cli.answers import export
from recsys_cli.progress import Progress


@pytest.mark.parametrize("shards", [1, 2])
def test_progress_of_an_export_counts_everybody_once(tmp_path, shards):
    done, table = [], pa.table({"user": [1]})

    class Bar(Progress):
        @contextlib.contextmanager
        def step(self, *about, **more):
            yield SimpleNamespace(advance=done.append)

    def write(stream, start, stop, advance):
        parts = (export.Rows(table, 1, (), Counter()) for _ in range(start, stop))
        return export.write_rows(stream, parts, "parquet", advance=advance)

    written = export.write_slates(write, 4, tmp_path / "slates", "parquet", shards=shards, progress=Bar())
    assert done == [1, 1, 1, 1] and written.users == written.rows == 4
