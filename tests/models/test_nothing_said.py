"""Replies that say nothing, or something beside: what the client makes of them, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.clients import at, open_client
from helpers.fake_provider import (
    COMPLETION_TOKENS,
    HIDDEN_TOKENS,
    PROMPT_TOKENS,
    USAGE,
    Behaviour,
    FakeProvider,
    _billed,
    chat_reply,
    message_reply,
    saying,
)
from helpers.proxied import served
from rlm_eval.errors import BudgetExceeded, ContextOverflow, ProviderError
from rlm_eval.ledger import MOST_REFUSED, Budget, Ledger
from rlm_eval.models.client import Completion
from rlm_eval.models.protocol import Usage, user
from rlm_eval.records import Call

HI = [user("how are you?")]


def asked(body: Any, max_tokens: int = 16, **settings: Any) -> tuple[Completion, Call, str]:
    """The reply that the provider's ``body`` is made into, its record, and what is kept of it."""
    with FakeProvider([_billed(body)]) as provider:
        lm, book = open_client(at(provider, **settings))
        reply = lm.complete(HI, ledger=Ledger(), max_tokens=max_tokens)
        assert provider.requests == 1
    return reply, book.calls[0], book.replies[0]


@pytest.mark.parametrize(
    ("body", "outcome", "kept"),
    [
        (message_reply(None, reasoning_content="A or B"), "thoughts_only", "A or B"),
        (message_reply("", reasoning="A or B"), "thoughts_only", "A or B"),
        (chat_reply("<think>A or B</think>"), "thoughts_only", "A or B"),
        (message_reply(None, refusal="I will not."), "refusal", "I will not."),
        (message_reply([{"type": "refusal", "refusal": "Not I."}]), "refusal", "Not I."),
        (chat_reply("Sorry, this", finish="refusal"), "refusal", "Sorry, this"),
        (
            message_reply(None, tool_calls=[{"id": "1", "type": "function", "function": {
                "name": "look", "arguments": "{}"}}], finish="tool_calls"),
            "tool_call",
            "look",
        ),
        (
            message_reply(None, function_call={"name": "look", "arguments": ""},
                          finish="function_call"),
            "tool_call",
            "look",
        ),
        (message_reply(None, finish="MALFORMED_FUNCTION_CALL"), "tool_call", ""),
        (chat_reply("<think>A or", finish="length"), "no_answer", "A or"),
        (chat_reply("<think>A or", finish="stop"), "no_answer", "A or"),
        (message_reply("", reasoning_content="A or", finish="length"), "no_answer", "A or"),
        (message_reply("", reasoning_content="A or", finish="model_length"), "no_answer", "A or"),
    ],
)  # fmt: skip
def test_a_reply_that_says_nothing_has_a_name_and_is_paid_once(
    body: Any, outcome: str, kept: str
) -> None:
    reply, call, recorded = asked(body)
    assert reply.text == ""
    assert reply.no_reply is not None
    assert reply.no_reply.outcome == outcome
    assert ("no answer yet" in str(reply.no_reply)) == (outcome == "no_answer")
    assert kept in recorded
    assert (call.thought_chars, call.error) == (len(recorded), "")
    assert call.prompt_tokens + call.completion_tokens == PROMPT_TOKENS + COMPLETION_TOKENS


