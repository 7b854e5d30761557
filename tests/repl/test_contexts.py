"""Variables in and out of the REPL: contexts loaded into it, values read from it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from helpers.repl_host import hurried
from rlm_eval.errors import SandboxError
from rlm_eval.repl import inplace
from rlm_eval.repl.session import ReplSession, Sandbox
from rlm_eval.repl.texts import SharedText


@pytest.mark.parametrize(
    "content",
    [
        "",
        "plain",
        "ü😀" * 300,
        "lone \ud800 surrogate",
        ("a", "", "ß" * 10),
        (),
        {"k": "v", "ключ": "значение"},
        {},
    ],
)
def test_load_and_read_back(repl: ReplSession, content: Any) -> None:
    repl.load("context", content)
    expected = list(content) if isinstance(content, tuple) else content
    assert repl.run("context").value == repr(expected)
    assert isinstance(content, str) is (repl.read("context") == expected)


def test_read(repl: ReplSession) -> None:
    repl.run("a = 'text'\nb = {'content': 'ä' * 20_000_000, 'n': None}\nc = {1, 2}\nd = None")
    assert repl.read("a") == "text"
    assert repl.read_item("b", "content") == "ä" * 20_000_000
    assert repl.read_item("b", "n") is None
    assert repl.read_item("b", "missing") is None
    assert repl.read_item("a", "content") is None
    assert repl.read("c") == "{1, 2}"
    assert repl.read("d") is None
    assert repl.read("__import__('os')") is None


def test_read_of_a_value_whose_repr_never_ends(repl: ReplSession) -> None:
    repl.run("class R:\n  def __repr__(self):\n    while True: pass\nr = R()\nx = 'kept'")
    with hurried(repl):
        assert repl.read("r") is None
    assert repl.read("x") == "kept"


def test_a_context_is_written_to_shared_memory_once(sandbox: Sandbox) -> None:
    text = "shared " * 1000
    assert sandbox.share(text) is sandbox.share(text)
    with sandbox.session({}) as one, sandbox.session({}) as two:
        for repl in (one, two):
            repl.load("context", text)
            assert repl.run("len(context)").value == "7000"


# -- texts that stay where the harness wrote them ------------------------------------------------

MILLION = 1_000_000
LARGEST = {"ascii": "\x7f", "latin-1": "ÿ", "two bytes": "\uffff", "four bytes": "\U0010ffff"}


@pytest.mark.parametrize("form", LARGEST)
def test_a_long_text_is_a_str_like_any_other(repl: ReplSession, form: str) -> None:
    """Compared with the same text made by the worker's own Python."""
    repl.load("context", "a\0\n" * MILLION + LARGEST[form])
    code = (
        f"import ctypes, pickle, re, sys\nmade = 'a\\0\\n' * {MILLION} + {LARGEST[form]!r}\n"
        "[context == made, hash(context) == hash(made), {made: 1}[context], type(context) is str,\n"
        " sys.getsizeof(context) == sys.getsizeof(made), context.encode() == made.encode(),\n"
        " len(context) == len(made), context[-5:] == made[-5:], context + 'x' == made + 'x',\n"
        " re.search(r'a\\0\\n.\\Z', context) is not None, context.count('a') == made.count('a'),\n"
        " ctypes.create_unicode_buffer(context)[:-1] == made,\n"
        " sys.intern(context) == made, pickle.loads(pickle.dumps(context)) == made]"
    )
    result = repl.run(code)
    assert result.error is None
    assert set((result.value or "").strip("[]").split(", ")) == {"True", "1"}
    repl.run("import gc\ndel context, made\ngc.collect()")
    assert repl.run("1").value == "1"


def test_surrogates_side_by_side_stay_two(repl: ReplSession) -> None:
    """As UTF-16 they would be one character."""
    repl.load("context", "\ud83d\ude00" * 100_000)
    code = "len(context), context == '\\ud83d\\ude00' * 100_000, '\\U0001f600' in context"
    assert repl.run(code).value == "(200000, True, False)"


def test_short_and_long_texts_side_by_side(repl: ReplSession) -> None:
    content = ("", "short", "x" * 70_001, "ü" * 80_000, "end", "😀" * 90_001, "ÿ", "y" * 65_536)
    repl.load("context", content)
    repl.load("named", {str(i): text for i, text in enumerate(content)})
    repl.run("texts = context + list(named.values())")
    for i in range(2 * len(content)):
        repl.run(f"one = texts[{i}]")
        assert repl.read("one") == content[i % len(content)]


def test_sessions_share_one_copy_of_a_context(sandbox: Sandbox) -> None:
    text = "shared " * (10 * MILLION)
    peak = "import resource\nresource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    with sandbox.session({}) as repl:
        before = int(repl.run(peak).value or 0)
        repl.load("context", text)
        assert repl.run("len(context)").value == str(len(text))
        assert int(repl.run(peak).value or 0) - before < 4096  # kB, of 70 MB


def test_what_a_worker_writes_over_a_context_no_other_sees(sandbox: Sandbox) -> None:
    text = "mine " * MILLION
    overwrite = "import ctypes\nctypes.memset(id(context) + 1000, ord('X'), 1_000_000)\n"
    with sandbox.session({}) as one, sandbox.session({}) as two:
        for repl in (one, two):
            repl.load("context", text)
        assert one.run(overwrite + "context.count('X')").value == "1000000"
        assert two.run("context.count('X'), len(context)").value == "(0, 5000000)"
    with sandbox.session({}) as three:
        three.load("context", text)
        assert three.run("context.count('X')").value == "0"


def test_no_descriptor_of_a_context_stays_with_the_worker(repl: ReplSession) -> None:
    count = (
        "import os\nopen_ones = 0\nfor fd in range(100):\n"
        "  try: os.fstat(fd); open_ones += 1\n  except OSError: pass\nopen_ones"
    )
    before = repl.run(count).value
    repl.load("context", "x" * MILLION)
    repl.load("other", ("x" * MILLION, "short"))
    assert repl.run(count).value == before


def test_a_context_too_large_for_the_limit_says_what_to_raise() -> None:
    with Sandbox("auto", {"memory_mb": 256}) as small, small.session({}) as repl:
        with pytest.raises(SandboxError, match=r"300 MB of text do not fit: raise sandbox\.limits"):
            repl.load("context", "x" * (300 << 20))
        repl.load("context", "x" * (30 << 20))
        assert repl.run("len(context)").value == str(30 << 20)


def test_on_an_unknown_interpreter_texts_are_decoded(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys.implementation, "name", "another")
        inplace.header.cache_clear()
        shared = SharedText.of(("ü" * MILLION, "short"), share=True)
    inplace.header.cache_clear()
    assert [form for form, _, _ in shared.layout["texts"]] == [None, None]
    with sandbox.session({}) as repl:
        assert repl._conversation.load("context", shared) == ""
        assert repl.run("context == ['ü' * 1_000_000, 'short']").value == "True"


@pytest.mark.parametrize(
    ("pieces", "codec"),
    [
        ([], "ascii"),
        (["abc", "\x7f"], "ascii"),
        (["abc", "\x80", "z"], "latin-1"),
        (["ÿ", "Ā", "a"], "utf-16"),
        (["\ud800", "\uffff"], "utf-16"),
        (["a", "😀", "ü", "Ā"], "utf-32"),
    ],
)
def test_the_form_of_a_text_is_the_narrowest_that_holds_it(pieces: list[str], codec: str) -> None:
    assert inplace.form_of(pieces).codec.startswith(codec)
