"""Labels are read from files of any form; what cannot be a label is refused with file and line."""

import gzip

import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.errors import DataError, UsageError
from recsys_cli.safety.labels import LabelOptions, from_dataset, from_files

SPAM = LabelOptions(label="kind", positive=("spam",), text=("message",))


def write(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


def refused(match, files, options=SPAM):
    with pytest.raises(DataError, match=match) as error:
        from_files(files, options)
    assert error.value.exit_code == 4 and error.value.hint
    return str(error.value)


def test_csv_tsv_json_lines_and_parquet_read_alike(tmp_path):
    rows = [("spam", 'win "big", now'), ("ham", "see you\nlater"), ("ham", "ok")]
    frame = pl.DataFrame(rows, schema=["kind", "message"], orient="row")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        found = from_files([tmp_path / name], SPAM)
        assert (found.texts, found.labels.tolist()) == ([t for _, t in rows], [True, False, False])
    # in TSV a quote is a sign like any other
    tsv = write(tmp_path / "a.tsv", 'kind\tmessage\nspam\twin "big\nham\tok\n')
    assert from_files([tsv], SPAM).texts == ['win "big', "ok"]
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert len(from_files([packed, tsv], SPAM)) == 5


def test_files_without_a_header_have_numbered_columns(tmp_path):
    file = write(tmp_path / "a.tsv", "7\tfalse\tfirst\tart\n8\ttrue\tsecond\tjazz\n")
    options = LabelOptions(label="2", positive=("false",), text=("3", "4"), header=False)
    assert from_files([file], options).texts == ["first 4__art", "second 4__jazz"]
    refused("no column '9'", [file], LabelOptions(label="9", positive=("false",), text=("3",), header=False))


def test_yes_and_no_need_no_naming_and_numbers_a_threshold(tmp_path):
    file = write(tmp_path / "a.csv", "text,toxicity,score\na,1,0.2\nb,0,0.9\nc,TRUE,0.6\n")
    assert from_files([file], LabelOptions(label="toxicity")).labels.tolist() == [True, False, True]
    assert from_files([file], LabelOptions(label="score", above=0.5)).labels.tolist() == [False, True, True]
    bad = write(tmp_path / "b.csv", "text,score\na,0.2\nb,high\n")
    assert "b.csv line 3: label 'high' is not a number" in refused(
        "line 3", [bad], LabelOptions(label="score", above=0.5)
    )


def test_values_outside_those_named_are_refused_with_their_line(tmp_path):
    file = write(tmp_path / "a.csv", "kind,message\nspam,a\nham,b\nsapm,c\n")
    options = LabelOptions(label="kind", positive=("spam",), negative=("ham",), text=("message",))
    assert "a.csv line 4: label 'sapm' is none of spam, ham" in refused("line 4", [file], options)
    empty = write(tmp_path / "b.csv", "kind,message\nspam,a\n,b\n")
    assert "b.csv line 3: label '' is empty" in refused("line 3", [empty])
    unnamed = LabelOptions(label="kind", text=("message",))
    assert "--positive" in refused("line 2: label 'spam'", [file], unnamed)


def test_one_class_alone_is_refused_with_what_there_is(tmp_path):
    file = write(tmp_path / "a.csv", "kind,message\nham,a\nham,b\n")
    assert "'ham'" in refused("every label is negative", [file])


def test_missing_files_and_columns_are_named(tmp_path):
    refused("no file", [tmp_path / "none.csv"])
    file = write(tmp_path / "a.csv", "kind,mesage\nspam,a\n")
    assert "did you mean 'mesage'" in refused("no column 'message'", [file])
    refused("has no rows", [write(tmp_path / "b.csv", "kind,message\n")])
    refused("empty", [write(tmp_path / "c.csv", "")])


def test_other_encodings_are_named_by_line_and_read_when_told(tmp_path):
    file = write(tmp_path / "a.csv", "kind,message\nspam,a\nham,schön\n", "latin-1")
    assert "a.csv line 3" in refused("not utf-8", [file]) and "--encoding" in refused("not utf-8", [file])
    options = LabelOptions(label="kind", positive=("spam",), text=("message",), encoding="latin-1")
    assert from_files([file], options).texts[1] == "schön"


def test_rows_of_another_width_are_left_out_while_they_are_few(tmp_path):
    rows = "".join(f"{'spam' if i % 3 else 'ham'},text {i}\n" for i in range(300))
    file = write(tmp_path / "a.csv", f"kind,message\n{rows}spam,a,b\n")
    assert from_files([file], SPAM).left_out == {"rows of another width": 1}
    assert "line 2" in refused("fields where 2 are due", [write(tmp_path / "b.csv", "kind,message\nspam,a,b\nham,c\n")])


def test_rows_without_a_text_are_left_out_and_counted(tmp_path):
    file = write(tmp_path / "a.csv", "kind,message\nspam,a\nham,\nham,  \nham,b\n")
    found = from_files([file], SPAM)
    assert len(found) == 2 and found.left_out == {"rows without text": 2}


def test_a_column_of_the_items_is_read_where_it_is_known(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    found = from_dataset(dataset, LabelOptions(label="toxicity", above=0.1))
    assert len(found) == 120 and 0 < found.labels.sum() < 120
    assert found.labels.tolist() == (dataset.items["toxicity"] > 0.1).to_list()
    with pytest.raises(DataError, match="no column 'toxicty'") as error:
        from_dataset(dataset, LabelOptions(label="toxicty"))
    assert "did you mean 'toxicity'" in error.value.hint


def test_contradictory_options_are_refused():
    with pytest.raises(UsageError):
        LabelOptions(label="a", positive=("1",), above=0.5)
    with pytest.raises(UsageError):
        LabelOptions(label="a", positive=("1",), negative=("1",))


def test_rows_of_one_text_stay_together_and_train_rows_that_the_test_holds_are_left_out(tmp_path):
    from recsys_cli.safety.train import _split, _without

    rows = [f"text {'abcdefgh'[n % 8]}{'xyz'[n % 3]},{n % 2}" for n in range(240)]
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    labelled = from_files([tmp_path / "a.csv"], LabelOptions(label="label"))
    train, test = _split(labelled, 0.25, 0)
    assert not set(train.texts) & set(test.texts) and len(train) + len(test) == 240
    (tmp_path / "b.csv").write_text("text,label\nTEXT ax,1\nother one,0\n")
    published = from_files([tmp_path / "b.csv"], LabelOptions(label="label"))
    kept = _without(labelled, published)
    assert "text ax" not in kept.texts and len(kept) == 230
    assert labelled.left_out == {"rows whose text is among the test rows": 10}