def test_claudes_refusal_is_one() -> None:
    """litellm calls its finish a content filter's, and keeps what it was beside the message."""
    body = {"type": "message", "role": "assistant", "stop_reason": "refusal", "model": "claude"}
    body |= {"content": [{"type": "text", "text": "Not I."}]}
    body |= {"usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS}}
    reply, call, recorded = asked(body, name="anthropic/claude-sonnet-4-5")
    assert reply.no_reply is not None
    assert reply.no_reply.outcome == "refusal"
    assert "Not I." in recorded
    assert call.prompt_tokens + call.completion_tokens == PROMPT_TOKENS + COMPLETION_TOKENS


@pytest.mark.parametrize(
    ("body", "text", "kept"),
    [
        (chat_reply("Look: <think>A or B</think>B"), "Look: B", "Look: <think>A or B</think>B"),
        (chat_reply("<think>A</think>B"), "B", "<think>\nA\n</think>\n\nB"),
        (message_reply("B", reasoning_content="A"), "B", "<think>\nA\n</think>\n\nB"),
        (chat_reply("A or B</think>B"), "B", "A or B</think>B"),
        (
            message_reply([{"type": "thinking", "thinking": [{"type": "text", "text": "A"}]},
                           {"type": "text", "text": "B"}]),
            "B",
            "<think>\nA\n</think>\n\nB",
        ),
        (message_reply([{"type": "output_text", "text": "B"}, "C"]), "BC", "BC"),
        (message_reply({"text": "B"}), "B", "B"),
        (message_reply("B", tool_calls=[], refusal=None), "B", "B"),
    ],
)  # fmt: skip
def test_what_is_said_is_handed_on_and_all_of_it_recorded(body: Any, text: str, kept: str) -> None:
    reply, call, recorded = asked(body)
    assert (reply.text, recorded, reply.no_reply) == (text, kept, None)
    assert call.thought_chars == len(kept) - len(text)


def test_an_empty_string_is_an_answer_of_its_own() -> None:
    for body in (chat_reply(""), chat_reply(None)):
        reply, call, _ = asked(body)
        assert (reply.text, reply.no_reply, call.thought_chars) == ("", None, 0)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"total_tokens": 245, "completion_tokens_details": {"reasoning_tokens": 200}},
         Usage(40, 205, 8, 200)),
        ({"total_tokens": 245}, Usage(40, 205, 8, 200)),
        ({"completion_tokens": None, "total_tokens": 45}, Usage(40, 5, 8)),
        ({"completion_tokens": None, "total_tokens": None}, Usage(40, 3, 8, estimated=True)),
        ({"prompt_tokens": -5}, Usage(0, 5, 0, estimated=True)),
        ({"prompt_tokens": 10**20}, Usage(0, 5, 0, estimated=True)),
        ({"prompt_tokens": 40.5}, Usage(0, 5, 0, estimated=True)),
        ({"prompt_tokens": "many"}, Usage(0, 5, 0, estimated=True)),
        ({"prompt_tokens": float("nan")}, Usage(0, 5, 0, estimated=True)),
        ({"prompt_tokens": None}, Usage(0, 5, 0, estimated=True)),
        ({"completion_tokens": 10**9}, Usage(40, 5, 8, estimated=True)),
        ({"completion_tokens": [1], "total_tokens": 9**99}, Usage(40, 3, 8, estimated=True)),
        ({"prompt_tokens_details": {"cached_tokens": 900}}, Usage(40, 5, 0, estimated=True)),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, Usage(40, 5, 0, estimated=True)),
        ({"prompt_tokens_details": {"cached_tokens": "x"}}, Usage(40, 5, 0, estimated=True)),
        ({"prompt_tokens_details": {"cached_tokens": 900}, "total_tokens": 945},
         Usage(940, 5, 900)),
        ({"prompt_tokens_details": {"cached_tokens": 8, "cache_creation_tokens": 30}},
         Usage(40, 5, 8, written_tokens=30)),
        ({"cache_creation_input_tokens": 30}, Usage(40, 5, 8, written_tokens=30)),
        ({"prompt_tokens_details": None, "cached_tokens": 12}, Usage(40, 5, 12)),
        ({"cache_creation_input_tokens": 300}, Usage(40, 5, 0, estimated=True)),
        ({"cache_creation_input_tokens": 300, "total_tokens": 353},
         Usage(348, 5, 8, written_tokens=300)),
    ],
)  # fmt: skip
def test_usage_is_the_providers_where_it_can_be_true(
    usage: dict[str, Any], expected: Usage
) -> None:
    """Estimated is what can't be true, and only that; 0 stands for the prompt's own count."""
    reply, call, _ = asked(chat_reply("one two three", usage=USAGE | {"total_tokens": 45} | usage))
    prompt = expected.prompt_tokens or call.prompt_tokens
    assert 0 < call.prompt_tokens < 1000
    assert call.cost_usd == pytest.approx((prompt * 100 + expected.completion_tokens * 200) / 1e6)
    assert reply.usage == Usage(
        prompt,
        expected.completion_tokens,
        reply.usage.cached_tokens if not expected.prompt_tokens else expected.cached_tokens,
        expected.reasoning_tokens,
        expected.estimated,
        expected.written_tokens,
    )


