"""Foreign engines in a process of their own: small ones written here."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import scripted
from helpers.encrypted_rows import CANARY, plain_row, write_rows
from helpers.foreign_engines import (
    answer_of,
    both_ways,
    confined_only,
    python_engine,
    running,
    shout,
    sleeping,
)
from helpers.waiting import eventually
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError
from rlm_eval.methods.foreign import engine as engine_module
from rlm_eval.methods.foreign.command import ForeignCommand
from rlm_eval.methods.foreign.confinement import PROBE, confined
from rlm_eval.methods.foreign.engine import Isolation
from rlm_eval.methods.foreign.packages import DspyRlm, Rlms
from rlm_eval.methods.foreign.process import PYTHON, why_not_confined
from rlm_eval.methods.foreign.process import running as started
from rlm_eval.methods.method import Shape
from rlm_eval.records import Content
from rlm_eval.repl import linux
from rlm_eval.runs.assemble import assemble

# -- any executable ----------------------------------------------------------------------------


@both_ways
def test_a_python_engine_answers_through_the_proxy(tmp_path: Path, isolation: Isolation) -> None:
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


def test_an_engine_sees_no_answers_of_ruler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "long_context_eval"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    command = confined(["true"], [], {}, 0)
    assert command[command.index(os.path.realpath(folder)) - 1] == "--tmpfs"


#: Starts a program in a session of its own that outlives whoever doesn't look for it.
STRAY = """
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1]],
                     start_new_session=True)
"""


@pytest.mark.slow
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
        assert "no answer within seconds=1.5" in got.error


@pytest.mark.slow
@both_ways
def test_an_engine_ends_with_its_harness(tmp_path: Path, isolation: Isolation) -> None:
    marker = f"orphan-{secrets.token_hex(8)}"
    engine = tmp_path / "engine.py"
    home = tmp_path / "home"
    note = f"open({str(home)!r}, 'w').write(os.environ['HOME'])" if isolation == "none" else "0"
    engine.write_text(
        f"import os, sys\n{note}{textwrap.dedent(STRAY)}\nimport time; time.sleep(300)"
    )
    harness = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from helpers.foreign_engines import ForeignCommand, answer_of
answer_of(ForeignCommand(command=[{sys.executable!r}, {str(engine)!r}, {marker!r}],
                         isolation={isolation!r}))
"""
    with subprocess.Popen([sys.executable, "-c", harness]) as process:
        assert eventually(lambda: len(running(f"time.sleep(300)\0{marker}")) > 0)
        process.kill()
    assert eventually(lambda: not running(marker))
    if isolation == "none":
        assert eventually(lambda: not Path(home.read_text()).exists())


# -- where its files are -----------------------------------------------------------------------

#: Prints the folder's mode, and all the places with something of the sample's in them.
PLACES = """
    names = "HOME", "TMPDIR", "QUESTION_FILE", "CONTEXT_FILE", "DOCUMENTS_FILE"
    own = [os.environ[name] for name in names]
    outputs = [os.readlink("/proc/self/fd/%d" % number) for number in (1, 2)]
    mounts = [line.split()[1:3] for line in open("/proc/mounts")]
    print(json.dumps([os.stat(own[0]).st_mode & 0o777, own, outputs, mounts]))
"""


@both_ways
@pytest.mark.skipif(sys.platform != "linux", reason="Linux keeps files in memory")
def test_what_an_engine_reads_and_writes_is_in_memory_and_gone_afterwards(
    tmp_path: Path, isolation: Isolation
) -> None:
    engine = python_engine(tmp_path, PLACES, isolation=isolation)
    got, _ = answer_of(engine)
    mode, own, outputs, mounts = json.loads(got.text or got.error)
    assert not engine.stores_input()
    assert all(place.startswith("/dev/shm/") for place in outputs)
    where = {"confined": "/tmp", "none": "/dev/shm"}[isolation]
    assert [where, "tmpfs"] in mounts
    assert all(place.startswith(f"{where}/") for place in own)
    assert isolation == "confined" or mode == 0o700
    assert not Path(own[0]).exists()


