"""Half a surrogate pair, which no request, table or page can hold, in whatever a run handles."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.chat import block, problem
from helpers.clients import at, open_client
from helpers.commands import report, run_tree
from helpers.fake_provider import FakeProvider, chat_reply
from rlm_eval.analysis import summary
from rlm_eval.config.compose import compose_tree
from rlm_eval.ledger import Ledger
from rlm_eval.methods.direct import Direct
from rlm_eval.models.protocol import user

HALF = "\ud83d"


class OddProvider(FakeProvider):
    """Plays an RLM whose replies, code, output, sub-calls and answer all hold half a pair."""

    def take(self, body: Mapping[str, Any]) -> Callable[[Any], None]:
        super().take(body)
        asked = body["messages"]
        code = "print('half \\ud83d'); got = llm_query('ask \\ud83d\\0'); submit(got + ' \\ud83d')"
        if "`context`" not in asked[0]["content"]:
            said = f"sub {HALF}"
        elif "half" not in asked[-1]["content"]:
            said = f"I print {HALF}:\n" + block("print('half \\ud83d')")
        else:
            said = block(code)
        return lambda handler: (self.bill(), handler.send_json(200, chat_reply(said)))[1]


@pytest.mark.slow
def test_a_run_full_of_half_pairs_is_answered_billed_once_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "FIGURES", ())
    with OddProvider() as provider:
        tree = compose_tree(
            [
                *("task=needle", "task.lengths=[300]", "task.variant=single_1", "task.n=1"),
                *("method=[rlm]", "model=litellm", "model.name=openai/fake"),
                *(f"model.api_base={provider.api_base}", f"results_dir={tmp_path}"),
            ]
        )
        assert run_tree(tree) == 0
    run_dir = next(tmp_path.glob("*/journal.jsonl")).parent
    (row,) = pd.read_parquet(run_dir / "results.parquet").itertuples()
    assert (row.outcome, row.answer) == ("answered", "sub \ufffd \ufffd")
    assert (provider.requests, len(provider.billed)) == (3, 3 + len(provider.contacts))
    sent = json.dumps(provider.received, ensure_ascii=False)
    assert "half \ufffd" in sent
    assert "ask \ufffd\ufffd" in sent
    assert HALF not in sent
    calls = pd.read_parquet(run_dir / "calls.parquet")
    assert not calls.usage_estimated.any()
    assert report([str(run_dir)]) == 0


def test_half_a_pair_in_context_and_question_is_sent_as_a_mark_and_paid_once() -> None:
    with FakeProvider() as provider:
        lm, book = open_client(at(provider))
        asked = problem(f"which {HALF}?", f"a lamp {HALF}\0 and \ud83d\ude00")
        got = Direct().answer(asked, lm, Ledger())
        assert lm.count_tokens(HALF) > 0
    assert got.outcome == "answered"
    (sent,) = provider.received
    assert "a lamp \ufffd\ufffd and 😀" in sent["messages"][-1]["content"]
    assert provider.requests == len(book.calls) == 1


def test_what_was_never_sent_costs_nothing() -> None:
    """A parameter that no request can hold fails before the provider hears of it."""
    with FakeProvider() as provider:
        lm, book = open_client(at(provider, params={"extra_headers": {"X-Name": HALF}}))
        ledger = Ledger()
        with pytest.raises(Exception, match="can't encode"):
            lm.complete([user("hi")], ledger=ledger, max_tokens=16)
    assert provider.requests == 0
    assert [call.prompt_tokens for call in book.calls] == [0]
    assert ledger.spent.tokens == 0
