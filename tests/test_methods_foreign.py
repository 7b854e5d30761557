"""Foreign engines in a process of their own: small ones written here."""

from __future__ import annotations

import importlib.util
import json
import secrets
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat import Table, problem, scripted
from foreign_engines import (
    answer_of,
    both_ways,
    eventually,
    python_engine,
    running,
    shout,
    sleeping,
)
from rlm_eval.errors import ConfigError, ProviderError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.foreign import confine
from rlm_eval.methods.foreign.command import ForeignCommand
from rlm_eval.methods.foreign.dspy_rlm import DspyRlm
from rlm_eval.methods.foreign.process import Isolation
from rlm_eval.methods.foreign.record import Record
from rlm_eval.methods.foreign.rlms import Rlms
from rlm_eval.models.door import CallTags, Completion
from rlm_eval.models.protocol import Reply, Usage
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer, Content

# -- any executable ----------------------------------------------------------------------------


@both_ways
def test_a_python_engine_answers_through_the_door(tmp_path: Path, isolation: Isolation) -> None:
    code = """
        notes = ask("note on " + context, os.environ["OPENAI_SUB_MODEL"])
        print("working", file=sys.stderr)
        print(ask(question + " " + notes, os.environ["OPENAI_MODEL"]))
    """
    engine = python_engine(tmp_path, code, isolation=isolation)
    got, table = answer_of(engine)
    assert (got.text, got.outcome, got.error) == ("HOW MANY? NOTE ON ALPHA\nBETA", "answered", "")
    assert [(c.role, c.depth, c.from_repl) for c in table.calls] == [
        ("sub", 1, True),
        ("root", 0, False),
    ]
    assert got.iterations == 1
    assert got.sandbox_level == {"confined": "bwrap", "none": "none"}[isolation]
    assert [event["type"] for event in got.trajectory] == ["start", "call", "turn"]
    assert got.trajectory[0]["settings"]["isolation"] == isolation


SHELL = r"""#!/bin/sh
question=$(cat "$QUESTION_FILE")
body='{"model": "root", "messages": [{"role": "user", "content": "'$question'"}]}'
curl -s "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" -d "$body" |
    sed 's/.*"content": "\([^"]*\)".*/\1 /'
wc -c < "$CONTEXT_FILE"
"""


@both_ways
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_a_shell_script_is_an_engine(tmp_path: Path, isolation: Isolation) -> None:
    script = tmp_path / "engine.sh"
    script.write_text(SHELL)
    got, table = answer_of(ForeignCommand(command=["sh", str(script)], isolation=isolation))
    assert got.text == "HOW MANY? 11"
    assert len(table.calls) == 1


@pytest.mark.parametrize(
    ("content", "text", "documents"),
    [
        ("ein Wort \U0001f642", "ein Wort \U0001f642", "ein Wort \U0001f642"),
        (("one", "two"), "Document 1:\none\n\nDocument 2:\ntwo", ["one", "two"]),
        ({"a.py": "x"}, "a.py:\nx", {"a.py": "x"}),
    ],
)
def test_an_engine_is_given_the_input_as_text_and_as_documents(
    tmp_path: Path, content: Content, text: str, documents: Any
) -> None:
    code = "print(json.dumps([context, json.load(open(os.environ['DOCUMENTS_FILE']))]))"
    got, _ = answer_of(python_engine(tmp_path, code, isolation="none"), content=content)
    assert json.loads(got.text or "") == [text, documents]


FINDINGS = """
    import socket, subprocess
    def can(action):
        try:
            return bool(action())
        except Exception:
            return False
    folder, port, pid, harness, tasks = sys.argv[1:]
    print(json.dumps({
        "read a file of the user": can(lambda: open(folder + "/secret.txt").read()),
        "read /etc/passwd": can(lambda: open("/etc/passwd").read()),
        "read the harness": can(lambda: open(harness + "/records.py").read()),
        "read the tasks": can(lambda: os.listdir(tasks)),
        "import the harness": can(lambda: __import__("rlm_eval.records")),
        "try to write elsewhere": can(lambda: open(folder + "/written", "w").write("x")),
        "reach another server": can(lambda: socket.create_connection(("127.0.0.1", int(port)), 2)),
        "see the harness's process": can(lambda: os.path.exists(f"/proc/{pid}/status")),
        "see a key": any("SECRET" in value for value in os.environ.values()),
        "write in its folder": can(lambda: open("own", "w").write("x")),
        "start programs": can(lambda: subprocess.run(["true"]).returncode == 0),
        "ask its model": can(lambda: ask("x")),
    }))
"""
ALWAYS = {"write in its folder", "start programs", "ask its model"}


