"""Thousands of spoilt inputs: each is imported with every row accounted for, or refused in one or two lines."""

from __future__ import annotations

import copy
import io
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.append import append_dataset
from recsys_cli.data.importer.guess.plan import guess
from recsys_cli.data.importer.guess.write import mapping_text
from recsys_cli.data.importer.mapping import Mapping, read_mapping
from recsys_cli.data.importer.preview import preview
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.validate import validate_dataset
from recsys_cli.errors import RecsysError

ODD = [
    "", " ", "nan", "NULL", "007", "1_0", "1.0", "-0", "1e400", "inf", '"', '""', "\\", "a,b", "a\nb", "a\rb", "\x00",
    "é", "😀", "\ufeff", "[/z]", "['a', 'b']", "[1, null]", "{}", "9" * 30, "2024-02-30", "2021-03-28 02:30:00",
    "1600000000", "-1", "true", "Yes", "x" * 600, "1,299.00", "N1-1", "\t",
]
BYTES = [b'"', b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b",", b"\\", b"\x1f\x8b", b"[", b"}", b"'"]
MAPPING = {
    "name": "fuzz",
    "max_reject_share": 1,
    "unknown_items": "add",
    "items": {
        "files": "items.csv",
        "columns": {"item_id": "i", "author_id": "a", "topics": {"column": "tags", "separator": "|"}},
        "attributes": {"price": "float", "*": {}},
        "duplicates": "first",
    },
    "impressions": {
        "files": "log.csv",
        "columns": {"user_id": "u", "item_id": "i", "timestamp": {"column": "t", "unit": "s"}, "position": "p"},
        "actions": {"click": "c", "like": {"column": "p", "at_least": 2, "default": 0}},
    },
    "follows": {"files": "follows.csv", "columns": {"follower_id": "u", "followee_id": "a"}, "both_ways": False},
}
SPOILT = {
    "user_ids": ["integer", "text", "auto", "none"],
    "item_ids": ["integer", "text", "nonsense"],
    "authors_are_users": [True, "perhaps"],
    "unknown_items": ["reject", "ad"],
    "drop_exact_repeats": [True],
    "max_reject_share": [0.3, -1, "x"],
    "missing": [["nan", "-1"], None, 7],
    "name": [None, "[/z]"],
}
OF_PART = {
    "separator": [";", "::", "", "\t", None],
    "quote": ["none", "'", "ab"],
    "encoding": ["latin-1", "utf-16", "utf-9"],
    "header": [False],
    "escape": ["\\", "xx"],
    "format": ["jsonl", "parquet", "adjacency", "sequences", "grouped", "xlsx"],
    "explode": ["u", "tags", {"column": "i", "separator": "|"}, 3],
    "names": [["u", "i", "t", "p", "c"], ["u"], "u"],
    "longest_field": [1, 0],
}


def tables(rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    n = int(rng.integers(1, 40))
    return {
        "log": pl.DataFrame(
            {
                "u": rng.integers(0, 9, n),
                "i": rng.integers(0, 9, n),
                "t": 1_600_000_000 + np.arange(n),
                "p": rng.integers(0, 5, n),
                "c": rng.integers(0, 2, n),
            }
        ),
        "items": pl.DataFrame({"i": range(6), "a": [n % 3 for n in range(6)], "tags": ["x|y"] * 6, "price": [1.5] * 6}),
        "follows": pl.DataFrame({"u": rng.integers(0, 9, 5), "a": rng.integers(0, 3, 5)}),
    }


def spoil(rng: np.random.Generator, folder: Path) -> dict:
    """Write a spoilt input into a folder; returns its mapping."""
    mapping, form = copy.deepcopy(MAPPING), str(rng.choice(["csv", "csv", "jsonl", "parquet"]))
    found = {}
    for name, frame in tables(rng).items():
        for _ in range(int(rng.integers(0, 4))):
            column, row = str(rng.choice(frame.columns)), int(rng.integers(frame.height))
            values = frame[column].cast(pl.String).to_list()
            values[row] = None if rng.random() < 0.1 else str(rng.choice(ODD))
            frame = frame.with_columns(pl.Series(column, values, dtype=pl.String))
        found[name] = frame
    for name, frame in found.items():
        out = io.BytesIO()
        if form == "csv":
            frame.write_csv(out, quote_style=str(rng.choice(["necessary", "always", "never"])))
        elif form == "jsonl":
            out.write("\n".join(json.dumps(row) for row in frame.to_dicts()).encode())
        else:
            frame.write_parquet(out)
        content = bytearray(out.getvalue())
        for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.5 else 0):
            at = int(rng.integers(len(content) + 1))
            content[at : at + int(rng.integers(0, 3))] = BYTES[rng.integers(len(BYTES))]
        if rng.random() < 0.05:
            content = content[: int(rng.integers(len(content)))]
        (folder / f"{name}.{form}").write_bytes(bytes(content))
        mapping["impressions" if name == "log" else name]["files"] = f"{name}.{form}"
    if rng.random() < 0.3:
        key = str(rng.choice(list(SPOILT)))
        mapping[key] = SPOILT[key][rng.integers(len(SPOILT[key]))]
    if rng.random() < 0.3:
        key, part = str(rng.choice(list(OF_PART))), str(rng.choice(["items", "impressions", "follows"]))
        mapping[part][key] = OF_PART[key][rng.integers(len(OF_PART[key]))]
    if rng.random() < 0.1:
        mapping["follows"]["both_ways"] = True
    return mapping


