"""The tools of arms that write code: find, search, a function of one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.agents import FOUND, LINES, TEXT, Agent, answer, block
from helpers.chat import Table, problem, scripted
from rlm_eval.commands.cli import run_command
from rlm_eval.config.sources import _at_first
from rlm_eval.methods.rlm import Rlm
from rlm_eval.methods.tools import places
from rlm_eval.records import Content
from rlm_eval.repl.session import Sandbox


def found(text: str, words: str) -> list[str]:
    return [text[start:end] for start, end in places(text, words.split())]


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("The Ship's mast.\nNo more.", "ship", ["The Ship's mast."]),
        ("The ships sailed.\nWorship is not it.", "ship", ["The ships sailed."]),
        ("Day 1 rain\nDay 12 sun\nDay 2 fog", "day 1", ["Day 1 rain"]),
        ("an art\nartistic", "art", ["an art", "artistic"]),
        ("it is\nitalics", "it", ["it is"]),
        ("b then a\n" + "x " * 300 + "\na\n" + "x " * 300 + "\nb", "a b", ["b then a"]),
        ("nothing", "mast", []),
        ("nothing", "", None),
        ("nothing", "one " * 51, None),
        ("城市的魔法数字是七。\n别的城市。", "魔法", ["城市的魔法数字是七。"]),
        ("STRASSE 7\nstrasse 70", "Strasse 7", ["STRASSE 7"]),
        ("mast one\nmast two", "mast", ["mast one", "mast two"]),
        ("a+b (c) a.b", "a.b", ["a+b (c) a.b"]),
    ],
)
def test_a_place_has_all_words_and_its_line(
    text: str, words: str, expected: list[str] | None, sandbox: Sandbox
) -> None:
    code = f"try:\n    submit(repr(find({words!r})))\nexcept QueryError as e:\n    submit(e.kind)"
    agent = Agent(block(code))
    got, _ = answer(sandbox, agent, problem("?", text), tools=["find"])
    assert got.text == ("bad_request" if expected is None else repr(expected))


@pytest.mark.parametrize("word", ["Straße", "STRASSE", "Fußball", "oﬃce", "ΣΊΣΥΦΟΣ"])
def test_a_word_is_found_as_it_is_written(word: str) -> None:
    assert places(f"Die {word} ist lang.", [word])


def test_a_long_line_is_cut_at_words() -> None:
    text = "left " * 500 + "the needle is 7481923 " + "right " * 500
    (place,) = found(text, "needle")
    assert "the needle is 7481923 right" in place
    assert 300 < len(place) < 420
    assert set(place.split()) == {"left", "the", "needle", "is", "7481923", "right"}


def test_places_that_overlap_are_one() -> None:
    text = "x " * 500 + "needle and needle and needle " + "x " * 500
    (place,) = found(text, "needle")
    assert place.count("needle") == 3


@pytest.mark.parametrize("content", [TEXT[:6000] + FOUND + TEXT[6000:], (*LINES[:9], FOUND)])
def test_what_was_found_counts_as_read_once_shown(sandbox: Sandbox, content: Content) -> None:
    asked = problem("When did the mast crack?", content)
    agent = Agent(
        block("p = find('mast crack')\nprint(len(p))"), block("print(p)"), block("submit(41)")
    )
    got, _ = answer(sandbox, agent, asked, tools=["find"], overflow="omit", window=4_600)
    assert FOUND.strip() in agent.last(2)
    documents = "".join(content)
    assert any(FOUND.strip() in documents[start:end] for start, end in got.spans_read or ())


def test_named_documents_name_their_places(sandbox: Sandbox) -> None:
    asked = problem("?", {"log": "The mast cracked.", "diary": "No word of it."})
    got, _ = answer(sandbox, Agent(block("submit(find('mast')[0])")), asked, tools=["find"])
    assert got.text == "log:\nThe mast cracked."


def test_too_many_places_are_told_and_not_sent(sandbox: Sandbox) -> None:
    asked = problem("?", "wind\n" * 3000)
    code = "try:\n    find('wind')\nexcept QueryError as e:\n    submit(e.message)"
    got, _ = answer(sandbox, Agent(block(code)), asked, tools=["find"])
    assert (got.text or "").startswith("3,000 places: give more words")


@pytest.mark.parametrize("prompt", ["compact", "orchestrator", "paper_gpt5", "paper_qwen"])
@pytest.mark.parametrize("tools", [[], ["find"], ["find", "search"]])
def test_an_rlm_has_the_tools_that_its_prompt_speaks_of(
    sandbox: Sandbox, prompt: str, tools: list[str]
) -> None:
    code = "here = dir()\nsubmit([n for n in ('find', 'search') if n in here])"
    agent = Agent(block(code))
    table = Table(scripted(agent, window=100_000))
    method = Rlm(sandbox=sandbox, prompt=prompt, tools=tools)
    got = method.answer(problem("?", FOUND + TEXT), table.lm(), table.ledger())
    told = "\n".join(m["content"] for m in agent.chats[0])
    assert json.loads((got.text or "").replace("'", '"')) == tools
    for name in ("find", "search"):
        assert (f"{name}(" in told.replace(".find(", "")) == (name in tools)


def test_a_child_rlm_finds_in_its_own_context(sandbox: Sandbox) -> None:
    agent = Agent(
        block("submit(rlm_query('Where?', 'The child has a lantern.'))"),
        block("submit(str(find('lantern')) + str(find('mast')))"),
    )
    table = Table(scripted(agent, window=100_000))
    method = Rlm(sandbox=sandbox, tools=["find"], max_depth=2)
    got = method.answer(problem("?", FOUND + TEXT), table.lm(), table.ledger())
    assert got.text == "['The child has a lantern.'][]"


OWN = '''
"""Tools of a test."""

def glossary(word, k=3, *, context, book="plain"):
    """What the glossary says of a word."""
    if word == "storm":
        raise KeyError(word)
    if word == "set":
        return {1, 2}
    if word == "calm":
        return [float("nan")]
    return f"{book}: {word} {k}, {len(context)} characters"

def silent(word):
    return word
'''


@pytest.fixture
def own_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_tools.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_tools"
    sys.modules.pop("my_tools", None)


COMMAND = ("task=needle", "task.lengths=[1024]", "task.n=1", "model=scripted", "method=[rlm]")


def test_a_function_of_ones_own_by_its_target(
    own_tools: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = "{_target_: my_tools.glossary, book: sea}"
    command = [*COMMAND, f"method.rlm.tools=[find,{tool}]", f"results_dir={tmp_path}/runs"]
    assert run_command(command) == 2
    assert "my_tools.glossary lies outside rlm_eval" in capsys.readouterr().err
    assert run_command([*command, "allow_targets=[my_tools]"]) == 0
    (run_dir,) = (tmp_path / "runs").glob("needle-*")
    (trajectory,) = (run_dir / "trajectories").iterdir()
    assert "glossary(word, k): What the glossary says of a word." in trajectory.read_text()
    before = run_dir.name
    (tmp_path / "my_tools.py").write_text(OWN.replace("plain", "another"))
    _at_first.cache_clear()  # as in another process
    assert run_command([*command, "allow_targets=[my_tools]"]) == 0
    names = {path.name for path in (tmp_path / "runs").glob("needle-*")}
    assert len(names) == 2, f"the tool's source is part of a result's key ({before})"


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("{_target_: my_tools.silent}", "silent needs a docstring"),
        ("{_target_: my_tools.nothing}", "can't be loaded"),
        ("{_target_: my_tools.glossary, boook: sea}", "unknown key"),
        ("grep", "there is no tool 'grep'"),
        ("find,find", "the name find is taken"),
    ],
)
def test_what_is_wrong_with_a_tool_is_said_before_the_run(
    own_tools: str, tool: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*COMMAND, f"method.rlm.tools=[{tool}]", f"results_dir={tmp_path}/runs"]
    assert run_command([*command, "allow_targets=[my_tools]"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("glossary('reef')", "plain: reef 3, 17 characters"),
        ("glossary('reef', k=5)", "plain: reef 5, 17 characters"),
        ("glossary('storm')", "tool_error"),
        ("glossary('set')", "tool_error"),
        ("glossary('calm')", "tool_error"),
        ("glossary()", "tool_error"),
        ("glossary('reef', book='diary')", "tool_error"),
    ],
)
def test_its_errors_are_the_models_to_see(
    own_tools: str, sandbox: Sandbox, call: str, expected: str
) -> None:
    import importlib
    from functools import partial

    glossary = partial(importlib.import_module(own_tools).glossary, book="plain")
    code = f"try:\n    submit({call})\nexcept QueryError as e:\n    submit(e.kind)"
    asked = problem("?", "The mast cracked.")
    assert answer(sandbox, Agent(block(code)), asked, tools=[glossary])[0].text == expected
