"""Whole runs over HTTP with replies that are no answers: each sample's outcome, its row, the tables
of what a filter kept, and a loop over prompts that no window holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.chat import block
from helpers.commands import report, run_tree
from helpers.fake_provider import BEHAVIOURS, FakeProvider, chat_reply, message_reply
from rlm_eval.analysis import summary
from rlm_eval.config.compose import compose_tree

#: What the model says: to one chat of messages, a body.
Said = Callable[[list[Mapping[str, str]]], object]


class Speaker(FakeProvider):
    """Answers by a script: a body, or the name of a behaviour."""

    def __init__(self, said: Said) -> None:
        super().__init__()
        self._said = said

    def take(self, body: Mapping[str, Any]) -> Callable[[Any], None]:
        super().take(body)
        made = self._said(body["messages"])
        if isinstance(made, str):
            return BEHAVIOURS[made]
        return lambda handler: (self.bill(), handler.send_json(200, made))[1]


def carried_out(
    folder: Path, said: Said, *settings: str, ended: int = 0
) -> tuple[pd.DataFrame, Path, Speaker]:
    """The results of a run, its folder, and the provider."""
    with Speaker(said) as provider, pytest.MonkeyPatch.context() as changed:
        changed.setattr(summary, "FIGURES", ())
        tree = compose_tree(
            [
                *("task=needle", "task.lengths=[300]", "task.variant=single_1"),
                *("model=litellm", "model.name=openai/fake", f"results_dir={folder}"),
                *(f"model.api_base={provider.api_base}", "retry.base_s=0.001", *settings),
            ]
        )
        assert run_tree(tree) == ended
    run_dir = next(folder.glob("*/journal.jsonl")).parent
    return pd.read_parquet(run_dir / "results.parquet"), run_dir, provider


def is_root(messages: list[Mapping[str, str]]) -> bool:
    return "`context`" in messages[0]["content"]


def events(run_dir: Path) -> list[dict[str, Any]]:
    (path,) = (run_dir / "trajectories").iterdir()
    return [json.loads(line) for line in path.open()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "outcome", "error"),
    [
        (message_reply(None, refusal="No."), "refusal", "refused"),
        (message_reply(None, reasoning_content="A"), "thoughts_only", "thought"),
        (chat_reply("<think>A, B or C", finish="length"), "no_answer", "no answer yet"),
        ("tool_call", "tool_call", "tool"),
        ("400_filter", "content_filter", "content management policy"),
    ],
)
def test_every_method_ends_with_the_name_of_what_came_instead(
    tmp_path: Path, body: object, outcome: str, error: str
) -> None:
    methods = "method=[direct,self_consistency,rlm,codeact,summarize_refine]"
    settings = ("task.n=1", "method.rlm.max_iterations=2", "method.codeact.max_iterations=2")
    results, run_dir, provider = carried_out(tmp_path, lambda _: body, methods, *settings)
    found = results.set_index("method")
    assert found.outcome.to_dict() == dict.fromkeys(found.index, outcome)
    assert found.error.str.contains(error).all()
    assert found.score.isna().all()
    calls = pd.read_parquet(run_dir / "calls.parquet")
    assert calls.attempt.max() == 1
    assert len(calls) == provider.requests + len(provider.contacts)
    billed = sum(map(sum, provider.billed))
    assert calls.prompt_tokens.sum() + calls.completion_tokens.sum() == billed


@pytest.mark.slow
def test_a_thought_is_neither_run_nor_scored_and_the_row_says_so(tmp_path: Path) -> None:
    def said(messages: list[Mapping[str, str]]) -> object:
        if is_root(messages):
            thought = "perhaps\n" + block("submit('wrong')")
            code = block("submit(llm_query('ask'))")
            return chat_reply(f"Well. <think>{thought}</think>\n{code}")
        if messages[-1]["content"] == "ask":
            return chat_reply("one or two</think>two")
        return chat_reply("It is <think>" + " ".join(map(str, range(2000))))

    results, run_dir, _ = carried_out(tmp_path, said, "method=[direct,rlm]", "task.n=1")
    found = results.set_index("method")
    assert (found.answer["rlm"], found.outcome["rlm"]) == ("two", "answered")
    assert found.outcome["direct"] == "no_answer"
    assert found.thought_chars["rlm"] > len("one or two</think>")
    journal = (run_dir / "journal.jsonl").read_text()
    assert "submit('wrong')" in journal
    assert "one or two</think>two" in journal
    assert "submit('wrong')" not in "".join(
        path.read_text() for path in (run_dir / "trajectories").iterdir()
    )


@pytest.mark.slow
def test_what_a_filter_refused_counts_and_a_second_number_leaves_it_out_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long: list[str] = []

    def said(messages: list[Mapping[str, str]]) -> object:
        text = messages[-1]["content"]
        long.extend([text] * (len(text) > 600))
        return "400_filter" if long == [text] else chat_reply("wrong")

    settings = ("task.n=5", "method=[direct,no_context]", "concurrency=1")
    results, run_dir, _ = carried_out(tmp_path, said, *settings)
    (met,) = results[results.outcome == "content_filter"].itertuples()
    table = pd.read_csv(run_dir / "summary.csv").set_index("arm")
    assert table.asked[["direct", "no_context"]].tolist() == [5, 5]
    assert table.asked_unfiltered[["direct", "no_context"]].tolist() == [4, 4]
    assert table.outcome_content_filter[met.method] == 1
    rest = results[results.sample_id != met.sample_id].groupby("method").score.mean()
    assert table.score_unfiltered[["direct", "no_context"]].tolist() == rest.tolist()
    shown = capsys.readouterr().out
    assert "unfiltered" in shown
    assert "1 content_filter" in shown
    assert report([str(run_dir)]) == 0


@pytest.mark.slow
def test_a_loop_over_prompts_that_no_window_holds_ends_and_fills_no_disk(tmp_path: Path) -> None:
    loop = """
