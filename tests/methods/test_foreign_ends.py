"""How a sample of a foreign engine ends: caps, refusals, failures, silence."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import Table, problem, scripted
from helpers.foreign_engines import (
    answer_of,
    both_ways,
    python_engine,
    shout,
)
from rlm_eval.errors import ProviderError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.foreign.engine import Isolation, Record
from rlm_eval.models.client import CallTags, Completion
from rlm_eval.models.protocol import Reply, Usage
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer


def test_a_cap_the_engine_dies_of_is_the_samples(tmp_path: Path) -> None:
    got, table = answer_of(
        python_engine(tmp_path, "for i in range(9): ask(str(i))", isolation="none"), calls=3
    )
    assert (got.text, got.outcome) == (None, "budget_exceeded")
    assert "calls=3" in got.error
    assert len(table.calls) == 3
    assert [event.get("outcome") for event in got.trajectory[1:]] == [None] * 3 + [
        "budget_exceeded"
    ]


def test_an_answer_after_a_refused_call_stands(tmp_path: Path) -> None:
    code = """
        import urllib.error
        found = []
        try:
            for i in range(9): found.append(ask(str(i)))
        except urllib.error.HTTPError as error:
            found.append(str(error.code))
        print(" ".join(found))
    """
    got, _ = answer_of(python_engine(tmp_path, code, isolation="none"), calls=2)
    assert (got.text, got.outcome) == ("0 1 402", "answered")


def test_a_refusal_that_was_got_over_is_no_cause(tmp_path: Path) -> None:
    code = """
        import urllib.error
        try:
            ask("word " * 5000)
        except urllib.error.HTTPError as error:
            assert json.load(error)["error"]["code"] == "context_length_exceeded"
        {0}
        sys.exit("out of ideas")
    """
    outcomes = {}
    for then in ("ask('a short one')", "pass"):
        engine = python_engine(tmp_path, code.format(then), isolation="none")
        table = Table(scripted(shout, window=2000))
        got = engine.answer(problem(), table.lm(), table.ledger())
        outcomes[then] = got.outcome, "out of ideas" in got.error
    assert outcomes == {
        "ask('a short one')": ("invalid_answer", True),
        "pass": ("context_overflow", False),
    }


class Down(ScriptedModel):
    """Answers the first ``good`` calls, then fails for good."""

    good, kind = 1, "unavailable"

    def complete(self, *args: Any, **kwargs: Any) -> Reply:
        self.good -= 1
        if self.good < 0:
            raise ProviderError("down", kind=self.kind, retryable=False)
        return super().complete(*args, **kwargs)


@both_ways
def test_a_providers_failure_stops_the_engine_and_leaves_the_sample_pending(
    tmp_path: Path, isolation: Isolation
) -> None:
    code = """
        import time, urllib.error
        while True:
            try:
                ask("x")
            except (urllib.error.URLError, OSError):
                print("an answer all the same", flush=True)
                time.sleep(300)
    """
    table = Table(Down())
    began = time.monotonic()
    engine = python_engine(tmp_path, code, isolation=isolation)
    got = engine.answer(problem(), table.lm(), table.ledger())
    assert (got.text, got.outcome, got.error) == (None, "provider_error", "down")
    assert time.monotonic() - began < 20
    assert len(table.calls) == 2


@pytest.mark.parametrize(
    ("then", "text", "outcome"),
    [("raise", None, "content_filter"), ("print('7')", "7", "answered")],
)
def test_a_filtered_sub_call_is_the_engines_to_mend(
    tmp_path: Path, then: str, text: str | None, outcome: str
) -> None:
    code = """
        import urllib.error
        ask("x")
        try:
            ask("y", "sub")
        except urllib.error.HTTPError:
            {0}
    """
    model = Down()
    model.kind = "content_filter"
    table = Table(model)
    engine = python_engine(tmp_path, code.format(then), isolation="none")
    got = engine.answer(problem(), table.lm(), table.ledger())
    assert (got.text, got.outcome) == (text, outcome)
    assert len(table.calls) == 2


def test_the_runs_spent_cap_passes_through(tmp_path: Path) -> None:
    engine = python_engine(tmp_path, "while True: ask('x')", isolation="none")
    table = Table(scripted(shout))
    with pytest.raises(RunBudgetExceeded):
        engine.answer(problem(), table.lm(), Ledger(Budget(calls=2)).child())
    assert len(table.calls) == 2


@pytest.mark.slow
def test_caps_on_time_end_an_engine_that_asks_nothing(tmp_path: Path) -> None:
    engine = python_engine(tmp_path, "import time; time.sleep(300)", isolation="none")
    got, _ = answer_of(engine, seconds=0.5)
    assert (got.outcome, got.error) == ("budget_exceeded", "the sample's cap seconds=0.5 is spent")
    table = Table(scripted(shout))
    with pytest.raises(RunBudgetExceeded, match=r"seconds=0\.5"):
        engine.answer(problem(), table.lm(), Ledger(Budget(seconds=0.5)).child())


def test_tokens_are_capped_and_add_up(tmp_path: Path) -> None:
    code = "print(sum(len(ask('word ' * 40, max_tokens=20)) for i in range(100)))"
    got, table = answer_of(python_engine(tmp_path, code, isolation="none"), tokens=500)
    spent = table.tokens
    assert got.outcome == "budget_exceeded"
    assert 500 - 54 - 20 < spent <= 500  # the next call, of 54 + 20 tokens, did not fit


def test_an_engine_that_says_nothing_has_no_answer(tmp_path: Path) -> None:
    got, _ = answer_of(python_engine(tmp_path, "print('  ')", isolation="none"))
    assert (got.text, got.outcome) == ("", "answered"), "which the runner makes a no_answer"


def test_blocks_stand_after_the_turn_that_wrote_them() -> None:
    record = Record()
    lines = 'b("x")\nb()'
    in_json = json.dumps({"code": lines})
    replies = ["```a()``` and ```b()```", "```b()```", in_json, "no code", "```c()```"]
    for number, reply in enumerate(replies):
        record.call(CallTags(), [], Completion(reply, str(number), "stop", Usage()))
    codes = ["a()", "b()", "b()", lines, "c()", "d()"]
    blocks = [{"code": code, "output": "", "error": ""} for code in codes]
    record.ran(blocks)
    told = [event.get("code", event.get("reply")) for event in record.events]
    assert told == [
        *(replies[0], "a()", "b()"),
        *(replies[1], "b()"),
        *(replies[2], lines),
        replies[3],
        *(replies[4], "c()"),
        "d()",
    ]


def test_what_a_tool_gave_is_a_block_once() -> None:
    record = Record(by_wire=True)
    chat = [{"role": "assistant", "content": "ls"}, {"role": "user", "content": "context.txt"}]
    for _ in range(2):  # as an agent asks again that does not keep a reply it can't read
        record.call(CallTags(), chat, Completion("hm", "1", "stop", Usage()))
    assert [e["output"] for e in record.events if e["type"] == "block"] == ["context.txt"]
    later = [*chat, {"role": "assistant", "content": "ls again"}, chat[1]]  # which gives the same
    record.call(CallTags(), later, Completion("hm", "2", "stop", Usage()))
    assert [e["output"] for e in record.events if e["type"] == "block"] == ["context.txt"] * 2


def test_two_samples_at_once_do_not_mix(tmp_path: Path) -> None:
    engine = python_engine(tmp_path, "print(*(ask(context) for i in range(5)))", isolation="none")
    table = Table(scripted(shout))
    ledgers = [table.ledger(), table.ledger()]
    answers: dict[int, Answer] = {}

    def one(number: int) -> None:
        lm = table.client.lm(f"key {number}", memory_scope="arm")
        content = f"sample{number}" * (1 + number)
        answers[number] = engine.answer(problem(content=content), lm, ledgers[number])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        word = f"SAMPLE{number}" * (1 + number)
        assert answers[number].text == " ".join([word] * 5)
        mine = [call for call in table.calls if call.result_key == f"key {number}"]
        assert [c.prompt_tokens for c in mine] == [len(word) // 4 + 4] * 5
        assert ledgers[number].spent.tokens == sum(
            c.prompt_tokens + c.completion_tokens for c in mine
        )