@both_ways
def test_what_an_engine_can_reach(
    tmp_path: Path, isolation: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "SECRET")
    monkeypatch.setenv("SOME_KEY", "SECRET")
    (tmp_path / "secret.txt").write_text("the user's")
    found = [importlib.util.find_spec(name) for name in ("rlm_eval", "rlm_eval.tasks")]
    packages = [str(Path(spec.origin).parent) for spec in found if spec and spec.origin]
    engine = python_engine(tmp_path, FINDINGS, isolation=isolation)
    with socket.create_server(("127.0.0.1", 0)) as server, sleeping() as other:
        port = str(server.getsockname()[1])
        engine.command += [str(tmp_path), port, str(other.pid), *packages]
        got, _ = answer_of(engine)
    can = json.loads(got.text or got.error)
    can["write elsewhere"] = (tmp_path / "written").exists()
    del can["try to write elsewhere"]  # it may, in a file system of its own
    assert can.pop("see a key") is False
    assert {name for name in ALWAYS if can.pop(name)} == ALWAYS
    assert {name for name in can if can[name]} == (set() if isolation == "confined" else set(can))


#: Starts a program in a session of its own that outlives whoever doesn't look for it.
STRAY = """
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1]],
                     start_new_session=True)
"""


@both_ways
@pytest.mark.parametrize("ending", ["answers", "is late", "is killed"])
def test_nothing_of_an_engine_is_left(tmp_path: Path, isolation: Isolation, ending: str) -> None:
    then = {
        "answers": "print('done')",
        "is late": "import time; time.sleep(300)",
        "is killed": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    }
    code = textwrap.dedent(STRAY) + then[ending]
    seconds = 1.5 if ending == "is late" else 60
    engine = python_engine(tmp_path, code, isolation=isolation, seconds=seconds)
    marker = f"stray-{secrets.token_hex(8)}"
    engine.command.append(marker)
    began = time.monotonic()
    got, _ = answer_of(engine)
    assert time.monotonic() - began < 20
    assert eventually(lambda: not running(marker))
    outcome = {"answers": "answered", "is late": "budget_exceeded", "is killed": "invalid_answer"}
    assert got.outcome == outcome[ending]
    if ending == "is late":
        assert "method.foreign_command.seconds=1.5" in got.error


@both_ways
def test_an_engine_ends_with_its_harness(tmp_path: Path, isolation: Isolation) -> None:
    marker = f"orphan-{secrets.token_hex(8)}"
    engine = tmp_path / "engine.py"
    engine.write_text(f"import sys\n{textwrap.dedent(STRAY)}\nimport time; time.sleep(300)")
    harness = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from foreign_engines import ForeignCommand, answer_of
answer_of(ForeignCommand(command=[{sys.executable!r}, {str(engine)!r}, {marker!r}],
                         isolation={isolation!r}))