refused = []
for i in range(60):
    try:
        llm_query("w " * 2_500_000 + str(i))
    except Exception as error:
        refused.append(str(error))
print(len(refused), refused[0][:80], refused[-1])"""
    turns = iter([block(loop), block("submit('done')")])

    def said(messages: list[Mapping[str, str]]) -> object:
        return chat_reply(next(turns, "done"))

    settings = ("task.n=1", "method=[rlm]", "budget.sample.calls=5")
    results, run_dir, provider = carried_out(tmp_path, said, *settings)
    assert results.answer.tolist() == ["done"]
    assert provider.requests == 2
    (ran, *_) = [event for event in events(run_dir) if event["type"] == "block"]
    assert "60 " in ran["output"]
    assert "larger than the model's window" in ran["output"]
    refused = [event for event in events(run_dir) if event["type"] == "call"]
    assert 1 <= len(refused) <= 5
    assert {event["outcome"] for event in refused} == {"context_overflow"}
    assert all(event["prompt_chars"] > 5_000_000 for event in refused)
    sizes = [path.stat().st_size for path in run_dir.rglob("*") if path.is_file()]
    assert max(sizes) < 1_000_000


@pytest.mark.slow
def test_a_long_prompt_stands_once_in_a_trajectory(tmp_path: Path) -> None:
    code = "text = 'w ' * 5000\nsubmit([llm_query(text), llm_query(text), llm_query('short')])"

    def said(messages: list[Mapping[str, str]]) -> object:
        return chat_reply(block(code) if is_root(messages) else "yes")

    results, run_dir, _ = carried_out(tmp_path, said, "task.n=1", "method=[rlm]")
    assert results.answer.tolist() == ['["yes", "yes", "yes"]']
    first, again, short = [event for event in events(run_dir) if event["type"] == "call"]
    assert first["prompt"] == "w " * 5000
    assert first["prompt_hash"] == again["prompt_hash"]
    assert again["prompt"] == f"[10,000 characters, as before: {first['prompt_hash']}]"
    assert short["prompt"] == "short"
