"""The tiny request that each endpoint gets before a run spends anything: what it teaches, and the
one line for what it can't work with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.commands import run_tree
from helpers.fake_provider import FakeProvider
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.past import past_of

SMALL = ("task=needle", "task.lengths=[300]", "task.variant=single_1", "task.n=2")
MODEL = ("model=litellm", "model.name=openai/fake", "retry.base_s=0.001", "retry.max_s=0.001")


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    return compose_tree([*SMALL, *MODEL, "method=[direct]", "temperature=0"])


def carried_out(
    tree: Mapping[str, Any], server: FakeProvider, folder: Path, **model: object
) -> int:
    node = {**tree["model"], "api_base": server.api_base, **model}
    return run_tree({**tree, "model": node, "results_dir": str(folder)})


def run_dir(folder: Path) -> Path:
    (journal,) = folder.glob("*/journal.jsonl")
    return journal.parent


def test_it_is_recorded_and_paid_and_belongs_to_no_answer(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    with FakeProvider() as provider:
        assert carried_out(tree, provider, tmp_path, price={"input": 1.0, "output": 1.0}) == 0
    assert [body["max_tokens"] for body in provider.contacts] == [16]
    calls = pd.read_parquet(run_dir(tmp_path) / "calls.parquet")
    results = pd.read_parquet(run_dir(tmp_path) / "results.parquet")
    (first,) = calls[calls.result_key == ""].itertuples()
    assert first.started_at == calls.started_at.min()
    assert (len(calls), results.calls.tolist()) == (3, [1, 1])
    spent = past_of(run_dir(tmp_path)).spent
    assert spent.calls == 3
    assert spent.usd == pytest.approx(results.cost_usd.sum() + first.cost_usd)


def test_each_model_that_some_arm_asks_is_met_once(tree: dict[str, Any], tmp_path: Path) -> None:
    with FakeProvider() as provider:
        node = {**tree["model"], "api_base": provider.api_base}
        same, other = {**node, "timeout_s": 9}, {**node, "name": "openai/other"}
        roles = {"sub_model": same, "summarize_model": other, "judge_model": other}
        assert carried_out({**tree, **roles}, provider, tmp_path / "a") == 0
        assert [body["model"] for body in provider.contacts] == ["fake"]
        notes = compose_tree(["method=[summarize_refine]"])["method"]
        assert carried_out({**tree, **roles, "method": notes}, provider, tmp_path / "b") == 0
        assert [body["model"] for body in provider.contacts[1:]] == ["fake", "other"]


def test_a_finished_run_asks_nobody(tree: dict[str, Any], tmp_path: Path) -> None:
    with FakeProvider() as provider:
        for _ in range(2):
            assert carried_out(tree, provider, tmp_path) == 0
        assert len(provider.contacts) == 1


LISTED = [{"id": "real", "max_model_len": 4096}, {"id": "fake", "max_model_len": 4096}]


@pytest.mark.parametrize(
    ("contact", "models", "changes", "told"),
    [
        ("401", [], {}, "Set OPENAI_API_KEY, or model.api_key_env=NAME"),
        ("401", [], {"provider": "hosted_vllm"}, "Set model.api_key_env=NAME"),
        ("402", [], {}, "the account has to be topped up"),
        ("404", LISTED, {"name": "openai/reel"}, "serves real, fake: set model.name=openai/real"),
        (
            *("404", LISTED, {"name": "reel", "provider": "hosted_vllm"}),
            "serves real, fake: set model.name=real",
        ),
        ("404", [], {}, "are the model's name and api_base (which mostly ends in /v1) right?"),
        ("own_temperature", [], {}, "takes no temperature=0: set model.own_temperature=true"),
        ("ok", LISTED, {"context_window": 8000}, "set model.context_window=4096"),
        (
            "ok",
            [],
            {"name": "opnai/gpt-4o", "api_base": None},
            "set PROVIDER/MODEL, as openai/gpt-5-mini",
        ),
        ("ok", [], {"api_base": "http://127.0.0.1:9/v1"}, "Start it, or set model.api_base"),
        ("html", [], {}, "is api_base (which mostly ends in /v1) right?"),
    ],
)
def test_what_can_not_work_is_one_line_that_says_what_to_set(
    tree: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    contact: str,
    models: list[Mapping[str, Any]],
    changes: dict[str, object],
    told: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    with FakeProvider(contact=contact, models=models) as provider:
        with pytest.raises(ConfigError) as refused:
            carried_out(tree, provider, tmp_path, **changes)
        assert provider.received == []
    assert told in str(refused.value)
    assert "sk-canary" not in str(refused.value)
    assert not list(tmp_path.glob("*/results.parquet"))


def test_a_name_that_the_server_lists_is_not_advised(tree: dict[str, Any], tmp_path: Path) -> None:
    with (
        FakeProvider(contact="404", models=LISTED) as provider,
        pytest.raises(ConfigError, match="no such model") as refused,
    ):
        carried_out(tree, provider, tmp_path)
    assert "set model.name" not in str(refused.value)


def test_an_address_that_lacks_its_end_is_found(tree: dict[str, Any], tmp_path: Path) -> None:
    with FakeProvider(contact="404", models=LISTED) as provider:
        short = provider.api_base.removesuffix("/v1")
        with pytest.raises(ConfigError, match=f"answers at {short}/v1: set model.api_base to that"):
            carried_out(tree, provider, tmp_path, api_base=short)


def test_an_address_may_end_with_a_slash(tree: dict[str, Any], tmp_path: Path) -> None:
    with FakeProvider(models=LISTED) as provider:
        slash = {"api_base": f"{provider.api_base}/", "context_window": 8000}
        with pytest.raises(ConfigError, match=r"set model\.context_window=4096"):
            carried_out(tree, provider, tmp_path, **slash)


def test_what_passes_is_left_to_the_run(tree: dict[str, Any], tmp_path: Path) -> None:
    with FakeProvider(contact="429") as provider:
        assert carried_out(tree, provider, tmp_path) == 0
        assert provider.requests == 2


def test_a_cap_counts_it(tree: dict[str, Any], tmp_path: Path) -> None:
    budget = {"run": {"calls": 2}, "sample": {}, "matched": False}
    with FakeProvider() as provider:
        assert carried_out({**tree, "budget": budget}, provider, tmp_path) == 3
        assert (len(provider.contacts), provider.requests) == (1, 1)


def test_what_else_it_learns_is_said(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider(contact="thoughts_beside", models=LISTED) as provider:
        assert carried_out(tree, provider, tmp_path, context_window=2000) == 0
    said = capsys.readouterr().err
    assert "serves fake with 4096 tokens: model.context_window=4096 would use them all" in said
    assert "openai/fake thinks before it writes: give it room" in said


def test_a_server_is_asked_for_the_name_it_lists_and_for_no_temperature(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    named = {"name": "openai/gpt-oss-20b", "provider": "hosted_vllm", "own_temperature": True}
    with FakeProvider() as provider:
        assert carried_out(tree, provider, tmp_path, **named) == 0
    sent = [*provider.contacts, *provider.received]
    assert {body["model"] for body in sent} == {"openai/gpt-oss-20b"}
    assert not any("temperature" in body for body in sent)
    assert compose_tree(["model=gpt-5"])["model"]["own_temperature"] is True
