"""direct: what is sent, what is cut away, and what is taken for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import Table, problem, scripted
from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.methods.direct import Direct, final_answer
from rlm_eval.methods.fitting import document_spans
from rlm_eval.methods.method import Shape
from rlm_eval.models.client import Completion
from rlm_eval.models.protocol import Message, ModelInfo, Usage
from rlm_eval.records import Answer, Content, Context, documents_of

LINES = tuple(
    f"Record {i}: the lamp in room {i} is {'red' if i % 2 else 'blue'}.\n" for i in range(300)
)
TEXT = "".join(LINES)


def ask(
    method: Direct, content: Content = TEXT, *, reply: str = "42", window: int = 100_000
) -> tuple[Answer, list[Message], Table]:
    """The answer, the one prompt it was got by, and the client."""
    seen: list[list[Message]] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(list(messages))
        return reply

    table = Table(scripted(script, window=window))
    got = method.answer(problem("Which lamp?", content), table.lm(), table.ledger())
    (messages,) = seen
    return got, messages, table


def test_the_prompt_is_the_whole_context_and_then_the_question() -> None:
    got, messages, table = ask(Direct())
    assert messages == [
        {
            "role": "user",
            "content": TEXT + "\n\nWhich lamp?\n\nReply with the answer in the form asked for and "
            "nothing else.",
        },
    ]
    assert (got.text, got.outcome, got.truncated_tokens) == ("42", "answered", 0)
    assert got.spans_read == ((0, len(TEXT)),)
    assert got.trajectory == ()
    assert len(table.calls) == 1


@pytest.mark.parametrize(
    ("place", "sent"),
    [("before", "Which lamp?\n\nIt is red."), ("both", "Which lamp?\n\nIt is red.\n\nWhich lamp?")],
)
def test_the_question_is_where_it_is_set(place: Any, sent: str) -> None:
    _, messages, _ = ask(Direct(question_at=place), "It is red.")
    assert messages[0]["content"].startswith(sent + "\n\nReply with")


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ("bare", ["You are a helpful assistant.\n\nIt is red.", "Which lamp?"]),
        ("ruler", ["It is red.\nWhich lamp?"]),
    ],
)
def test_a_benchmarks_own_prompt_ends_in_the_question(prompt: str, sent: list[str]) -> None:
    _, messages, _ = ask(Direct(prompt=prompt), "It is red.")
    assert [m["content"] for m in messages] == sent
    assert [m["role"] for m in messages] == ["system", "user"][-len(sent) :]


def test_documents_come_one_after_the_other_under_their_headings() -> None:
    _, messages, _ = ask(Direct(), ("one", "two"))
    assert messages[0]["content"].startswith("Document 1:\none\n\nDocument 2:\ntwo\n\n")
    _, messages, _ = ask(Direct(), {"a.txt": "one", "b.txt": "two"})
    assert messages[0]["content"].startswith("a.txt:\none\n\nb.txt:\ntwo\n\n")


# -- larger than the window ----------------------------------------------------------------


def test_what_does_not_fit_is_refused_on_request() -> None:
    table = Table(scripted(lambda messages: "42", window=1000))
    with pytest.raises(ContextOverflow) as caught:
        Direct(overflow="refuse").answer(problem("?", TEXT), table.lm(), table.ledger())
    assert caught.value.excess_tokens > 0
    assert not table.calls


@pytest.mark.parametrize("overflow", ["truncate_middle", "refuse"])
def test_what_the_provider_still_finds_too_long_is_cut_further(overflow: Any) -> None:
    """Its tokenizer makes more of a text than ours."""
    sizes: list[int] = []

    def script(messages: Sequence[Message]) -> str:
        sizes.append(len(messages[0]["content"]))
        if sizes[-1] > 0.8 * len(TEXT):
            raise ContextOverflow("prompt is too long")
        return "42"

    table = Table(scripted(script))
    method = Direct(overflow=overflow)
    if overflow == "refuse":
        with pytest.raises(ContextOverflow):
            method.answer(problem("Which lamp?", TEXT), table.lm(), table.ledger())
        assert len(sizes) == 1
        return
    got = method.answer(problem("Which lamp?", TEXT), table.lm(), table.ledger())
    assert (got.text, len(sizes)) == ("42", 3)
    assert sizes[2] > 0.65 * len(TEXT)
    assert got.truncated_tokens > 0
    assert len(got.spans_read) == 2


def test_a_question_larger_than_the_window_is_one_clear_overflow() -> None:
    table = Table(scripted(lambda messages: "42", window=300))
    with pytest.raises(ContextOverflow, match="the question alone fills the window of 268"):
        Direct().answer(problem("lamp? " * 300, TEXT), table.lm(), table.ledger())
    assert not table.calls


@pytest.mark.parametrize(
    ("overflow", "head", "tail"),
    [
        ("truncate_tail", True, False),
        ("truncate_head", False, True),
        ("truncate_middle", True, True),
    ],
)
def test_it_truncates_as_it_is_set_and_records_it(overflow: Any, head: bool, tail: bool) -> None:
    got, messages, table = ask(Direct(overflow=overflow), window=1000)
    sent = messages[0]["content"]
    assert (LINES[0] in sent, LINES[-1].strip() in sent) == (head, tail)
    call = table.calls[0]
    assert call.prompt_tokens + 32 <= 1000
    assert call.prompt_tokens > 900, "the window is used"
    assert got.truncated_tokens == pytest.approx(len(TEXT) // 4 - call.prompt_tokens, abs=60)
    assert got.spans_read is not None
    kept = [TEXT[start:end] for start, end in got.spans_read]
    assert all(part in sent for part in kept)
    left_out = f"[... {len(TEXT) - sum(map(len, kept)):,} characters left out ...]"
    assert sent.splitlines().count(left_out) == 1
    parts = sent.partition("\n\nWhich lamp?")[0].splitlines(keepends=True)
    assert all(line in TEXT for line in parts if line.strip() != left_out), "lines stay whole"


@pytest.mark.parametrize("content", [LINES, {str(i): line for i, line in enumerate(LINES)}])
def test_the_spans_of_cut_documents_leave_their_headings_out(content: Content) -> None:
    got, messages, _ = ask(Direct(overflow="truncate_tail"), content, window=1000)
    assert got.spans_read is not None
    ((start, end),) = got.spans_read
    whole = sum(line in messages[0]["content"] for line in LINES)
    assert start == 0
    assert len("".join(LINES[:whole])) <= end < len("".join(LINES[: whole + 1]))


def test_stretches_of_the_text_are_found_again_in_its_documents() -> None:
    context = Context.of(("1", "bc", "1"))
    # "Document 1:\n1\n\nDocument 2:\nbc\n\nDocument 3:\n1": documents at 12, 27 and 43.
    assert context.text[43:] == "1"
    assert document_spans(context, [(0, 44)]) == ((0, 4),)
    assert document_spans(context, [(0, 28)]) == ((0, 2),)
    assert document_spans(context, [(0, 13), (28, 44)]) == ((0, 1), (2, 4))
    assert document_spans(context, [(13, 20)]) == ()
    assert "".join(documents_of(context.content))[2:4] == "c1"


# -- room to think -------------------------------------------------------------------------


def test_with_room_to_think_the_answer_is_asked_for_in_tags() -> None:
    thoughts = "Rooms 1 and 3 are red, " * 30 + "\n<answer>Answer: 2</answer>"
    got, messages, table = ask(Direct(think=True, think_tokens=300), reply=thoughts)
    assert got.text == "Answer: 2"
    assert "nothing else" not in messages[0]["content"]
    assert messages[0]["content"].endswith("between <answer> and </answer>.")
    assert table.calls[0].completion_tokens > 32, "more than an answer's own tokens"
    ((event),) = got.trajectory
    assert event["taken"] == "tag"


def test_thoughts_cut_off_before_the_answer_are_no_answer() -> None:
    got, _, table = ask(Direct(think=True, think_tokens=8), reply="heron " * 100)
    assert table.calls[0].finish_reason == "length"
    assert (got.text, got.outcome) == (None, "no_answer")
    assert got.error == "no answer in the reply"


@pytest.mark.parametrize(
    ("reply", "finish", "said"),
    [
        ("so <answer>7</answer>", "stop", ("7", "tag")),
        ("<answer>\na: 1\nb: 2\n</answer>\n", "stop", ("a: 1\nb: 2", "tag")),
        ("<answer>6</answer>? No: <answer>7</answer>", "stop", ("7", "tag")),
        ("thus <answer>7</answer> and so", "length", ("7", "tag")),
        ("thus <answer>7", "stop", ("7", "tag")),
        ("thus <answer>7", "length", (None, "nothing")),
        ("6 or 7?\nFinal Answer: [a]\n\n", "stop", ("Final Answer: [a]", "last line")),
        ("7", "stop", ("7", "last line")),
        ("6 or 7?\nit", "length", (None, "nothing")),
        ("", "stop", (None, "nothing")),
        ("<answer></answer>", "stop", ("", "tag")),
        ("<answer>5</answer> I put it in <answer> tags.", "stop", ("5", "tag")),
        ("in <answer> tags: <answer>\n5\n</answer>", "stop", ("5", "tag")),
        ("so <Answer>4</Answer>", "stop", ("4", "tag")),
        ("so <ANSWER>4", "stop", ("4", "tag")),
    ],
)
def test_what_is_taken_for_the_answer(reply: str, finish: str, said: Any) -> None:
    assert final_answer(Completion(reply, "id", finish, Usage())) == said


# -- settings and forecast -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"think_tokens": 0}, "^think_tokens must be at least 1"),
        ({"prompt": "none"}, "choose bare, plain, ruler"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Direct(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"think": True}, "think needs <answer>"), ({"question_at": "both"}, "question_at needs ")],
)
def test_a_prompt_of_ones_own_must_use_what_is_enabled(
    settings: dict[str, Any], told: str, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text('turns: [{role: user, text: "{{ context }} {{ question }}"}]')
    assert Direct(prompt=str(own)).prompt_name() == "own"
    with pytest.raises(ConfigError, match=told):
        Direct(prompt=str(own), **settings)


@pytest.mark.parametrize(
    ("window", "think_tokens", "told"),
    [
        (90, 1, r"^prompt takes \d+ tokens without text and question"),
        (1000, 910, "lower it to 904 or less"),
        (1000, 904, None),
    ],
)
def test_a_window_too_small_is_refused(window: int, think_tokens: int, told: str | None) -> None:
    method = Direct(think=True, think_tokens=think_tokens)
    infos: Any = {"root": ModelInfo("m", "e", window)}
    if told is None:
        method.check(infos)
        return
    with pytest.raises(ConfigError, match=told):
        method.check(infos)


@pytest.mark.parametrize(
    ("settings", "window"),
    [({}, 100_000), ({"think": True}, 100_000), ({"question_at": "both"}, 100_000), ({}, 1500)],
)
def test_the_forecast_is_what_a_run_sends(settings: dict[str, Any], window: int) -> None:
    method = Direct(**settings)
    _, _, table = ask(method, reply="long " * 1000, window=window)
    shape = Shape(len(TEXT) // 4, len("Which lamp?") // 4, 32)
    (expected,) = method.forecast(shape, {"root": ModelInfo("m", "e", window)})
    (sent,) = table.calls
    assert expected.calls == 1
    assert expected.prompt_tokens == pytest.approx(sent.prompt_tokens, rel=0.05)
    assert expected.completion_tokens == sent.completion_tokens


def test_what_would_be_refused_is_forecast_as_nothing() -> None:
    infos: Any = {"root": ModelInfo("m", "e", 1500)}
    assert Direct(overflow="refuse").forecast(Shape(5000, 10, 32), infos) == ()
