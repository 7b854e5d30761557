"""The channel between harness and worker: frames, long texts in them, who answers a call."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from rlm_eval.repl.frames import HEADER, Decoder, Frame, FrameError, encode
from rlm_eval.repl.session import ReplSession, Sandbox

LONG = 'He said "\\no\u2028" ü😀\ud800 ' * 1000


def received(data: bytes, step: int, max_bytes: int = 1 << 30) -> list[Frame]:
    """The frames in ``data`` when it comes ``step`` bytes at a time."""
    decoder, frames = Decoder(max_bytes), []
    while data:
        with decoder.room() as room:
            count = min(step, len(room), len(data))
            room[:count] = data[:count]
        decoder.add(count)
        data = data[count:]
        while frame := decoder.next():
            frames.append(frame)
    return frames


# -- frames -------------------------------------------------------------------------------------

CALLS: dict[str, dict[str, Any]] = {
    "nothing long": {"args": ["a", 1, None], "kwargs": {}},
    "a long text": {"args": [LONG], "kwargs": {}},
    "by name": {"args": [], "kwargs": {"prompt": LONG, "n": 1}},
    "in a list": {"args": [["short", LONG, LONG + "2", ""]], "kwargs": {}},
    "in pairs": {"args": [[["q", LONG], [LONG, {"a.txt": LONG, "b": ["x", LONG]}]]], "kwargs": {}},
    "keys that are numbers": {"args": [{"1": LONG}], "kwargs": {}},
    "what a path looks like": {"args": [["args", 0, 5000], {"texts": [["a", 3]]}, LONG]},
}


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("name", CALLS)
def test_a_frame_arrives_as_it_was_however_it_comes(name: str, step: int) -> None:
    head = CALLS[name]
    data = encode(head, b"blob", roomy=[key for key in ("args", "kwargs") if key in head])
    frames = received(data + encode({"op": "next"}), step)
    assert [frame.head for frame in frames] == [head, {"op": "next"}]
    assert [frame.blob for frame in frames] == [b"blob", b""]
    assert frames[0].size == len(data)


def test_a_long_text_is_not_escaped() -> None:
    text = '"\\\n' * 100_000
    assert len(encode({"args": [text]}, roomy=("args",))) < len(text) + 100
    assert len(encode({"args": [text]})) == len(json.dumps([text])) + len('{"args":}') + HEADER.size


def test_what_is_sent_is_left_as_it_was() -> None:
    prompts = ["short", LONG]
    encode({"args": (prompts,)}, roomy=("args",))
    assert prompts == ["short", LONG]


def test_many_frames_at_once() -> None:
    heads = [{"op": "call", "id": i, "text": "x" * (i % 5000)} for i in range(2000)]
    data = b"".join(encode(head, roomy=("text",)) for head in heads)
    assert [frame.head for frame in received(data, 1 << 22)] == heads


def test_the_buffer_grows_with_what_came_and_not_with_what_was_promised() -> None:
    decoder = Decoder(1 << 30)
    with decoder.room() as room:
        room[: HEADER.size] = HEADER.pack(1 << 29, 1 << 28)
    decoder.add(HEADER.size)
    assert decoder.next() is None
    largest = 0
    for _ in range(20):
        with decoder.room() as room:
            largest = max(largest, len(room))
            count = len(room)
        decoder.add(count)
        assert decoder.next() is None
        if largest > 1 << 22:
            break
    with decoder.room() as room:
        assert len(room) <= 1 << 25


def test_a_frame_over_the_cap_is_refused_before_it_came() -> None:
    with pytest.raises(FrameError, match="over the cap"):
        received(HEADER.pack(600, 500), 8, max_bytes=1000)


FORGED = {
    "no list": 5,
    "no entry": [5],
    "an entry too short": [[3]],
    "no such key": [["argh", 0, 3]],
    "no such index": [["args", 7, 3]],
    "an index from the end": [["args", -1, 3]],
    "an index that is a bool": [["args", False, 3]],
    "an index that is a text": [["args", "0", 3]],
    "a key that is a number": [["kwargs", 0, 3]],
    "a key that is a list": [["kwargs", ["a"], 3]],
    "into a text": [["op", 0, 3]],
    "where something stands": [["op", 3]],
    "into a number": [["id", 0, 3]],
    "more than there is": [["args", 0, 4]],
    "more than is left": [["args", 0, 2], ["args", 1, 2]],
    "a negative size": [["args", 0, -1]],
    "a size that is a float": [["args", 0, 1.0]],
    "a size that is a bool": [["args", 0, True]],
    "no text at all": [["args", 0, 1]],
}


@pytest.mark.parametrize("name", FORGED)
def test_texts_put_where_none_belong_are_no_frame(name: str) -> None:
    head = {"op": "call", "id": 1, "args": ["", ""], "kwargs": {"a": ""}, "texts": FORGED[name]}
    raw = b"\xffbc" if name == "no text at all" else b"abc"
    with pytest.raises(FrameError):
        received(encode(head, raw), 1 << 20)
    good = encode({**head, "texts": [["args", 1, 2], ["kwargs", "a", 1]]}, b"abc")
    assert received(good, 1 << 20)[0].head["args"] == ["", "ab"]


def test_a_forged_text_ends_its_own_worker(sandbox: Sandbox) -> None:
    forge = (
        "import json, os, stat, struct\n"
        "fd = next(fd for fd in range(3, 100) if stat.S_ISSOCK(os.fstat(fd).st_mode))\n"
        "head = json.dumps({'op': 'call', 'texts': [['args', 0, 9]], 'args': ['']}).encode()\n"
        "os.write(fd, struct.pack('!II', len(head), 3) + head + b'abc')\nwhile True: pass"
    )
    with sandbox.session({}) as session:
        result = session.run(forge)
        assert (result.interrupted, result.state) == ("crashed", "lost")
        assert "protocol" in (result.error or "")


# -- calls --------------------------------------------------------------------------------------


def test_long_texts_cross_both_ways(sandbox: Sandbox) -> None:
    seen: list[Any] = []

    def keep(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return [LONG, {"text": LONG * 50}, "short"]

    with sandbox.session({"keep": keep}) as repl:
        repl.load("text", LONG)
        result = repl.run("r = keep(text * 50, [text, ('a', {'b': text})], key=text)\nlen(r)")
        assert result.error is None
        assert seen == [((LONG * 50, [LONG, ["a", {"b": LONG}]]), {"key": LONG})]
        assert repl.run("r == [text, {'text': text * 50}, 'short']").value == "True"


def test_a_replay_finds_the_answers_to_long_prompts(sandbox: Sandbox) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return f"{len(asked)}: {prompt}"

    with sandbox.session({"ask": ask}) as repl:
        repl.run("r = [ask('a' * 10_000), ask('b' * 10_000), ask('a' * 10_000)]")
        before = repl.read("r")
        assert repl.run("import os; os._exit(0)").state == "restored"
        assert repl.read("r") == before
        assert len(asked) == 3


def test_who_calls_alone_is_answered_by_the_sessions_own_thread(sandbox: Sandbox) -> None:
    answering: list[bool] = []

    def where() -> None:
        answering.append(threading.current_thread() is threading.main_thread())

    with sandbox.session({"where": where}) as repl:
        repl.run("where()\nwhere()")
        repl.run("import threading\nt = threading.Thread(target=where)\nt.start()\nt.join()")
        repl.run("where()")
    assert answering == [True, True, False, True]


def test_a_type_error_inside_a_host_function_is_not_the_models(sandbox: Sandbox) -> None:
    def broken(text: str) -> str:
        return text + 1  # type: ignore[operator]

    with sandbox.session({"broken": broken}) as repl:
        with pytest.raises(TypeError, match="can only concatenate"):
            repl.run("broken('x')")
        assert repl.run("broken()").error_type == "TypeError"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_flood_of_calls_that_say_they_are_alone_is_stopped(size: int) -> None:
    """None of them reads its answer: the harness must not wait for that."""
    code = (
        "import json, os, stat, struct, sys\n"
        "fd = next(fd for fd in range(3, 100) if stat.S_ISSOCK(os.fstat(fd).st_mode))\n"
        "caller = sys._getframe()\n"
        "while 'number' not in caller.f_locals: caller = caller.f_back\n"
        "call = {'op': 'call', 'id': 1, 'block': caller.f_locals['number'], 'name': 'ask'}\n"
        "head = json.dumps({**call, 'alone': True, 'args': [], 'kwargs': {}}).encode()\n"
        "while True: os.write(fd, struct.pack('!II', len(head), 0) + head)"
    )
    limits = {"block_seconds": 1, "grace_seconds": 0.5, "concurrent_calls": 8}
    with Sandbox("auto", limits) as made, made.session({"ask": lambda: "x" * size}) as session:
        began = time.monotonic()
        result = session.run(code)
        assert result.interrupted in ("time_limit", "killed", "crashed")
        assert time.monotonic() - began < 10
        assert session.run("1").value == "1"


def test_a_message_that_is_looked_for_is_not_missed(repl: ReplSession) -> None:
    """Answers and blocks that come during the moment of looking, at its end, and long after."""
    for pause in (0, 0.0002, 0.0003, 0.0004, 0.01):
        time.sleep(pause)
        code = f"import time\nllm_query('a')\ntime.sleep({pause})\nllm_query('b')"
        assert repl.run(code).value == "'<b>'"
