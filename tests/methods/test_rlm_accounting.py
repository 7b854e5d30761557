"""What a tree of RLMs is charged is what a provider billed, token for token, over real HTTP."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from helpers.chat import block, problem
from helpers.fake_provider import FakeProvider, chat_reply
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.rlm import Rlm
from rlm_eval.models.client import ModelClient, RetryPolicy
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.records import Call
from rlm_eval.repl.session import Sandbox

#: What each level of the tree runs, by a word of its question. The leaves are plain sub-calls.
CODE = {
    "grand": "parts = rlm_query_batched([('middle', c) for c in 'abc'])\nsubmit(','.join(parts))",
    "middle": "submit(rlm_query('lowest', [context, 'x']) + llm_query('m' + context))",
    "lowest": "submit(''.join(llm_query_batched([context[0] + str(i % 4) for i in range(5)])))",
}


class Biller(FakeProvider):
    """Plays ``CODE`` and bills amounts that differ from request to request. Every ``fails``-th
    request is answered with an error, free of charge."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.fails = fails

    def take(self, body: Mapping[str, Any]) -> Callable[[Any], None]:
        super().take(body)
        number = self.requests
        messages = body["messages"]
        size = zlib.crc32(repr(messages).encode())

        def behaviour(handler: Any) -> None:
            if self.fails and number % self.fails == 0:
                handler.send_json(500, {"error": {"message": "again", "type": "server_error"}})
                return
            prompt, completion = 100 + size % 911, 1 + size % 37
            self.bill(prompt, completion)
            usage = {"prompt_tokens": prompt, "completion_tokens": completion}
            usage |= {"total_tokens": prompt + completion}
            handler.send_json(200, chat_reply(reply(messages), usage=usage))

        return behaviour


def reply(messages: list[dict[str, str]]) -> str:
    if "`context`" not in messages[0]["content"]:
        return "leaf"
    asked = messages[1]["content"].rpartition("Question: ")[2].split()[0]
    return block(CODE[asked])


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-no-use")


@pytest.mark.slow
@pytest.mark.parametrize("fails", [0, 7])
def test_a_depth_3_tree_is_charged_what_was_billed(sandbox: Sandbox, fails: int) -> None:
    with Biller(fails) as provider:
        price = {"input": 1.5, "output": 7.0, "as_of": "2026-01-01"}
        model = LitellmModel("openai/fake", 32_000, api_base=provider.api_base, price=price)
        calls: list[Call] = []
        retry = RetryPolicy(base_s=0.01, max_s=0.02)
        client = ModelClient({"root": model}, lambda call, reply: calls.append(call), retry=retry)
        ledger = Ledger().child(Budget(calls=500, tokens=2_000_000, usd=10))
        rlm = Rlm(sandbox=sandbox, prompt="orchestrator", max_depth=3)
        got = rlm.answer(problem("grand"), client.lm("key", memory_scope="arm"), ledger)
    assert (got.outcome, got.text) == ("answered", ",".join(["leaf" * 6] * 3))

    prompts, completions = (sum(side) for side in zip(*provider.billed, strict=True))
    assert sum(c.prompt_tokens for c in calls) == prompts
    assert sum(c.completion_tokens for c in calls) == completions
    assert ledger.spent.tokens == prompts + completions
    cost = (prompts * 1.5 + completions * 7.0) / 1e6
    assert ledger.spent.usd == pytest.approx(cost, rel=1e-12)
    assert sum(c.cost_usd or 0 for c in calls) == pytest.approx(cost, rel=1e-12)

    sent = [c for c in calls if not c.cached_response]
    assert len(sent) == ledger.spent.calls == provider.requests
    assert ledger.remaining()["calls"] == 500 - provider.requests, "nothing is left on hold"
    # 1 root, 3 middles, each with a lowest, a sub-call of its own and 5 below, of which 1 repeats.
    answered = [c for c in calls if not c.error]
    assert Counter(c.depth for c in answered) == {0: 1, 1: 3, 2: 3 + 3, 3: 15}
    assert sum(c.cached_response for c in answered) == 3
    assert bool(fails) == any(c.error for c in calls)
    known = {c.call_id: c.depth for c in answered}
    for call in answered:
        assert call.depth == (known[call.parent_call_id] + 1 if call.parent_call_id else 0)