def test_a_task_that_must_not_be_stored_in_the_clear_needs_such_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [plain_row(i) for i in range(3)])
    overrides = ["model=scripted", "task=browsecomp_plus", f"task.path={path}", "task.n=1"]
    overrides += [f"task.canary='{CANARY}'", "method=[foreign_command]"]
    overrides += ["method.foreign_command.command=[sh]", "method.foreign_command.isolation=none"]
    config = check_config(compose_tree(overrides))
    assemble(config)
    monkeypatch.setattr(engine_module, "memory_folder", lambda least: None)
    with pytest.raises(ConfigError, match="must not be stored in the clear"):
        assemble(config)


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ForeignCommand(), "command must be the engine's program"),
        (lambda: ForeignCommand(command=["x"], turn_tokens=0), "turn_tokens must be at least 1"),
        (lambda: ForeignCommand(command=["x"], seconds=0), "seconds must be above 0"),
        (lambda: ForeignCommand(command=["x"], readable=["/no/such"]), "there is no /no/such"),
        (lambda: Rlms(max_depth=0), "max_depth must be at least 1"),
        (lambda: Rlms(kwargs={"backend": "anthropic"}), "kwargs.backend can't be set"),
        (lambda: Rlms(kwargs={"custom_system_prompt": ""}), "custom_system_prompt can't be set"),
        (lambda: DspyRlm(max_iterations=0), "max_iterations must be at least 1"),
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

    with pytest.raises(ConfigError, match=r'pip install -e "\.\[rlms-that'):
        Absent(isolation="none").check(models)
    with pytest.raises(ConfigError, match="command names no program: no-such-engine"):
        ForeignCommand(command=["no-such-engine"], isolation="none").check(models)
    with pytest.raises(ConfigError, match="readable must not hold rlm_eval, which has the answers"):
        ForeignCommand(command=["true"], readable=[str(Path(__file__).parents[2])]).check(models)
    with pytest.raises(ConfigError, match="leaves no room"):
        ForeignCommand(command=["true"], isolation="none", turn_tokens=200_000).check(models)


def test_without_bubblewrap_isolation_has_to_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    why_not_confined.cache_clear()
    engine = ForeignCommand(command=[sys.executable])
    try:
        with pytest.raises(ConfigError, match=r"bubblewrap.*isolation=none"):
            engine.check({"root": scripted(shout).info})
    finally:
        why_not_confined.cache_clear()


@confined_only
def test_what_does_not_confine_is_noticed_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with started([PYTHON, "-c", PROBE], {}, {}, None) as engine:
        engine.listener()
        assert b"can make namespaces" in engine.wait(30)[1]
    if os.geteuid() != 0:
        return
    monkeypatch.setattr(linux, "is_machines_root", lambda: False)  # it then owns what root owns
    why_not_confined.cache_clear()
    try:
        with pytest.raises(ConfigError, match="a confined process can change devices"):
            ForeignCommand(command=[sys.executable]).check({"root": scripted(shout).info})
    finally:
        why_not_confined.cache_clear()


@confined_only
def test_an_engine_that_is_its_owners_alone_runs_confined(tmp_path: Path) -> None:
    engine = python_engine(tmp_path, "print(ask('x'), os.listdir('.'))")
    Path(engine.command[-1]).chmod(0o600)
    got, _ = answer_of(engine)
    assert (got.text or got.error).startswith("X ")


@confined_only
def test_the_processes_of_an_engine_are_limited(tmp_path: Path) -> None:
    code = """
    import subprocess
    alive = []
    try:
        while len(alive) < 3000: alive.append(os.fork() or os._exit(time.sleep(60)))
    except OSError: print(len(alive) > 200)
    """
    got, _ = answer_of(python_engine(tmp_path, "import time\n" + textwrap.dedent(code)))
    assert got.text == "True"


def test_another_engine_is_another_result(tmp_path: Path) -> None:
    one = python_engine(tmp_path, "print(1)")
    before = one.prompt_source()
    assert one.prompt_name() == Path(one.command[-1]).name
    Path(one.command[-1]).write_text("print(2)")
    assert one.prompt_source() != before
    released = [ForeignCommand(command=one.command, release=r).prompt_source() for r in "12"]
    assert len({before, *released}) == 3


def test_an_engine_is_bounded_by_its_own_limits() -> None:
    shape, models = Shape(1000, 10, 32), {"root": scripted(shout).info}
    for engine, calls in ((Rlms(), [31, 31 * 64]), (DspyRlm(), [42, 50])):
        least, most = engine.bounds(shape, models)
        assert [part.calls for part in least] == [1]
        assert [part.calls for part in most or ()] == calls
    assert ForeignCommand(command=["x"]).bounds(shape, models)[1] is None


def test_no_setting_stands_on_a_command_line() -> None:
    engine = DspyRlm(kwargs={"headers": "a key"})
    assert "a key" not in " ".join(engine.argv())
    assert "a key" in engine.setup()["SETTINGS_FILE"]
