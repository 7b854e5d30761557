"""A run again from its record: tables rebuilt, answers judged anew."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import yaml

from helpers.commands import replay as main
from helpers.commands import report
from helpers.recorded_runs import copied, edited, record_run
from helpers.some_records import some_call, some_result
from rlm_eval.analysis.load import load_results
from rlm_eval.commands.replay import DERIVED, differences, rebuild, rescore
from rlm_eval.config.compose import recorded_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import FILE_NAME, Journal
from rlm_eval.records import Sample, Score

#: Of runs that are not finished (begun/) nothing is derived yet.
PUBLISHED = sorted(
    p.parent
    for p in Path(__file__).parents[2].glob("results/published/**/journal.jsonl*")
    if "begun" not in p.parts
)
CONTROLS = Path(__file__).parents[2] / "results/published/controls"


def test_a_report_says_where_tables_lag_behind_the_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a run that went on was killed."""
    run = record_run(tmp_path)
    table = pd.read_parquet(run / "results.parquet")
    table.iloc[1:].to_parquet(run / "results.parquet")
    assert report([str(run)]) == 0
    there = f"its journal has {len(table)} results, its tables {len(table) - 1}: run its command"
    assert there in capsys.readouterr().err


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_run(tmp_path_factory.mktemp("runs"))


# -- tables ----------------------------------------------------------------------------------


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from [node["_target_"]] if "_target_" in node else []
        node = list(node.values())
    for value in node if isinstance(node, list) else ():
        yield from targets(value)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda p: p.name)