#: OpenAI's refusal of a reply that its limit ended while it was thought; litellm makes it a reply.
UNSEEN = "Could not finish the message because max_tokens or model output limit was reached."
NO_REPLY = {"completion_tokens": 0, "total_tokens": PROMPT_TOKENS}


@pytest.mark.parametrize(
    "behaviour",
    [
        saying(400, {"error": {"message": UNSEEN}}),
        _billed(chat_reply("", finish="length", usage=USAGE | NO_REPLY)),
    ],
)
def test_a_cut_reply_of_no_tokens_counts_its_limit(behaviour: Behaviour) -> None:
    with FakeProvider([behaviour]) as provider:
        lm, book = open_client(at(provider))
        reply = lm.complete(HI, ledger=Ledger(), max_tokens=16)
    (call,) = book.calls
    assert (reply.text, reply.finish_reason) == ("", "length")
    assert (call.completion_tokens, call.usage_estimated) == (16, True)


@pytest.mark.parametrize("usage", [None, 7, [1], "x", {}])
def test_usage_that_is_none_is_estimated(usage: Any) -> None:
    _, call, _ = asked(chat_reply("one two three") | {"usage": usage})
    assert (call.completion_tokens, call.usage_estimated) == (3, True)


@pytest.mark.parametrize(
    ("body", "kept", "why"),
    [
        (chat_reply(None, finish="content_filter"), "", "withheld the reply"),
        (chat_reply("It is", finish="content_filter"), "It is", "withheld the reply"),
        (chat_reply("It is", finish="SAFETY"), "It is", "withheld the reply"),
        (
            chat_reply() | {"choices": [], "prompt_filter_results": [
                {"content_filter_results": {"hate": {"filtered": True}}}]},
            "",
            "refused the prompt",
        ),
    ],
)  # fmt: skip
def test_what_a_filter_took_is_paid_once_and_has_its_outcome(
    body: Any, kept: str, why: str
) -> None:
    with FakeProvider([_billed(body)]) as provider:
        lm, book = open_client(at(provider))
        with pytest.raises(ProviderError, match=why) as caught:
            lm.complete(HI, ledger=Ledger(), max_tokens=16)
        assert provider.requests == 1
    assert caught.value.outcome == "content_filter"
    assert book.replies == [kept]
    assert book.calls[0].error.startswith("content_filter: ")
    assert book.calls[0].prompt_tokens == PROMPT_TOKENS


def test_thoughts_of_a_foreign_engines_model_are_not_passed_on() -> None:
    bodies = [
        chat_reply("Look: <think>A or B</think>B"),
        message_reply(None, refusal="No."),
        message_reply(None, reasoning_content="Hm."),
    ]
    with FakeProvider(map(_billed, bodies)) as provider, served(at(provider)) as it:
        said = [it.ask(max_tokens=16).choices[0] for _ in bodies]
    assert [choice.message.content for choice in said] == ["Look: B", "", ""]
    assert [choice.finish_reason for choice in said] == ["stop"] * 3


def test_prompts_larger_than_the_window_are_refused_so_often_and_no_more() -> None:
    large = [user("word " * 5000)]
    for budget, most in ((Budget(calls=5), 5), (Budget(), MOST_REFUSED)):
        with FakeProvider() as provider:
            lm, book = open_client(at(provider))
            ledger = Ledger().child(budget)
            for _ in range(most):
                with pytest.raises(ContextOverflow):
                    lm.complete(large, ledger=ledger, max_tokens=16)
            with pytest.raises(BudgetExceeded, match="larger than the model's window"):
                lm.complete(large, ledger=ledger, max_tokens=16)
            assert (provider.requests, book.calls, ledger.spent.calls) == (0, [], 0)
            assert lm.complete(HI, ledger=ledger, max_tokens=16).text == "fine"


def test_what_is_thought_beside_is_paid() -> None:
    with FakeProvider(["thoughts_beside"]) as provider:
        lm, book = open_client(at(provider))
        lm.complete(HI, ledger=Ledger(), max_tokens=16)
    assert provider.billed == [(PROMPT_TOKENS, book.calls[0].completion_tokens)]
    assert book.calls[0].reasoning_tokens == HIDDEN_TOKENS
