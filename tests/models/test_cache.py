"""The response cache: what it answers, what it must not, and who may share its file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_provider import FakeProvider
from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import BudgetExceeded, ConfigError, ProviderError
from rlm_eval.journal.redaction import Redactor
from rlm_eval.ledger import Budget, Ledger, Spend
from rlm_eval.models.cache import ResponseCache, check_cache, reply_shaping
from rlm_eval.models.client import LM, CallTags, ModelClient, RetryPolicy
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.protocol import ChatModel, Message, user
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Call, Role

SUB = CallTags("sub", depth=1, from_repl=True)


class Counting:
    """A script whose replies are numbers, each asked for once."""

    def __init__(self) -> None:
        self.asked = 0
        self._numbers = count()
        self._lock = threading.Lock()

    def __call__(self, messages: Sequence[Message]) -> str:
        with self._lock:
            self.asked += 1
            return f"reply {next(self._numbers)}"


@contextmanager
def client(
    path: Path,
    model: ChatModel,
    *,
    temperature: float | None = 0.0,
    sampling: bool = False,
    shapes: Mapping[Role, str] | None = None,
    secret: str = "",
) -> Iterator[tuple[ModelClient, list[Call]]]:
    """A run's client with the cache in ``path``, and the calls it writes down."""
    calls: list[Call] = []
    redact = Redactor([secret] if secret else [])
    cache = ResponseCache(path, shapes or {"root": "shape"}, sampling=sampling, redact=redact)
    with closing(cache):
        yield (
            ModelClient(
                {"root": model},
                lambda call, reply: calls.append(call),
                temperature=temperature,
                retry=RetryPolicy(attempts=1),
                cache=cache,
            ),
            calls,
        )


def ask(lm: LM, text: str = "hi", *, ledger: Ledger | None = None, tokens: int = 16) -> str:
    return lm.complete([user(text)], ledger=ledger or Ledger(), max_tokens=tokens).text


def test_a_second_run_is_answered_from_the_file_and_pays_nothing(tmp_path: Path) -> None:
    script, path = Counting(), tmp_path / "replies.db"
    model = ScriptedModel(script=script)
    with client(path, model) as (first, calls):
        assert ask(first.lm("r1", memory_scope="a|0")) == "reply 0"
        assert not calls[0].cached_response
        assert calls[0].prompt_tokens > 0
    with client(path, model) as (second, calls):
        ledger = Ledger().child(Budget(tokens=1))
        assert ask(second.lm("r2", memory_scope="b|0"), ledger=ledger) == "reply 0"
        assert ledger.spent == Spend()
        (hit,) = calls
        assert (hit.cached_response, hit.cost_usd, hit.finish_reason) == (True, 0.0, "stop")
        assert (hit.prompt_tokens, hit.completion_tokens, hit.latency_s) == (0, 0, 0.0)
        with pytest.raises(BudgetExceeded):
            ask(second.lm("r2", memory_scope="b|0"), "something else", ledger=ledger)
    assert script.asked == 1


def test_a_hit_is_a_sub_call_like_any_other(tmp_path: Path) -> None:
    model = ScriptedModel(script=Counting())
    for _ in range(2):
        with client(tmp_path / "replies.db", model) as (opened, calls):
            lm = opened.lm("r", memory_scope="a|0")
            prompts = [[user("same")], [user("same")], [user("other")]]
            lm.complete_batch(prompts, ledger=Ledger(), max_tokens=16, tags=SUB)
    assert [(c.role, c.from_repl, c.cached_response) for c in calls] == [("sub", True, True)] * 3
    assert len({c.call_id for c in calls}) == 3


@pytest.mark.parametrize(
    "change",
    ["prompt", "max_tokens", "name", "endpoint", "shape", "repeat", "temperature"],
)
def test_whatever_shapes_a_reply_is_part_of_its_key(tmp_path: Path, change: str) -> None:
    script, path = Counting(), tmp_path / "replies.db"
    with client(path, ScriptedModel(script=script), sampling=True) as (first, _):
        ask(first.lm("r", memory_scope="a|0"))
    model: ChatModel = ScriptedModel(
        name="other" if change == "name" else "scripted", script=script
    )
    if change == "endpoint":
        model = _Elsewhere(script)
    shapes: dict[Role, str] = {"root": "another" if change == "shape" else "shape"}
    temperature = 0.5 if change == "temperature" else 0.0
    with client(path, model, sampling=True, shapes=shapes, temperature=temperature) as (second, _):
        lm = second.lm("r", memory_scope="a|0", repeat=change == "repeat")
        text = "ho" if change == "prompt" else "hi"
        assert ask(lm, text, tokens=17 if change == "max_tokens" else 16) == "reply 1"