def test_what_is_published_is_what_its_journal_says(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, and the summary as bytes of CSV."""
    monkeypatch.syspath_prepend(CONTROLS)  # a method that lies beside its run
    assert main([str(published)]) == 0
    assert (published / "summary.csv").is_file()
    for target in targets(recorded_tree(published)):  # still there, whatever revision recorded it
        module, _, name = target.rpartition(".")
        assert hasattr(importlib.import_module(module), name), target


def test_there_is_something_published() -> None:
    assert PUBLISHED


def test_a_run_is_rebuilt_from_its_journal_byte_by_byte(run_dir: Path, tmp_path: Path) -> None:
    rebuild(run_dir, tmp_path)
    for name in DERIVED:
        if name.endswith(".csv"):
            assert (tmp_path / name).read_bytes() == (run_dir / name).read_bytes(), name
        else:
            stored, rebuilt = pd.read_parquet(run_dir / name), pd.read_parquet(tmp_path / name)
            pd.testing.assert_frame_equal(stored, rebuilt)
    assert len(load_results(tmp_path)) == 6


@pytest.mark.parametrize("is_packed", [False, True])
def test_it_needs_the_journal_alone(
    run_dir: Path, tmp_path: Path, is_packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(run_dir / FILE_NAME, alone / FILE_NAME)
    if is_packed:
        subprocess.run(["gzip", "-r", alone], check=True)
    assert main([str(alone), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "nothing lies beside it" in out[0]
    assert out[-1] == str(tmp_path / "out")
    assert (tmp_path / "out/calls.csv").read_bytes() == (run_dir / "calls.csv").read_bytes()
    assert (tmp_path / "out/figures").is_dir()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score": 0.5}, ["results.parquet differs from the journal in score, in 6 rows"]),
        ({"wall_s": 1.0}, ["results.parquet differs from the journal in wall_s, in 6 rows"]),
        ({"made_up": 1}, ["results.parquet has other columns than the journal gives: made_up"]),
        (None, ["results.parquet has 5 rows, the journal gives 6"]),
        ({}, []),
    ],
)
def test_how_a_table_differs_is_told(
    run_dir: Path, tmp_path: Path, change: Mapping[str, object] | None, told: list[str]
) -> None:
    path = run_dir / "results.parquet"
    stored = pd.read_parquet(path)
    stored = stored.iloc[:5] if change is None else stored.assign(**change)
    stored.to_parquet(tmp_path / path.name)
    assert differences(tmp_path / path.name, path) == told


def test_a_table_that_was_changed_is_exit_code_1(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One character of the summary."""
    copy = copied(run_dir, tmp_path)
    path = copy / "summary.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.assign(n=["1", *frame.n[1:]]).to_csv(path, index=False)
    assert main([str(copy)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [f"{copy}: summary.csv differs from the journal in n, in 1 rows"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere holds no journal"),
        (["a", "b", "--out", "c"], "name a single one"),
    ],
)
def test_bad_input_is_exit_code_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


def test_the_command_loads_no_model_and_no_network() -> None:
    code = (
        "import sys, rlm_eval.commands.replay\n"
        "heavy = ('litellm', 'httpx', 'xllamacpp', 'datasets', 'pandas')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- scores ----------------------------------------------------------------------------------


def test_answers_are_judged_anew_and_the_record_stays(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if an older scorer had found every answer right: those of the fake model are wrong."""
    copy = copied(run_dir, tmp_path)

    def generous(event: dict[str, Any]) -> dict[str, Any]:
        if event["type"] == "result" and event["method"] == "direct":
            event["score"] = {"value": 1.0, "parsed": "fine", "readings": {"official": 0.5}}
        return event

    edited(copy, generous)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    assert main([str(copy), "--rescore"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.count("→") for line in out] == [1, 1, 0, 0]
    assert "direct" in out[0]
    assert "1 (official 0.5, right, read as 'fine') → 0 (official 0, wrong" in out[0]
    assert out[-2].startswith("2 of ")
    rescored = pd.read_parquet(copy / "results_rescored.parquet")
    recorded = pd.read_parquet(copy / "results.parquet")
    assert rescored[rescored.method == "direct"].score.tolist() == [0.0, 0.0]
    others = [c for c in recorded.columns if "score" not in c and c not in ("correct", "skill")]
    pd.testing.assert_frame_equal(rescored[others], recorded[others])
    assert {p: p.read_bytes() for p in before} == before


def test_the_present_scorer_agrees_with_itself(run_dir: Path, tmp_path: Path) -> None:
    assert rescore(run_dir, tmp_path / "out") == 0
    assert len(pd.read_csv(tmp_path / "out/results_rescored.csv")) == 6


class Verdicts:
    """A task judged by a model: ``yes`` scores ``worth``. Its samples are not needed to judge."""

    name, tokenizer, judge_tokens, judge_repeats = "verdicts", "cl100k_base", 8, 1
    seal: ClassVar[Callable[..., str] | None] = None

    def __init__(self, worth: float = 1.0, judge: str | None = "equivalence") -> None:
        self.worth, self.judge = worth, judge

    def judge_values(self, sample: Sample, answer: str) -> Mapping[str, object]:
        return {"question": sample.question, "gold": sample.gold, "answer": answer}

    def judged(self, sample: Sample, answer: str, verdict: str) -> Score | None:
        value = self.worth * (verdict == "yes")
        return Score(value, verdict)

    def score(self, sample: Sample, answer: str) -> Score:
        raise AssertionError("the official score is the judge's")


def test_a_judges_recorded_verdict_is_read_again(tmp_path: Path) -> None:
    """The last one of the last try: the first try's was no, and one attempt failed."""
    sample = replace(some_result().sample, task="verdicts")
    judged = some_result(sample=sample, restart=1, score=Score(1.0, "yes"))
    with Journal(tmp_path) as journal:
        for restart, attempt, error, reply in (
            (0, 1, "", "no"),
            (1, 1, "timeout: late", ""),
            (1, 2, "", "yes"),
        ):
            told = {"restart": restart, "attempt": attempt, "error": error, "role": "judge"}
            journal.call(some_call(f"c{restart}", **told), reply)
        journal.result(judged)
    task = {"_target_": "test_replay.Verdicts", "worth": 0.5}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"task": task}))
    assert rescore(tmp_path, tmp_path / "out", ["test_replay"]) == 1
    (row,) = pd.read_parquet(tmp_path / "out/results_rescored.parquet").itertuples()
    assert row.score == 0.5
    with pytest.raises(ConfigError, match="lies outside rlm_eval"):
        rescore(tmp_path, tmp_path / "out")


def test_of_several_verdicts_the_most_count_again_without_what_was_thought(tmp_path: Path) -> None:
    sample = replace(some_result().sample, task="verdicts")
    score = Score(1.0, "yes", verdicts=3, dissents=1)
    with Journal(tmp_path) as journal:
        replies = ("yes", "<think>no?</think>no", "thought beside\n\nyes")
        for i, (reply, thought) in enumerate(zip(replies, (0, 18, 16), strict=True)):
            journal.call(some_call(f"c{i}", role="judge", thought_chars=thought), reply)
        journal.result(some_result(sample=sample, score=score))
    task = {"_target_": "test_replay.Verdicts"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"task": task}))
    assert rescore(tmp_path, tmp_path / "out", ["test_replay"]) == 0
    (row,) = pd.read_parquet(tmp_path / "out/results_rescored.parquet").itertuples()
    assert (row.score, row.judge_verdicts, row.judge_dissents) == (1.0, 3, 1)


class Sealed(Verdicts):
    """A task whose texts may not be stored in the clear."""

    def seal(self, text: str) -> str:
        return text[::-1]


def test_a_sealed_record_is_not_judged(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.result(some_result())
    tree = {"task": {"_target_": "test_replay.Sealed"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="is sealed"):
        rescore(tmp_path, tmp_path / "out", ["test_replay"])


def test_a_record_can_not_name_what_is_run(run_dir: Path, tmp_path: Path) -> None:
    copy = copied(run_dir, tmp_path)
    tree = yaml.safe_load((copy / "config.yaml").read_text())
    tree |= {"task": {"_target_": "os.mkdir", "path": "x"}, "allow_targets": ["os"]}
    (copy / "config.yaml").write_text(yaml.safe_dump(tree))
    assert main([str(copy), "--rescore"]) == 2
    assert not Path("x").exists()
