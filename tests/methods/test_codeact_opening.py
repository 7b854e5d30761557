"""What CodeAct shows of an input larger than the window, and what a search adds."""

from __future__ import annotations

import re

import pytest

from helpers.agents import FOUND, LINES, TEXT, Agent, answer, block
from helpers.chat import problem, scripted
from rlm_eval.errors import ContextOverflow
from rlm_eval.records import Content
from rlm_eval.repl.session import Sandbox


@pytest.mark.parametrize(
    ("overflow", "head", "tail"),
    [
        ("truncate_tail", True, False),
        ("truncate_head", False, True),
        ("truncate_middle", True, True),
    ],
)
@pytest.mark.parametrize("content", [TEXT, LINES], ids=["text", "documents"])
def test_it_is_cut_where_told_and_recorded(
    sandbox: Sandbox, overflow: str, head: bool, tail: bool, content: Content
) -> None:
    agent = Agent(block("submit(1)"))
    asked = problem("Which wind?", content)
    got, table = answer(sandbox, agent, asked, window=4_600, overflow=overflow)
    shown = agent.last(0)
    assert (LINES[0].strip() in shown, LINES[-1].strip() in shown) == (head, tail)
    room = 4_600 - 2048
    prompt = table.calls[0].prompt_tokens
    assert room - 32 <= prompt <= room
    whole = scripted(agent).count_tokens([*agent.chats[0][:-1], {"content": asked.context.text}])
    assert got.truncated_tokens == pytest.approx(whole - prompt, abs=64)
    (gone,) = re.findall(r"\[\.\.\. ([\d,]+) characters left out \.\.\.\]", shown)
    assert 0 < int(gone.replace(",", "")) < len(asked.context.text)
    documents = "".join(LINES)
    for start, end in got.spans_read or ():
        assert 0 <= start < end <= len(documents)
        assert all(line in shown for line in documents[start:end].splitlines())
    assert len(got.spans_read or ()) == head + tail


def test_it_is_refused_where_told(sandbox: Sandbox) -> None:
    agent = Agent()
    with pytest.raises(ContextOverflow) as caught:
        answer(sandbox, agent, window=4_600, overflow="refuse")
    assert caught.value.excess_tokens > 0
    assert not agent.chats


def test_left_to_search_alone_it_is_found_there(sandbox: Sandbox) -> None:
    content = TEXT[:6000] + FOUND + TEXT[6000:]
    agent = Agent(
        block("for piece in search('mast cracked', 1): print(piece)"), block("submit(41)")
    )
    asked = problem("When did the mast crack?", content)
    got, _ = answer(
        sandbox, agent, asked, window=4_600, tools=["search"], overflow="omit", piece_tokens=32
    )
    assert agent.last(0).startswith(f"(The text has {len(content)} characters")
    assert "wind" not in agent.last(0)
    assert FOUND.strip() in agent.last(1)
    (span,) = got.spans_read or ()
    assert FOUND in content[slice(*span)]
    assert got.truncated_tokens > 0


def test_a_window_too_small_for_the_question_is_an_overflow(sandbox: Sandbox) -> None:
    with pytest.raises(ContextOverflow, match="the question alone fills the window"):
        answer(sandbox, Agent(), problem("why " * 4000, TEXT), window=4_600)


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("p = search('mast cracked', 1)", False),
        ("p = search('mast cracked', 1)\nprint(p[0])", True),
        ("p = search('mast cracked', 1)\nprint(p)", True),
        ("p = search('mast cracked', 1)\nllm_query(p[0] + 'When?')", True),
        ("p = search('mast cracked', 1)\nprint(p[0][:20])", False),
    ],
)
def test_a_piece_counts_as_read_once_a_model_has_seen_it(
    sandbox: Sandbox, code: str, seen: bool
) -> None:
    content = TEXT[:6000] + FOUND + TEXT[6000:]
    got, _ = answer(
        sandbox,
        Agent(block(code), block("submit(41)")),
        problem("When?", content),
        window=4_600,
        tools=["search"],
        sub_calls=True,
        overflow="omit",
        piece_tokens=32,
    )
    assert len(got.spans_read or ()) == seen


@pytest.mark.parametrize("call", ["search(7)", "search('mast', 0)", "search('mast', 'all')"])
def test_a_bad_search_is_a_typed_error(sandbox: Sandbox, call: str) -> None:
    code = f"try:\n    {call}\nexcept QueryError as e:\n    submit(e.kind)"
    assert answer(sandbox, Agent(block(code)), tools=["search"])[0].text == "bad_request"
