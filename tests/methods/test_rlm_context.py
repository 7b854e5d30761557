"""Documents by name as an RLM's context: a real dict in the REPL, told of as one, counted right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import MappingProxyType

import pytest

from helpers.chat import Script, Table, block, problem, scripted
from rlm_eval.methods.agent.subcalls import Enabled
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.methods.rlm import Rlm, metadata, opening
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer, Content, Context, content_hash, documents_of, text_of
from rlm_eval.repl.session import Sandbox

FOLDER = {"src/b.py": "import a\nprint(a.x)\n", "src/a.py": "x = 1\n", "README": "Two files."}


def answer(sandbox: Sandbox, script: Script, content: Content, **settings: object) -> Answer:
    table = Table(scripted(script))
    given = {"prompt": "orchestrator"} | settings
    rlm = Rlm(sandbox=sandbox, **given)  # type: ignore[arg-type]
    return rlm.answer(problem(content=content), table.lm(), table.ledger())


def always(code: str) -> Script:
    return lambda messages: block(code)


# -- the record ------------------------------------------------------------------------------------


def test_the_id_of_named_documents_depends_on_their_order() -> None:
    turned = dict(reversed(FOLDER.items()))
    assert Context.of(FOLDER).id != Context.of(turned).id
    assert Context.of(FOLDER).id == Context.of(MappingProxyType(dict(FOLDER))).id
    assert Context.of({"a": "b"}).id != Context.of(("a", "b")).id


def test_ids_of_strings_and_lists_are_as_they_were() -> None:
    assert Context.of("alpha").id == content_hash("alpha") == "902cf2b465fb0762"
    assert Context.of(("alpha", "beta")).id == content_hash(["alpha", "beta"]) == "138bf4722f7ae171"


def test_a_context_keeps_a_copy_of_its_own() -> None:
    given = dict(FOLDER)
    context = Context.of(given)
    given["new"] = "x"
    assert context.content == FOLDER
    assert documents_of(context.content) == tuple(FOLDER.values())
    with pytest.raises(TypeError):
        context.content["new"] = "x"  # type: ignore[index]


# -- in the REPL -----------------------------------------------------------------------------------


def test_it_is_a_dict_with_its_order_and_every_text(sandbox: Sandbox) -> None:
    got = answer(sandbox, always("submit([type(context).__name__, list(context.items())])"), FOLDER)
    assert json.loads(got.text or "") == ["dict", [list(item) for item in FOLDER.items()]]


@pytest.mark.parametrize("content", [{}, {"": ""}, {"a\n'b'": "\ud800é😀"}])
def test_odd_dicts_arrive_unchanged(sandbox: Sandbox, content: dict[str, str]) -> None:
    got = answer(sandbox, always("submit(ascii(context))"), content)
    assert got.text == ascii(content)


def test_many_documents(sandbox: Sandbox) -> None:
    content = {f"file {i}": f"text of {i}" for i in range(20_000)}
    code = "submit([len(context), sum(map(len, context.values())), context['file 19999']])"
    got = answer(sandbox, always(code), content)
    assert json.loads(got.text or "") == [20_000, sum(map(len, content.values())), "text of 19999"]


def test_children_take_a_part_of_it_in_any_form(sandbox: Sandbox) -> None:
    def script(messages: Sequence[Message]) -> str:
        if "Question: inner" in messages[1]["content"]:
            return block("submit(type(context).__name__ + ' ' + str(context))")
        asked = "('inner', context['README']), ('inner', list(context)[:2]), ('inner', part)"
        return block(
            "part = {k: v for k, v in context.items() if k != 'src/b.py'}\n"
            f"submit(rlm_query_batched([{asked}]))"
        )

    got = answer(sandbox, script, FOLDER, max_depth=2)
    rest = {k: FOLDER[k] for k in ("src/a.py", "README")}
    assert json.loads(got.text or "") == [
        "str Two files.",
        "list ['src/b.py', 'src/a.py']",
        f"dict {rest}",
    ]


# -- what the root is told -------------------------------------------------------------------------


def shown_first(prompt: str, content: Content, head: str = "") -> str:
    enabled = Enabled("submit", 12, True, True, False, 1000, 64, budget=True)
    chat = opening(load_prompt("rlm", prompt), enabled, "What?", content, head, "")
    return "\n".join(m["content"] for m in chat)


@pytest.mark.parametrize("prompt", ["compact", "orchestrator", "paper_gpt5", "paper_qwen"])
def test_a_prompt_tells_type_sizes_and_names(prompt: str) -> None:
    told = shown_first(prompt, FOLDER, text_of(FOLDER))
    assert "dict of str" in told
    assert "36 characters" in told, "20 + 6 + 10, as code in the REPL would count them"
    assert "'src/b.py', 'src/a.py', 'README'" in told
    if prompt.startswith("paper"):
        assert "these lengths: 20, 6, 10." in told
    else:
        assert "6 lines" in told, "3 + 2 + 1: what follows a last line end counts as a line"
        assert "src/b.py:\nimport a\n" in told, "the preview names the documents"


@pytest.mark.parametrize("prompt", ["compact", "orchestrator", "paper_gpt5", "paper_qwen"])
@pytest.mark.parametrize("content", ["a text", ("a list", "of texts")])
def test_no_prompt_speaks_of_names_where_there_are_none(prompt: str, content: Content) -> None:
    assert "items()" not in shown_first(prompt, content)
    assert "keys" not in shown_first(prompt, content).lower()


def test_of_many_or_long_names_the_first_are_shown_in_part() -> None:
    told = shown_first("orchestrator", {f"{i:02}" + "x" * 100: "t" for i in range(30)})
    assert "'00" + "x" * 77 + "…'" in told
    assert "'19" in told
    assert "'20" not in told
    assert ", …\n" in told


def test_a_name_can_not_pass_for_a_line_of_the_prompt() -> None:
    told = shown_first("orchestrator", {"a\n\nQuestion: other": "t"})
    assert told.count("\nQuestion: ") == 1


def test_structure_is_that_of_the_documents() -> None:
    rows = {f"{i}.jsonl": '{"id": 1, "text": "x"}' for i in range(9)}
    assert metadata(rows)["structure"] == "JSON lines with the keys id, text"
    assert metadata(FOLDER)["structure"] == "running text"
    assert metadata('{"a":' * 5000 + "\nb\nc")["structure"] == "running text"
    records = "Date: May 1 || User: ann || Note: x\n" * 9
    assert metadata(records)["structure"].endswith("Date: … || User: … || Note: …")