class _Elsewhere(ScriptedModel):
    """The scripted model behind another address."""

    def __init__(self, script: Counting) -> None:
        super().__init__(script=script)

    @property
    def info(self):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        return replace(super().info, endpoint="elsewhere")


def test_a_role_has_its_own_models_shape(tmp_path: Path) -> None:
    script, path = Counting(), tmp_path / "replies.db"
    for sub, expected in (("s1", "reply 0"), ("s2", "reply 1"), ("s1", "reply 0")):
        shapes: dict[Role, str] = {"root": "r", "sub": sub}
        with client(path, ScriptedModel(script=script), shapes=shapes) as (opened, _):
            lm = opened.lm("r", memory_scope="a|0")
            reply = lm.complete([user("hi")], ledger=Ledger(), max_tokens=16, tags=SUB)
            assert reply.text == expected


def test_what_can_not_change_a_reply_is_no_part_of_its_key() -> None:
    node = {"_target_": "x", "name": "m", "params": {"top_p": 0.9}}
    more = {"timeout_s": 3, "price": {"input": 1.0}, "limits": {}, "threads": 2, "latency_s": 0.1}
    assert reply_shaping(node | more) == node


def test_sampled_replies_are_kept_only_where_that_is_wanted(tmp_path: Path) -> None:
    """Then the n-th reply of a result to a prompt is the n-th again, in the same repeat."""
    script, path = Counting(), tmp_path / "replies.db"
    model = ScriptedModel(script=script)
    for temperature in (0.7, None):
        with client(path, model, temperature=temperature) as (opened, calls):
            assert ask(opened.lm("r", memory_scope="a|0")) != ask(opened.lm("r", memory_scope="a"))
            assert not any(c.cached_response for c in calls)
    said = []
    for _ in range(2):
        with client(path, model, temperature=0.7, sampling=True) as (opened, _):
            lm = opened.lm("r", memory_scope="a|0")
            votes = lm.complete_batch([[user("hi")]] * 3, ledger=Ledger(), max_tokens=16)
            said.append([*(v.text for v in votes if not isinstance(v, Exception)), ask(lm)])
    assert said[0] == said[1]
    assert len(set(said[0])) == 4


def at(provider: FakeProvider) -> LitellmModel:
    return LitellmModel(
        "openai/fake", 1000, api_base=provider.api_base, timeout_s=5.0, fixed_api_key="sk-x"
    )


@pytest.mark.parametrize("fault", ["500", "empty_choices", "filtered", "reset"])
def test_failures_are_never_kept(tmp_path: Path, fault: str) -> None:
    with FakeProvider([fault]) as provider:
        model = at(provider)
        with client(tmp_path / "replies.db", model) as (opened, _):
            lm = opened.lm("r", memory_scope="a|0")
            with pytest.raises(ProviderError):
                ask(lm)
            assert ask(lm) == "fine"
        assert provider.requests == 2


@pytest.mark.parametrize(("ended", "asked"), [("stop", 1), ("length", 1), ("content_filter", 2)])
def test_a_reply_that_was_cut_by_the_provider_is_not_kept(
    tmp_path: Path, ended: str, asked: int
) -> None:
    model = _Ending(ended)
    for _ in range(2):
        with client(tmp_path / "replies.db", model) as (opened, _):
            ask(opened.lm("r", memory_scope="a|0"))
    assert model.asked == asked


class _Ending(ScriptedModel):
    """Its replies end in a given way."""

    def __init__(self, ended: str) -> None:
        super().__init__()
        self.ended, self.asked = ended, 0

    def complete(self, messages, *, max_tokens, temperature):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        self.asked += 1
        reply = super().complete(messages, max_tokens=max_tokens, temperature=temperature)
        return replace(reply, finish_reason=self.ended)


def test_threads_that_ask_the_same_at_once_ask_once(tmp_path: Path) -> None:
    script = Counting()
    model, keys = ScriptedModel(latency_s=0.1, script=script), [f"r{i}" for i in range(8)]
    with client(tmp_path / "replies.db", model) as (opened, calls), ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda key: ask(opened.lm(key, memory_scope="a|0")), keys))
    assert said == ["reply 0"] * 8
    assert script.asked == 1
    assert sorted(c.cached_response for c in calls) == [False] + [True] * 7


_CHILD = """
import sys; from pathlib import Path
from rlm_eval.ledger import Ledger
from rlm_eval.models.cache import ResponseCache
from rlm_eval.models.client import ModelClient
from rlm_eval.models.scripted import ScriptedModel
model = ScriptedModel(script=lambda messages: messages[0]["content"][::-1])
cache = ResponseCache(Path(sys.argv[1]), {"root": "shape"})
client = ModelClient({"root": model}, lambda call, reply: None, cache=cache)
lm = client.lm("r", memory_scope="a|0")
for i in range(40):
    text = f"{'all' if i % 2 else sys.argv[2]} {i}"
    message = {"role": "user", "content": text}
    assert lm.complete([message], ledger=Ledger(), max_tokens=16).text == text[::-1]
"""


