"""The prompts of the RLM: rendered exactly as agreed, of nothing that is not enabled, no hints.

After a wanted change ``python tests/methods/test_rlm_prompts.py`` writes golden/ anew: one text per
prompt to read the change in, and a hash of every variant.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import pytest

from helpers.chat import Table, scripted, turns
from rlm_eval.methods import rlm
from rlm_eval.methods.agent.loop import observed
from rlm_eval.methods.agent.subcalls import Enabled, SubCalls
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.records import Content, content_hash, text_of
from rlm_eval.repl.results import BlockResult, Variable

GOLDEN = Path(__file__).parent / "golden"
PROMPTS = ("compact", "orchestrator", "paper_gpt5", "paper_qwen")
PROTOCOLS = ("submit", "final_variable", "answer_dict", "paper")
#: (sub_calls, batch, recursive)
POWERS = {
    "depth 0": (False, False, False),
    "sub-calls": (True, False, False),
    "sub-calls, batch": (True, True, False),
    "recursive": (True, False, True),
    "recursive, batch": (True, True, True),
}
VARIANTS = list(itertools.product(PROMPTS, PROTOCOLS, POWERS))
#: Of the benchmarks' own wording: none may stand in an engine's prompt.
HINTS = re.compile(
    r"needle|haystack|magic|sentiment|review|positive|negative|label|classif|spam|oolong|ruler"
    r"|trec|hotpot|musique|browsecomp|longbench|babilong|uuid|user|instance:|date:|abbreviation"
    r"|human being|location|numeric|entity|passage|paragraph|multi-hop|common word|frequent"
    r"|\bVAR\b|\bF1\b",
    re.IGNORECASE,
)
#: How each protocol is named where it is explained.
ENDINGS = {
    "submit": r"submit\(",
    "final_variable": r"\bFinal\b",
    "answer_dict": r'answer\["ready"\]',
    "paper": r"FINAL(_VAR)?\(",
}


loaded = cache(partial(load_prompt, "rlm"))


def enabled(protocol: str, powers: str) -> Enabled:
    return Enabled(protocol, 12, *POWERS[powers], sub_window=32_768, sub_tokens=256, budget=True)


@cache
def opening(prompt: str, protocol: str, powers: str) -> str:
    powered = enabled(protocol, powers)
    contents: tuple[Content, ...] = (
        "A long tale. " * 20,
        ("The first part.", "The second part.") * 30,
    )
    chats = [
        rlm.opening(loaded(prompt), powered, "What came of it?", content, text[:40], text[-20:])
        for content in contents
        for text in (text_of(content),)
    ]
    return "\n\n".join(f"[{m['role']}]\n{m['content']}" for chat in chats for m in chat)


@cache
def rendered(prompt: str, protocol: str, powers: str) -> str:
    """Two openings and every other template."""

    def text(key: str, **values: object) -> str:
        return loaded(prompt).text(key, **asdict(enabled(protocol, powers)), **values)

    variables = (Variable("rows", "list", "120 items"), Variable("n", "int", ""))
    result = BlockResult("x" * 900, "", 900, 0, 0, None, None, "", variables)
    failed = BlockResult("", "", 0, 0, 0, None, "boom", "E", (), None, "killed", "lost")
    texts = [
        text("observation", **observed(result, 400, ())),
        text("observation", **observed(failed, 400, ())),
        text("no_code", unknown=(), cut_off=False),
        text("no_code", unknown=("sql",), cut_off=False),
        text("no_code", unknown=(), cut_off=True),
        text("repeated"),
        text("forced", question="What came of it?"),
        text("unclear", reason="the reason"),
    ]
    return "\n\n=====\n".join([opening(prompt, protocol, powers), *texts]) + "\n"


def golden_name(prompt: str) -> tuple[str, str, str]:
    """The variant of a prompt whose text is kept in full."""
    return prompt, "paper" if prompt.startswith("paper") else "submit", "recursive, batch"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_text_is_as_agreed(prompt: str) -> None:
    text = (GOLDEN / f"rlm_{prompt}.txt").read_text(encoding="utf-8")
    assert rendered(*golden_name(prompt)) == text


def test_every_variant_is_as_agreed() -> None:
    agreed = json.loads((GOLDEN / "rlm_prompts.json").read_text(encoding="utf-8"))
    assert {" | ".join(v): content_hash(rendered(*v)) for v in VARIANTS} == agreed


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_tail_is_shown_without_a_head(prompt: str) -> None:
    chat = rlm.opening(loaded(prompt), enabled("submit", "depth 0"), "What?", "text", "", "tail")
    assert "ends:\ntail\n\nQuestion: What?" in chat[-1]["content"]


@pytest.mark.parametrize(("prompt", "protocol", "powers"), VARIANTS)
def test_a_prompt_speaks_of_what_is_enabled_only(prompt: str, protocol: str, powers: str) -> None:
    table = Table(scripted(turns()))
    trace = Trace()
    calls = SubCalls(table.lm(), table.ledger(), trace, max_tokens=1, concurrency=1)
    offered = {*calls.functions(enabled(protocol, powers))}
    text = rendered(prompt, protocol, powers)
    named = set(re.findall(r"\b(?:llm|rlm)_query(?:_batched)?\b|\bbudget(?=\()", text))
    assert named <= offered
    if prompt != "compact":  # which leaves out what a small model makes nothing of
        assert named == offered
    assert ("rlm_query" in named) == ("rlm_query" in offered)
    if powers == "depth 0":
        assert not re.search(r"batch|QueryError|language model|helper|sub-", text, re.IGNORECASE)
    for name, ending in ENDINGS.items():
        found = re.search(ending, opening(prompt, protocol, powers))
        assert bool(found) == (name == protocol), f"{name} in a prompt for {protocol}"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_no_prompt_holds_a_hint_at_a_benchmark(prompt: str) -> None:
    for protocol, powers in itertools.product(PROTOCOLS, POWERS):
        text = rendered(prompt, protocol, powers).replace("[user]", "")
        assert not HINTS.findall(text)


def update() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for prompt in PROMPTS:
        text = rendered(*golden_name(prompt))
        (GOLDEN / f"rlm_{prompt}.txt").write_text(text, encoding="utf-8")
    hashes = {" | ".join(v): content_hash(rendered(*v)) for v in VARIANTS}
    blob = json.dumps(hashes, indent=1) + "\n"
    (GOLDEN / "rlm_prompts.json").write_text(blob, encoding="utf-8")


if __name__ == "__main__":
    update()