"""
    with subprocess.Popen([sys.executable, "-c", harness]) as process:
        assert eventually(lambda: len(running(f"time.sleep(300)\0{marker}")) > 0)
        process.kill()
    assert eventually(lambda: not running(marker))


# -- how a sample ends -------------------------------------------------------------------------


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

    good = 1

    def complete(self, *args: Any, **kwargs: Any) -> Reply:
        self.good -= 1
        if self.good < 0:
            raise ProviderError("down", kind="unavailable", retryable=False)
        return super().complete(*args, **kwargs)


@both_ways
def test_a_providers_failure_stops_the_engine_and_leaves_the_sample_owed(
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


def test_the_runs_spent_cap_passes_through(tmp_path: Path) -> None:
    engine = python_engine(tmp_path, "while True: ask('x')", isolation="none")
    table = Table(scripted(shout))
    with pytest.raises(RunBudgetExceeded):
        engine.answer(problem(), table.lm(), Ledger(Budget(calls=2)).child())
    assert len(table.calls) == 2


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
    spent = sum(call.prompt_tokens + call.completion_tokens for call in table.calls)
    assert got.outcome == "budget_exceeded"
    assert 500 - 54 - 20 < spent <= 500  # the next call, of 54 + 20 tokens, did not fit


def test_an_engine_that_says_nothing_has_no_answer(tmp_path: Path) -> None:
    got, _ = answer_of(python_engine(tmp_path, "print('  ')", isolation="none"))
    assert (got.text, got.outcome) == ("", "answered"), "which the runner makes a no_answer"


def test_blocks_stand_after_the_turn_that_wrote_them() -> None:
    record = Record("the input", engine="x")
    replies = ["```a()``` and ```b()```", "```b()```", "no code", "```c()```"]
    for number, reply in enumerate(replies):
        record.call(CallTags(), [], Completion(reply, str(number), "stop", Usage()))
    codes = ["a()", "b()", "b()", "c()", "d()"]
    blocks = [{"code": code, "output": "", "error": ""} for code in codes]
    told = [event.get("code", event.get("reply")) for event in record.trajectory(blocks)[1:]]
    assert told == [
        *(replies[0], "a()", "b()"),
        *(replies[1], "b()"),
        replies[2],
        *(replies[3], "c()"),
        "d()",
    ]


def test_two_samples_at_once_do_not_mix(tmp_path: Path) -> None:
    engine = python_engine(tmp_path, "print(*(ask(context) for i in range(5)))", isolation="none")
    table = Table(scripted(shout))
    ledgers = [table.ledger(), table.ledger()]
    answers: dict[int, Answer] = {}

    def one(number: int) -> None:
        lm = table.door.lm(f"key {number}", memory_scope="arm")
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


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ForeignCommand(), "command is empty"),
        (lambda: ForeignCommand(command=["x"], turn_tokens=0), "turn_tokens must be at least 1"),
        (lambda: ForeignCommand(command=["x"], seconds=0), "seconds must be above 0"),
        (lambda: ForeignCommand(command=["x"], readable=["/no/such"]), "there is no /no/such"),
        (lambda: Rlms(max_depth=0), "method.rlms.max_depth must be at least 1"),
        (lambda: Rlms(kwargs={"backend": "anthropic"}), "kwargs.backend can't be set"),
        (lambda: DspyRlm(max_iterations=0), "method.dspy_rlm.max_iterations"),
        (lambda: DspyRlm(interpreter="deno"), "isolation=none"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)


def test_what_is_missing_is_said_before_anything_starts() -> None:
    models = {"root": scripted(shout).info}

    class Absent(Rlms):
        package = "rlms-that-nobody-installed"

    with pytest.raises(ConfigError, match=r'pip install "rlm_eval\[rlms-that'):
        Absent(isolation="none").check(models)
    with pytest.raises(ConfigError, match="there is no program no-such-engine"):
        ForeignCommand(command=["no-such-engine"], isolation="none").check(models)
    with pytest.raises(ConfigError, match="leaves no room"):
        ForeignCommand(command=["true"], isolation="none", turn_tokens=200_000).check(models)


def test_without_bubblewrap_isolation_has_to_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    confine.why_not.cache_clear()
    engine = ForeignCommand(command=[sys.executable])
    try:
        with pytest.raises(ConfigError, match=r"bubblewrap.*isolation=none"):
            engine.check({"root": scripted(shout).info})
    finally:
        confine.why_not.cache_clear()


def test_another_engine_is_another_result(tmp_path: Path) -> None:
    one = python_engine(tmp_path, "print(1)")
    before = one.prompt_source()
    assert one.prompt_name() == Path(one.command[-1]).name
    Path(one.command[-1]).write_text("print(2)")
    assert one.prompt_source() != before
    released = [ForeignCommand(command=one.command, release=r).prompt_source() for r in "12"]
    assert len({before, *released}) == 3