def try_one(seed: int, folder: Path) -> bool:
    """Whether a spoilt input was imported; fails where it was neither imported whole nor refused well."""
    rng = np.random.default_rng(seed)
    source, target = folder / "from", folder / "to"
    shutil.rmtree(folder, ignore_errors=True)
    source.mkdir(parents=True)
    mapping = spoil(rng, source)
    (folder / "map.yaml").write_text(yaml.safe_dump(mapping, allow_unicode=True))
    try:
        summary = import_dataset(read_mapping(folder / "map.yaml"), source, target)
    except RecsysError as error:
        assert error.exit_code in (2, 3, 4), f"seed {seed}: exit code {error.exit_code}: {error}"
        assert error.message.count("\n") == 0 and not target.exists(), f"seed {seed}: {error}"
        return False
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    for table, counts in summary["tables"].items():
        accounted = counts["read"] - counts["rejected"] - counts["merged"] + counts["added"]
        assert counts["rows"] == accounted, f"seed {seed}: {table} {counts}"
    bad = [c for c in validate_dataset(target) if not c.ok]
    assert not bad, f"seed {seed}: {bad[0]}"
    assert Dataset.open(target).log is not None
    assert sorted(p.name for p in folder.iterdir()) == ["from", "map.yaml", "to"], f"seed {seed}"
    return True


def test_spoilt_inputs_are_imported_whole_or_refused(tmp_path):
    done = [try_one(seed, tmp_path / "case") for seed in range(40)]
    assert 5 < sum(done) < 40


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_two_thousand_spoilt_inputs_are_imported_whole_or_refused(tmp_path, part):
    for seed in range(1000 + 100 * part, 1100 + 100 * part):
        try_one(seed, tmp_path / "case")


def try_guess(seed: int, folder: Path) -> bool:
    """Whether a mapping that reads was guessed from spoilt files; fails where neither that nor a refusal came."""
    rng = np.random.default_rng(seed)
    source = folder / "from"
    shutil.rmtree(folder, ignore_errors=True)
    source.mkdir(parents=True)
    spoil(rng, source)
    try:
        found = guess([source])
        (folder / "map.yaml").write_text(mapping_text(found, "map.yaml", "to"))
        read_mapping(folder / "map.yaml")
    except RecsysError as error:
        assert error.exit_code == 4, f"seed {seed}: {error}"
        assert error.message.count("\n") == 0, f"seed {seed}: {error}"
        return False
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    try:
        preview(read_mapping(folder / "map.yaml"), found.folder)
    except RecsysError as error:
        assert error.exit_code in (3, 4), f"seed {seed}: {error}"
    return True


def try_append(seed: int, folder: Path) -> bool:
    """Whether spoilt files were appended to a dataset; fails where rows are lost or the dataset is harmed."""
    rng = np.random.default_rng(seed)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "from").mkdir(parents=True)
    (folder / "more").mkdir()
    clean = copy.deepcopy(MAPPING)
    for name, frame in tables(rng).items():
        frame.write_csv(folder / "from" / f"{name}.csv")
    import_dataset(Mapping.model_validate(clean), folder / "from", folder / "to")
    before = (folder / "to" / "dataset.json").read_bytes()
    mapping = spoil(rng, folder / "more")
    (folder / "map.yaml").write_text(yaml.safe_dump(mapping, allow_unicode=True))
    try:
        summary = append_dataset(read_mapping(folder / "map.yaml"), folder / "more", folder / "to")
    except RecsysError as error:
        assert error.exit_code in (2, 3, 4), f"seed {seed}: exit code {error.exit_code}: {error}"
        assert (folder / "to" / "dataset.json").read_bytes() == before, f"seed {seed}"
        return False
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    for table, counts in summary["tables"].items():
        accounted = counts["read"] - counts["rejected"] - counts["merged"] + counts["added"]
        assert counts["rows"] - counts["before"] == accounted, f"seed {seed}: {table} {counts}"
    bad = [c for c in validate_dataset(folder / "to") if not c.ok]
    assert not bad, f"seed {seed}: {bad[0]}"
    digest = Dataset.open(folder / "to").manifest.digest
    append_dataset(read_mapping(folder / "map.yaml"), folder / "more", folder / "to")
    assert Dataset.open(folder / "to").manifest.digest == digest, f"seed {seed}: a second time adds something"
    assert sorted(p.name for p in folder.iterdir()) == ["from", "map.yaml", "more", "to"], f"seed {seed}"
    return True


def test_spoilt_files_are_guessed_and_appended_or_refused(tmp_path):
    assert sum(try_guess(seed, tmp_path / "case") for seed in range(30)) > 5
    assert sum(try_append(seed, tmp_path / "case") for seed in range(20)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_many_spoilt_files_are_guessed_and_appended_or_refused(tmp_path, part):
    for seed in range(5000 + 60 * part, 5060 + 60 * part):
        try_guess(seed, tmp_path / "case")
        try_append(seed, tmp_path / "case")
