"""A prompt file of the user's own that is wrong is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.methods.codeact import CodeAct
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.foreign.agents import OpenCode
from rlm_eval.methods.method import Method
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.methods.rlm import Rlm
from rlm_eval.methods.summarize.notes import SummarizeMapReduce
from rlm_eval.methods.tries import Tries
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.repl.session import Sandbox


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("turns:\n- role: user\n  text: café".encode("latin-1"), "is not in UTF-8: convert it"),
        (b"turns: [", "is no valid YAML: while parsing a flow node expected"),
        (b"turns: 3", "needs a list called turns"),
        (b"turns:\n- 3", "a turn has role and text"),
        (b"turns:\n- {role: user}", "a turn has role and text"),
        (b"turns:\n- {role: user, text: 3}", "a turn has role and text"),
        (b"turns:\n- {role: user, text: a, 3: b}", "a turn has role and text"),
        (b"turns:\n- {role: sytem, text: a}", "the role is system, user or assistant"),
        (b"turns: []\nobservation:", "observation must be a text"),
        (b"turns: []\nobservation: '{% if %}'", "mine, observation: Expected an expression"),
        (b"turns: []\nforced: '{{ question | sup }}'", "mine, forced: No filter named 'sup'"),
        (b"turns: []\na: '{% if b %}{{ b | sup }}{% endif %}'", "mine, a: there is no filter sup"),
        (b"turns:\n- {role: user, text: a, when: think and}", "mine, turns: unexpected 'end"),
    ],
)
def test_a_wrong_prompt_file_is_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_prompt("direct", str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


AGENT = "observation: '{{ output }}'\nno_code: a\nrepeated: a\nforced: a\nunclear: a\nturns: "
NONE = Sandbox("none")
RLM, CODEACT = partial(Rlm, NONE), partial(CodeAct, NONE)


@pytest.mark.parametrize(
    ("method", "text", "told"),
    [
        (RLM, "turns: []", "mine has no template called observation: copy it from /"),
        (RLM, AGENT + "[{role: user, text: a, when: sub_call}]", "turns: there is no sub_call,"),
        (RLM, AGENT + "[{role: user, text: a, when: tools.find.x}]", "turns: "),
        (RLM, AGENT.replace("output", "outputt") + "[]", "observation: there is no outputt,"),
        (CODEACT, AGENT.replace("output", "outputt") + "[]", "observation: there is no outputt,"),
        (
            RLM,
            AGENT.replace("{{ output }}", "{% for v in variables %}{{ v.nme }}{% endfor %}") + "[]",
            "observation: .* has no attribute 'nme'",
        ),
        (
            Direct,
            "turns: [{role: user, text: '{% if question %}{{ contxt }}{% endif %}'}]",
            "turns: there is no contxt, only context, question,",
        ),
        (
            Direct,
            "turns: [{role: user, text: '{{ question.__class__.__mro__ }}'}]",
            "turns: access to attribute '__class__' of 'str' object is unsafe",
        ),
        (
            SummarizeMapReduce,
            "{map: a, merge: '{{ chunk }}', turns: [{role: user, text: a}]}",
            "merge: there is no chunk, only notes, query_aware, question$",
        ),
        (
            lambda prompt: Tries(Direct(), prompt=prompt),
            "turns: [{role: user, text: '{{ answers }}'}]",
            "turns: there is no answers, only candidates, question$",
        ),
        (
            OpenCode,
            "turns: [{role: user, text: a}, {role: user, text: b}]",
            "^prompt must have one turn: an agent is told one text$",
        ),
    ],
)
def test_what_a_prompt_could_not_be_filled_with_is_said_before_anything_is_asked(
    method: Callable[..., Method], text: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        method(prompt=str(path)).check({"root": ModelInfo("m", "e", 32_768)})


def test_a_name_is_no_path(tmp_path: Path) -> None:
    """A path ends in .yaml, and of a run's folder it is asked about."""
    (tmp_path / "mine.yaml").write_text("turns: []")
    with pytest.raises(ConfigError, match=r"method direct has no prompt '/.*/mine'; choose bare"):
        load_prompt("direct", str(tmp_path / "mine"))
    with pytest.raises(ConfigError, match="method direct has no prompt 'prompts/plain'"):
        load_prompt("direct", "prompts/plain")


def test_a_prompt_may_have_names_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    own = "{% if think or more is defined %}{% set a = 1 %}{% else %}{% set a = 2 %}{% endif %}"
    path.write_text(f"turns: [{{role: user, text: '{own}{{{{ a }}}} {{{{ range(a) | list }}}}'}}]")
    messages = load_prompt("direct", str(path)).messages(think=False)
    assert messages == [{"role": "user", "content": "2 [0, 1]"}]
