"""Keys by value: found under the names keys have, cut out wherever they stand, never in a run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.some_records import some_call, some_result
from rlm_eval.commands.cli import run_command
from rlm_eval.journal.journal import Journal, read_events
from rlm_eval.journal.redaction import Redactor, secrets_of
from rlm_eval.models.protocol import Message
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer

CANARY = "sk-canary-3f9a77+/x"


@pytest.mark.parametrize(
    "name",
    [
        *("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "ANY_SECRET"),
        *("PGPASSWORD", "api_keys", "OPENAIKEY", "KEY2", "TOKEN_FOR_IT", "DB_CREDENTIALS"),
    ],
)
def test_a_variable_that_is_called_like_a_key_holds_one(name: str) -> None:
    assert secrets_of({name: CANARY}) == {CANARY}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYBOARD", "us-intl-105"),
        ("TOKENIZERS_PARALLELISM", "disabled1"),
        ("HOME", "/root/a1b2c3d4"),
        ("OPENAI_API_KEY", "none"),
        ("OPENAI_API_KEY", "EMPTY"),
        ("VLLM_KEY", "anonymous"),
        ("MAX_TOKENS", "1000000000"),
        ("SIGNING_KEY", "20240101202401012024"),
        ("KEY_FILE", __file__),
        ("KEY_HINT", "ask the admin 24 times"),
        ("SOME_TOKEN", ""),
    ],
)
def test_what_can_not_be_told_from_words_is_left_alone(name: str, value: str) -> None:
    assert secrets_of({name: value}) == set()


def test_the_variable_a_model_names_counts_whatever_it_is_called() -> None:
    environ = {"MY_ACCESS": CANARY, "OTHER": "x" * 30}
    assert secrets_of(environ) == set()
    assert secrets_of(environ, {"MY_ACCESS"}) == {CANARY}


def test_every_key_goes_wherever_it_stands_and_however_json_writes_it() -> None:
    quoted = 'pass"word\\with-2-escapes'
    redact = Redactor({CANARY, CANARY + "-longer", quoted})
    assert redact(f"{CANARY}{CANARY}-longer, {CANARY}.") == "[key][key], [key]."
    assert redact(json.dumps({"reply": quoted})) == '{"reply": "[key]"}'
    assert redact("nothing here") == "nothing here"
    assert Redactor(())(CANARY) == CANARY


def test_a_value_that_is_no_utf_8_goes_as_well() -> None:
    secret = os.fsdecode(b"p\xe4ssw0rd12345")
    redact = Redactor({secret})
    assert redact(f"say {secret}") == "say [key]"
    assert redact("?pw=p%E4ssw0rd12345") == "?pw=[key]"


def test_the_journal_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    with Journal(tmp_path) as journal:
        journal.call(some_call(error=f"refused {CANARY}"), f"my key is {CANARY}")
        journal.result(some_result(answer=Answer(CANARY, "answered")))
    assert CANARY not in (tmp_path / "journal.jsonl").read_text()
    _, call, result = read_events(tmp_path)
    assert (call["reply"], call["error"]) == ("my key is [key]", "refused [key]")
    assert result["answer"]["text"] == "[key]"


class Parrot(ScriptedModel):
    """A model that has got hold of the key, and says it: as an answer, and from its own code."""

    def __init__(self, api_key_env: str = "") -> None:
        super().__init__(script=lambda messages: self.said(messages, os.environ[api_key_env]))

    @staticmethod
    def said(messages: Sequence[Message], key: str) -> str:
        if "`context`" in messages[0]["content"]:
            return f"```repl\nprint({key!r})\nsubmit(llm_query({key!r}) + {key!r})\n```"
        return f"Answer: {key}"


def test_a_model_that_says_a_key_leaves_no_trace_of_it_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANARY_FOR_THE_MODEL", CANARY)
    code = run_command(
        [
            *("model=scripted", "model._target_=test_redaction.Parrot", "~model.name"),
            *(
                "~model.latency_s",
                "~model.context_window",
                "+model.api_key_env=CANARY_FOR_THE_MODEL",
            ),
            *("allow_targets=[test_redaction]", "task=needle", "task.lengths=[1024]", "task.n=1"),
            *("method=[direct,rlm]", f"results_dir={tmp_path}"),
        ]
    )
    out, err = capfd.readouterr()
    assert code == 0, err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"journal.jsonl", "results.parquet", "results.csv"} <= {p.name for p in files}
    for path in files:
        assert CANARY.encode() not in path.read_bytes(), path
    assert CANARY not in out + err
    (run_dir,) = tmp_path.glob("needle-*")
    replies = [event["reply"] for event in read_events(run_dir, types=("call",))]
    assert replies.count("Answer: [key]") == 2
    assert any("[key]" in path.read_text() for path in (run_dir / "trajectories").iterdir())