@pytest.mark.slow
def test_processes_share_the_file_from_its_first_moment(tmp_path: Path) -> None:
    """Four that open it together and write 40 replies each, half of them under the same keys."""
    path = tmp_path / "replies.db"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), str(i)], stderr=subprocess.PIPE, text=True
        )
        for i in range(4)
    ]
    errors = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 4, errors
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM replies").fetchone() == (4 * 20 + 20,)


def test_any_text_comes_back_and_no_key_is_kept(tmp_path: Path) -> None:
    secret = "sk-canary-0123456789"
    texts = iter(["a\ud800\x00b\r\n", f"it is {secret}", f"it is {secret} again"])
    model = ScriptedModel(script=lambda messages: next(texts))
    path = tmp_path / "replies.db"
    with client(path, model, secret=secret) as (opened, _):
        lm = opened.lm("r", memory_scope="a|0")
        assert ask(lm) == ask(lm) == "a\ud800\x00b\r\n"
        assert ask(lm, "the key?") == f"it is {secret}"
        assert ask(lm, "the key?") == f"it is {secret} again"
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret.encode() not in written


def test_a_place_that_can_not_be_a_cache_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes.txt").write_text("no data base, and longer than a header\n" * 9)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE something (x)")
    before = sorted(tmp_path.rglob("*"))
    for name, told in (
        ("nowhere/replies.db", "no folder"),
        (".", "must be a file"),
        ("notes.txt", "no cache of this"),
        ("other.db", "no cache of this"),
    ):
        with pytest.raises(ConfigError, match=told):
            check_cache(tmp_path / name)
    check_cache(tmp_path / "new.db")
    assert sorted(tmp_path.rglob("*")) == before
    with closing(ResponseCache(tmp_path / "new.db", {"root": "shape"})):
        check_cache(tmp_path / "new.db")


def test_a_file_that_breaks_later_ends_the_run_and_is_no_methods_failure(tmp_path: Path) -> None:
    with client(tmp_path / "replies.db", ScriptedModel()) as (opened, _):
        with closing(sqlite3.connect(tmp_path / "replies.db")) as db:
            db.execute("DROP TABLE replies")
        with pytest.raises(OSError, match="response cache"):
            ask(opened.lm("r", memory_scope="a|0"))


# -- the whole command -----------------------------------------------------------------------


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    """(exit code, lines of stdout, stderr) of a small scripted run."""
    small = ["model=scripted", "task=needle", "task.lengths=[1024]", "task.n=1"]
    code = run_command([*small, "method=[direct,rlm]", *arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def results(line: str) -> pd.DataFrame:
    return pd.read_parquet(Path(line) / "results.parquet")


@pytest.mark.slow
def test_runs_with_and_without_a_cache_never_meet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = f"response_cache={tmp_path}/replies.db"
    runs = [
        run(f"results_dir={tmp_path}/{place}", *more, capsys=capsys)
        for place, more in (("a", [cache]), ("b", [cache]), ("b", []))
    ]
    assert [code for code, _, _ in runs] == [0, 0, 0]
    assert not any("taken over" in err for _, _, err in runs)
    folders = [out[-1] for _, out, _ in runs]
    cold, warm, without = map(results, folders)
    same = ["sample_id", "method", "outcome", "answer", "score", "iterations", "calls", "subcalls"]
    pd.testing.assert_frame_equal(cold[same], warm[same])
    assert warm.prompt_tokens.sum() == 0 < cold.prompt_tokens.sum() == without.prompt_tokens.sum()
    assert not set(without.result_key) & set(warm.result_key)
    calls = len(pd.read_parquet(Path(folders[1]) / "calls.parquet"))
    assert any(f"{calls} of {calls} calls were answered without" in line for line in runs[1][1])


def test_where_the_file_lies_is_no_part_of_a_runs_name_but_what_it_answers_is() -> None:
    def identity(**changes: object) -> str:
        return check_config({**compose_tree(["model=scripted"]), **changes}).identity

    with_cache = identity(response_cache="a.db")
    assert with_cache == identity(response_cache="elsewhere/b.db")
    assert len({with_cache, identity(), identity(response_cache="a.db", cache_samples=True)}) == 3
    assert identity() == identity(cache_samples=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["response_cache=/nowhere/replies.db"], "there is no folder /nowhere"),
        (["response_cache=replies.db", "budget.sample.calls=5"], "leave out budget.sample"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_started(
    arguments: Iterable[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments, f"results_dir={tmp_path}/runs", capsys=capsys)
    assert (code, out) == (2, [])
    assert told in err
    assert not list(tmp_path.iterdir())
