"""Rows from files in each format; what is missing is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.tasks.datasets.dataset import DataSet
from rlm_eval.tasks.task import Pair


class Plain(DataSet):
    columns = ("id", "text")

    def build(self) -> Iterator[Pair]:
        return iter(())


class Other(Plain):
    columns = ("id", "answer", "gold")


ROWS = [{"id": str(i), "text": f"row {i}"} for i in range(40)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    table = pa.Table.from_pylist(ROWS)
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(table.slice(0, 25), folder / "data-00000.parquet")
    pq.write_table(table.slice(25), folder / "data-00001.parquet")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "data.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    pq.write_table(table, tmp_path / "rows.parquet")
    names = ("rows.jsonl", "rows.json", "data.json", "rows.parquet", "folder")
    return {name: tmp_path / name for name in names}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "data.json", "rows.parquet", "folder"])
def test_every_format_reads_the_same_rows(files: dict[str, Path], name: str) -> None:
    task = Plain(path=str(files[name]))
    assert list(task.rows()) == ROWS
    assert task.source is not None
    assert len(task.source["sha256"]) == 64


def test_record_holds_the_hash_of_the_file(files: dict[str, Path]) -> None:
    path = files["rows.jsonl"]
    assert Plain(path=str(path)).source == {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_a_missing_column_is_named(files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"no column answer, gold; it has id, text"):
        Other(path=str(files["rows.parquet"]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "is no file"),
        ("rows.tsv", "a,b", "none of .jsonl"),
        ("bad.jsonl", '{"id": 1, "text": 2}\n{oops', "line 2 can't be read"),
        ("list.jsonl", "[1]", "must be a JSON object"),
        ("bad.json", "{", "can.t be read"),
        ("odd.json", '{"rows": []}', "can.t be read"),
        ("empty.jsonl", "", "no rows"),
        ("bad.parquet", "text", "Parquet file size is 4 bytes"),
    ],
)
def test_bad_files_are_one_clear_line(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        list(Plain(path=str(path)).rows())


def test_an_empty_folder_and_an_unpinned_hub_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no \.parquet"):
        Plain(path=str(tmp_path))
    with pytest.raises(ConfigError, match="revision must be a commit"):
        Plain(hub="some/set")
    with pytest.raises(ConfigError, match="path is missing"):
        Plain()
    pinned = Plain(hub="some/set", config="c", split="s", revision="abc")
    assert pinned.source == {"hub": "some/set", "config": "c", "split": "s", "revision": "abc"}
