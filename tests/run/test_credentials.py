"""Credentials: refused in a configuration, taken from the environment, cut out everywhere."""

from __future__ import annotations

import base64
import html
import json
import os
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from helpers.fake_provider import BEHAVIOURS, FakeProvider
from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.config.credentials import refuse_credentials
from rlm_eval.errors import ConfigError
from rlm_eval.journal.redaction import Redactor, secrets_of
from rlm_eval.runs.assemble import assemble

PASSWORD = "hunter2!Pass/9x"
KEY = "k3y-0123456789-abcdef"
LITELLM = ["model=litellm", "model.name=openai/fake", "model.api_base=http://127.0.0.1:9/v1"]
SMALL = ["task=needle", "task.lengths=[500]", "task.n=1", "method=[direct]"]


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def refused(arguments: list[str], secret: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that refuses them, without the secret and before anything is made."""
    capsys.readouterr()
    assert run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1), err
    assert secret not in err
    return err


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        (f"model.api_base='http://user:{PASSWORD.replace('/', '')}@host/v1'", "API_BASE_PASSWORD"),
        (f"model.api_base=http://host/v1?api_key={KEY}", "API_BASE_PASSWORD"),
        (f"+model.params.extra_headers={{Authorization: '{PASSWORD}'}}", "AUTHORIZATION"),
        (f"+model.params.extra_headers={{X-Api-Key: {PASSWORD}}}", "X_API_KEY"),
        ("+model.params.extra_headers={X-Trace: 'Bearer abcdefgh'}", "X_TRACE"),
        (f"+model.params.aws_secret_access_key={PASSWORD}", "AWS_SECRET_ACCESS_KEY"),
        (f"+model.params.aws_session_token={KEY}", "AWS_SESSION_TOKEN"),
        (f"+model.params.api_key={KEY}", "model.api_key_env=NAME"),
        (f"+model.fixed_api_key={KEY}", "FIXED_API_KEY"),
        (f"+model.params.deep.clientSecret={PASSWORD}", "CLIENT_SECRET"),
        ("+model.params.password=12345678", "PASSWORD"),
        ("+model.params.note=sk-0123456789abcdefghij", "NOTE"),
        ("model.api_key_env=sk-0123456789abcdefghij", "API_KEY_ENV"),
        (f"+sub_model.params.azure_ad_token={KEY}", "AZURE_AD_TOKEN"),
        (f"+judge_model.params.vertex_credentials={PASSWORD}", "VERTEX_CREDENTIALS"),
        (f"+embed_model.api_base=http://a:{KEY}@b", "API_BASE_PASSWORD"),
        (f"+method.rlms.kwargs.other_key={KEY}", "OTHER_KEY"),
        (f"+method.rlms.kwargs.hf_token={KEY}", "HF_TOKEN"),
        (f"method.foreign_command.command=[python,x.py,--api-key,{KEY}]", "API_KEY"),
        (f"method.foreign_command.command=[python,x.py,--api-key={KEY}]", "API_KEY"),
        (f"method.foreign_command.command=[bash,-c,'DB_PASSWORD={KEY} ./run']", "DB_PASSWORD"),
        (f"method.foreign_command.command=[bash,-c,'./run --token {KEY}']", "TOKEN"),
        ("+task.url=postgres://u:pw12@db/x", "URL_PASSWORD"),
    ],
)
def test_a_credential_in_the_configuration_is_refused_with_where_to_put_it(
    setting: str, variable: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*LITELLM, *SMALL, f"results_dir={tmp_path}", setting]
    if "method." in setting:
        arguments[arguments.index("method=[direct]")] = "method=[rlms,foreign_command]"
    error = refused(arguments, PASSWORD, capsys)
    assert KEY not in error
    assert variable in error
    key = setting.partition("=")[0].lstrip("+")
    assert key in error
    assert refused(["-m", *arguments, "seed=1,2"], PASSWORD, capsys) == error
    assert not list(tmp_path.iterdir())


def test_a_key_that_the_shell_put_in_is_refused_with_its_variables_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_PROVIDER_KEY", KEY)
    error = refused([*LITELLM, *SMALL, f"+model.params.user=x-{KEY}"], KEY, capsys)
    assert "${oc.env:MY_PROVIDER_KEY}" in error


def test_a_credential_in_a_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    node = {**compose_tree(LITELLM)["model"], "params": {"api_secret": PASSWORD}}
    (tmp_path / "model" / "mine.yaml").write_text(yaml.safe_dump(node))
    tree = compose_tree([f"hydra.searchpath=[file://{tmp_path}]", "model=mine"])
    with pytest.raises(ConfigError, match=r"model\.params\.api_secret holds a credential"):
        check_config(tree)


@pytest.mark.parametrize(
    "setting",
    [
        *("+model.params.max_output_tokens=99", "+model.params.logit_bias={token: 5}"),
        *("+model.params.eos_token='<|endoftext_2|>'", "model.tokenizer=cl100k_base"),
        *("model.token_margin=2", "+model.params.prompt_cache_key=rlm-2026-11-28-a"),
        *("+model.params.stop=['</s>']", "model.api_key_env=MY_KEY", "model.reasoning_tokens=9"),
        *(
            "model.api_base='http://user@host:8000/v1?version=2024-10-21'",
            "budget.run.tokens=99999",
        ),
        *("+model.params.user=someone", "+model.params.keyboard=abcdefgh1234"),
        "method.direct.think_tokens=1024",
    ],
)
def test_what_is_no_credential_is_let_through(setting: str) -> None:
    check_config(compose_tree([*LITELLM, *SMALL, setting]))


@pytest.mark.parametrize("bad", [f"{KEY}\n", f" {KEY}", f'"{KEY}"', f"'{KEY}", f"{KEY[:9]} {KEY}"])
@pytest.mark.parametrize("bad_end", ["", "\r", "\u200b", "é", "\\n"])
def test_a_key_that_can_be_none_is_refused_by_its_variables_name(
    bad: str, bad_end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad + bad_end)
    error = refused([*LITELLM, *SMALL], KEY, capsys)
    assert "OPENAI_API_KEY has white space, quotes" in error


@pytest.mark.parametrize(
    ("model", "variable"),
    [("cohere/x", "COHERE_API_KEY"), ("bedrock/x", "AWS_SECRET_ACCESS_KEY"), ("openai/x", "MINE")],
)
def test_whatever_variable_litellm_reads_is_looked_at(
    model: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, f"{KEY}\n")
    own = ["model.api_key_env=MINE"] if variable == "MINE" else []
    arguments = ["model=litellm", f"model.name={model}", *own, *SMALL]
    assert f"{variable} has white space" in refused(arguments, KEY, capsys)


@pytest.mark.parametrize("secret", [KEY, 'pass"w/ö+rd\\1 &<2', f"{KEY}==", "pä55wörtchen+/="])
def test_a_secret_goes_in_whatever_form_it_is_written(secret: str) -> None:
    redact = Redactor({secret})
    in_json = json.dumps({"body": json.dumps({"key": secret})})
    basic = base64.b64encode(f"someone:{secret}".encode()).decode()
    forms = [
        *(secret, f"'{secret}'", repr(secret), json.dumps(secret), in_json, html.escape(secret)),
        *(json.dumps(secret, ensure_ascii=False), json.dumps(repr(secret))),
        *(quote(secret), quote(secret, safe=""), quote_plus(secret), quote(secret, "").lower()),
    ]
    for form in forms:
        assert "[key]" in redact(f"see {form}."), form
    for user in ("", "u:", "me:", "you:"):
        basic = base64.b64encode(f"{user}{secret}:".encode()).decode()
        cut = redact(basic)
        assert "[key]" in cut
        assert secret not in str(base64.b64decode(cut.split("[key]")[0] + "=="))


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("GITHUB_PAT", "abcd1234efgh", "abcd1234efgh"),
        (
            "SENTRY_DSN",
            "https://0a1b2c3d4e5f@o1.ingest.io/2",
            "https://0a1b2c3d4e5f@o1.ingest.io/2",
        ),
        ("DATABASE_URL", "postgres://app:pg-secret@db/x", "pg-secret"),
        ("SOMEWHERE", "redis://:red1s-secret@cache:6379", "red1s-secret"),
        ("HTTPS_PROXY", "http://me:p4ssw%21rd@proxy:3128", "p4ssw!rd"),
        ("MY_SECRET_SAUCE", "abcd1234efgh", "abcd1234efgh"),
        ("PGPASSWORD", " abcd1234efgh\n", "abcd1234efgh"),
        ("SMTP_PASS", "'abcd1234efgh'", "abcd1234efgh"),
        ("AWS_CONTAINER_AUTHORIZATION", "abcd1234efgh", "abcd1234efgh"),
        ("AWS_ANYTHING_ELSE", "abcd1234efgh", "abcd1234efgh"),
        ("GCP_CREDENTIALS", '{"private_key": "MIIEabcd1234efgh5678"}', "MIIEabcd1234efgh5678"),
        ("AZURE_CONNECTION_STRING", "A=b;AccountKey=abcd1234efgh5678==;", "abcd1234efgh5678"),
        ("TLS_KEY", "-----BEGIN KEY-----\nMIIEabcd1234efgh5678\n---", "MIIEabcd1234efgh5678"),
    ],
)
def test_a_variables_name_or_value_tells_of_a_secret(name: str, value: str, found: str) -> None:
    assert found in secrets_of({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_REGION", "us-east-1"),
        ("AWS_PROFILE", "research2"),
        ("PATHS", "abcd1234efgh"),
        ("COMPASS", "abcd1234efgh"),
        ("AUTHOR", "abcd1234efgh"),
        ("PWD", "/"),
        ("MIRROR", "http://host:8080/some/path@2"),
    ],
)
def test_other_variables_hold_none(name: str, value: str) -> None:
    assert secrets_of({name: value}) == set()


def test_what_comes_from_the_environment_is_used_and_never_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVER_PW", "pw-54321x")
    monkeypatch.setenv("SERVER_LOGIN", f"Bearer {KEY}")
    monkeypatch.setenv("WINDOW", "9000")
    headers: dict[str, str] = {}

    def noticing(handler: Any) -> None:
        headers.update({name.lower(): value for name, value in handler.headers.items()})
        BEHAVIOURS["ok"](handler)

    with FakeProvider([noticing]) as provider:
        base = provider.api_base.replace("://", "://someone:${oc.env:SERVER_PW}@")
        arguments = [
            *("model=litellm", "model.name=openai/fake", f"model.api_base='{base}'", *SMALL),
            "+model.params.extra_headers={X-Login: '${oc.env:SERVER_LOGIN}'}",
            *("model.context_window=${oc.env:WINDOW}", "sub_model.reasoning_tokens=1"),
            f"results_dir={tmp_path}",
        ]
        assert run_command(arguments) == 0
        (run_dir,) = tmp_path.iterdir()
        assert headers["x-login"] == f"Bearer {KEY}"
        assert run_command(["report", str(run_dir)]) == 0
        stored = yaml.safe_load((run_dir / "config.yaml").read_text())
        for role in ("model", "sub_model"):
            assert stored[role]["api_base"] == base
            assert stored[role]["params"]["extra_headers"]["X-Login"] == "${oc.env:SERVER_LOGIN}"
            assert stored[role]["context_window"] == 9000
        monkeypatch.setenv("SERVER_LOGIN", f"Bearer {KEY}-another")  # a rotated key is no new run
        monkeypatch.setenv("SERVER_PW", "pw-98765y")
        assert run_command(arguments) == 0
    assert [path.name for path in tmp_path.iterdir()] == [run_dir.name]
    out, err = capfd.readouterr()
    assert "this run is finished" in err
    for secret in (KEY, "pw-54321x", "pw-98765y"):
        assert secret not in out + err
        for path in (p for p in run_dir.rglob("*") if p.is_file()):
            assert secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("setting", "values", "same"),
    [
        ("+model.params.reasoning_effort", ("low", "high"), False),
        ("model.name", ("openai/fake-1", "openai/fake-2"), False),
        ("+model.params.user", (KEY, f"{KEY}-another"), True),
    ],
)
def test_what_comes_from_the_environment_and_is_no_secret_tells_runs_and_results_apart(
    setting: str, values: tuple[str, ...], same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for value in values:
        monkeypatch.setenv("SOME_WORD", value)
        tree = compose_tree([*LITELLM, *SMALL, f"{setting}=${{oc.env:SOME_WORD}}"])
        parts = assemble(check_config(tree))
        found.append((parts.config.identity, parts.fingerprints["direct"]))
    assert [one == other for one, other in zip(*found, strict=True)] == [same, same]


def test_a_reference_to_nothing_and_one_that_does_not_fit_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_WORD", KEY)
    error = refused([*LITELLM, *SMALL, "+model.params.user=${oc.env:NOT_THERE_1}"], KEY, capsys)
    assert "model.params.user needs the environment variable NOT_THERE_1" in error
    error = refused([*LITELLM, *SMALL, "model.context_window=${oc.env:SOME_WORD}"], KEY, capsys)
    assert "model.context_window='${oc.env:SOME_WORD}' does not fit" in error
    check_config(compose_tree([*LITELLM, *SMALL, "+model.params.user=${oc.env:NOT_THERE_1,me}"]))


def test_an_environment_that_another_thread_changes_is_read_all_the_same() -> None:
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            os.environ["COMES_AND_GOES"] = "a word"
            del os.environ["COMES_AND_GOES"]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            refuse_credentials({"model": {"name": "plain"}})
            secrets_of(os.environ)
    finally:
        done.set()
        thread.join()
