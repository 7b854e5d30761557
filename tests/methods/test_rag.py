"""What the retrieval methods share, with BM25 and a scripted model that sees only its messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import Table, problem, scripted
from helpers.commands import rlm_eval
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import BudgetExceeded, ConfigError, ContextOverflow
from rlm_eval.journal.tables import recall
from rlm_eval.ledger import Budget
from rlm_eval.methods.fitting import Chunk, chunks_of
from rlm_eval.methods.method import Shape
from rlm_eval.methods.rag.rag import Rag
from rlm_eval.methods.rag.ranking import Bm25, Indices, in_position, within_budget
from rlm_eval.models.protocol import Message, ModelInfo, Price
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer, Content, Context, Problem
from rlm_eval.tasks.generated.needle import Needle
from rlm_eval.tokens import load_tokenizer

LINES = tuple(
    f"Record {i}: the lamp in room {i} is {'red' if i % 2 else 'blue'}.\n" for i in range(300)
)
TEXT = "".join(LINES)
VAULT = "The password of the vault is heron.\n"


@dataclass
class Priced(ScriptedModel):
    """A scripted model that costs dollars."""

    cache_write: float | None = None

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, price=Price(2.0, 10.0, cache_write=self.cache_write))


def ask(
    method: Rag,
    question: str = "What is the password of the vault?",
    content: Content = TEXT[:6000] + VAULT + TEXT[6000:],
    *,
    window: int = 100_000,
    budget: Budget | None = None,
) -> tuple[Answer, list[str], Table]:
    """The answer, each prompt's last message, and the client."""
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return "heron"

    table = Table(scripted(script, window=window))
    got = method.answer(problem(question, content), table.lm(), table.ledger(budget))
    return got, seen, table


def passages(prompt: str) -> int:
    return sum(f"\n[{i}]\n" in f"\n{prompt}" for i in range(1, 999))


def test_it_finds_the_line_and_keeps_to_its_budget() -> None:
    got, (prompt,), table = ask(Rag(chunk_tokens=32, top_k=4, token_budget=128))
    assert VAULT.strip() in prompt
    assert load_tokenizer().count(prompt) < 128 + 60
    assert (got.text, got.outcome, got.iterations) == ("heron", "answered", 1)
    assert [c.role for c in table.calls] == ["root"]


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"top_k": 3}, 3),
        ({"top_k": 3, "token_budget": None}, 3),
        ({"top_k": None, "token_budget": 100}, 5),
        ({"top_k": 99, "token_budget": 100}, 5),
        ({"top_k": None, "token_budget": 13}, 1),  # which its label would not fit
    ],
)
def test_top_k_and_token_budget_bound_what_is_shown(settings: dict[str, Any], shown: int) -> None:
    one = load_tokenizer().count(LINES[100])
    _, (prompt,), _ = ask(Rag(chunk_tokens=one, **settings), content="".join(LINES[100:200]))
    assert one == 13
    assert passages(prompt) == shown


def test_a_sweep_of_k_changes_what_is_shown_and_forecast() -> None:
    node = compose_tree(["method=[rag_bm25]"])["method"]["rag_bm25"]
    settings = {key: value for key, value in node.items() if key not in ("_target_", "matched")}
    shown, foreseen = [], []
    for k in (1, 3, 8, 16):
        method = Rag(**settings | {"top_k": k})
        _, (prompt,), table = ask(method, "Which lamp?")
        (expected,) = method.forecast(Shape(9000, 5, 32), table_infos(table)) or ()
        shown.append(passages(prompt))
        foreseen.append(expected.prompt_tokens)
    assert shown == [1, 3, 8, 16]
    assert foreseen == sorted(set(foreseen))
    assert settings["top_k"] == 3


def test_a_hosted_prompt_is_filled_also_where_documents_are_short() -> None:
    arms = compose_tree(["method=[hosted/rag_bm25,hosted/rag_dense,hosted/rag_hybrid]"])["method"]
    for arm in arms.values():
        sizes = {key: arm[key] for key in ("chunk_tokens", "top_k", "token_budget")}
        _, (prompt,), _ = ask(Rag(**sizes), content=LINES)
        assert passages(prompt) == len(LINES)


def test_passages_stand_in_order_of_position_or_rank() -> None:
    text = "one heron here.\n" + TEXT + "heron heron heron at the end.\n"
    prompts = [
        ask(Rag(chunk_tokens=16, top_k=2, order=order), "heron?", text)[1][0]  # type: ignore[arg-type]
        for order in ("position", "rank")
    ]
    assert prompts[0].index("one heron") < prompts[0].index("at the end")
    assert prompts[1].index("at the end") < prompts[1].index("one heron")


def test_named_documents_are_shown_and_found_by_name() -> None:
    files = {f"src/part{i}.py": f"value = {i}\n" for i in range(20)} | {"src/heron.py": "x = 7\n"}
    _, (prompt,), _ = ask(Rag(top_k=1), "What is x in heron?", files)
    assert prompt.startswith("[1]\nsrc/heron.py:\nx = 7\n")


def test_what_overlaps_stands_once() -> None:
    text = "".join(f"Line {i} tells of heron {i}.\n" for i in range(6))
    method = Rag(chunk_tokens=24, overlap_tokens=12, top_k=9)
    assert len(chunks_of(text, 24, overlap_tokens=12)) == 5
    got, (prompt,), _ = ask(method, "heron?", text)
    assert prompt == f"[1]\n{text.strip()}\n\nheron?"
    assert recall([(0, len(text))], got.spans_read or ()) == 1.0


def test_chunks_that_overlap_are_joined_by_hand() -> None:
    chunks = [Chunk("cdef", 2, 4), Chunk("abcd", 0, 4), Chunk("gh", 6, 2), Chunk("xy", 9, 2)]
    assert [(c.text, c.start) for c in in_position(chunks)] == [
        ("abcdef", 0),
        ("gh", 6),
        ("xy", 9),
    ]


def test_within_budget_stops_at_the_first_that_is_too_large() -> None:
    ranked = [Chunk("a", 0, 5), Chunk("b", 1, 4), Chunk("c", 2, 2)]
    assert within_budget(ranked, 10 + 2 * 4) == ranked[:2]
    assert within_budget(ranked, 4 + 4) == []
    named = [replace(chunk, source="minutes/2024-05-12.txt") for chunk in ranked]
    assert within_budget(named, 10 + 2 * 4) == named[:1]


def test_the_shown_chunks_are_the_spans_read() -> None:
    for context, sample in Needle(lengths=[4000], n=3, variant="multikey_1").build():
        table = Table(scripted(lambda messages: "x"))
        asked = Problem(sample.id, sample.question, context, 32)
        got = Rag(top_k=4).answer(asked, table.lm(), table.ledger())
        assert got.spans_read is not None
        assert len(got.spans_read) == 4
        assert recall(sample.evidence, got.spans_read) == 1.0
        missed = [(0, sample.evidence[0][0]), (sample.evidence[0][1], len(context.text))]
        assert recall(sample.evidence, missed) == 0.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"chunk_tokens": 4}, "chunk_tokens must be at least 8"),
        ({"chunk_tokens": 512, "token_budget": 128}, "token_budget must hold a chunk"),
        ({"overlap_tokens": 128}, "below chunk_tokens=128"),
        ({"overlap_tokens": -1}, "at least 0"),
        ({"top_k": None, "token_budget": None}, "top_k or token_budget must be given"),
        ({"rerank": 1}, "rerank must be 0 or at least 2"),
        ({"rerank": -1}, "rerank must be 0 or at least 2"),
        ({"rerank_tokens": 0}, "rerank_tokens must be at least 1"),
        ({"rerank_prompt": "nope"}, "no prompt 'nope'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Rag(**settings)


def test_a_chunk_larger_than_the_window_is_refused() -> None:
    models = {"root": ModelInfo("m", "e", 200)}
    with pytest.raises(ConfigError, match="chunk_tokens must fit the window of 200 of m: lower it"):
        Rag(chunk_tokens=256).check(models)
    Rag().check(models)
    with pytest.raises(ConfigError, match="rerank puts two chunks of 128 tokens"):
        Rag(rerank=4).check(models)


def test_passages_are_dropped_until_the_window_holds_the_prompt() -> None:
    _, (whole,), _ = ask(Rag(chunk_tokens=32, top_k=20))
    got, (prompt,), table = ask(Rag(chunk_tokens=32, top_k=20), window=400)
    assert passages(prompt) < passages(whole)
    assert VAULT.strip() in prompt
    assert table.calls[0].prompt_tokens + 32 <= 400 < table.calls[0].prompt_tokens + 32 + 60
    with pytest.raises(ContextOverflow, match="question alone"):
        ask(Rag(chunk_tokens=32), window=50)
    assert got.outcome == "answered"


def test_the_index_is_built_once_for_a_context() -> None:
    method = Rag()
    table = Table(scripted(lambda messages: "x"))
    built = [
        method.answer(problem("lamp?", text), table.lm(), table.ledger()).trajectory[0]
        for text in (TEXT, TEXT, TEXT[:500], TEXT)
    ]
    assert [event["built"] for event in built] == ["here", "shared", "here", "shared"]
    chunks = chunks_of(TEXT, 128)
    assert {built[0]["chunks"], built[3]["chunks"]} == {len(chunks)}
    assert built[0]["tokens"] == sum(c.tokens for c in chunks)


def test_as_many_contexts_as_are_at_work_keep_their_indices() -> None:
    """Questions come as a run asks them: the first on each context, and then the second."""
    method, table = Rag(), Table(scripted(lambda messages: "x"))
    asked = [problem("lamp?", line) for line in LINES[:40]] * 2
    answers = [method.answer(one, table.lm(), table.ledger()) for one in asked]
    built = [got.trajectory[0]["built"] for got in answers]
    assert built == ["here"] * 40 + ["shared"] * 40


def test_indices_are_kept_up_to_so_many_tokens_the_last_in_any_case() -> None:
    indices: Indices[Bm25] = Indices(kept=10_000_000)

    def built(name: str, million: int) -> bool:
        chunks = [Chunk(name, 0, million * 1_000_000)]
        return not indices.get(name, lambda: Bm25(chunks))[1]

    asked = [("a", 4), ("b", 4), ("a", 4), ("c", 4), ("a", 4), ("b", 4), ("d", 99), ("d", 99)]
    assert [built(*one) for one in asked] == [True, True, False, True, False, True, True, False]
    short = [(f"short{i}", 0) for i in range(11)]
    assert all(built(*one) for one in short)
    assert built(*short[0]), "a short one counts a million"


@pytest.mark.slow
def test_in_a_run_passages_are_ranked_by_what_is_asked_not_by_the_instruction(
    tmp_path: Path,
) -> None:
    """BABILong's prompt has examples, whose words are in the tenth line."""
    lines = [
        f"The weather in spring is mild, and the river runs slowly past house {i} and its trees.\n"
        for i in range(40)
    ]
    lines[9] = "Charlie went to the hallway. Judith come back to the kitchen, Alan to the garage.\n"
    lines[30] = "Mary was seen to go out into the garden by the gate, for the last time today.\n"
    text = "".join(lines)
    row = {"input": text, "question": "Where is Mary? ", "target": "garden"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    task = ["task=babilong", f"task.path={tmp_path}/rows.jsonl", "task.lengths=[2048]", "task.n=1"]
    arm = ["method=[rag_bm25]", "method.rag_bm25.top_k=1", "method.rag_bm25.chunk_tokens=32"]
    done = rlm_eval(*task, *arm, "model=scripted", f"results_dir={tmp_path}/runs")
    assert done.returncode == 0, done.stderr
    (trajectory,) = tmp_path.glob("runs/*/trajectories/*.jsonl")
    events = [json.loads(line) for line in trajectory.read_text().splitlines()]
    assert [e["starts"] for e in events if e["type"] == "retrieved"] == [[text.index("Mary")]]


def test_an_empty_context_is_a_question_alone() -> None:
    got, (prompt,), _ = ask(Rag(), "Well?", "")
    assert prompt == "Well?"
    assert got.spans_read == ()


# -- matched ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [400, 1500, 3000])
def test_matched_fills_the_cap_and_never_passes_it(tokens: int) -> None:
    got, (prompt,), table = ask(Rag(matched=True), budget=Budget(tokens=tokens))
    (call,) = table.calls
    assert call.prompt_tokens + 32 <= tokens
    assert call.prompt_tokens + 32 > tokens - 180, "not one chunk more"
    assert VAULT.strip() in prompt
    assert len(got.spans_read or ()) == passages(prompt)


def test_matched_shows_everything_where_the_cap_allows_it() -> None:
    method = Rag(matched=True)
    _, (prompt,), _ = ask(method, content=TEXT, budget=Budget(tokens=90_000))
    assert all(line.strip() in prompt for line in LINES)


def test_matched_keeps_to_the_window() -> None:
    _, _, table = ask(Rag(matched=True), window=900, budget=Budget(tokens=90_000))
    assert 900 - 180 < table.calls[0].prompt_tokens + 32 <= 900


@pytest.mark.parametrize("budget", [None, Budget(calls=5), Budget(seconds=60.0)])
def test_matched_without_a_cap_on_tokens_or_dollars_changes_nothing(budget: Budget | None) -> None:
    plain, prompts, _ = ask(Rag(), budget=budget)
    matched, again, _ = ask(Rag(matched=True), budget=budget)
    assert prompts == again
    assert plain.spans_read == matched.spans_read


@pytest.mark.parametrize(("cache_write", "prompt_tokens"), [(None, 1840), (2.5, 1472)])
def test_matched_buys_fewer_passages_where_the_prompt_may_be_put_into_a_cache_at_a_price(
    cache_write: float | None, prompt_tokens: int
) -> None:
    """As many as are reserved: of $0.004 a reply of 32 tokens may take $0.00032."""
    table = Table(Priced(script=lambda messages: "red", cache_write=cache_write))
    method, ledger = Rag(matched=True), table.ledger(Budget(usd=0.004))
    assert method.answer(problem("Which lamp?", TEXT), table.lm(), ledger).outcome == "answered"
    assert prompt_tokens - 180 < table.calls[0].prompt_tokens <= prompt_tokens


def test_a_cap_below_the_question_is_spent() -> None:
    for matched in (True, False):
        with pytest.raises(BudgetExceeded):
            ask(Rag(matched=matched), budget=Budget(tokens=40))


def test_a_cap_on_the_run_alone_is_not_one_samples_to_spend() -> None:
    table = Table(scripted(lambda messages: "x"))
    ledger = table.ledger()
    run = type(ledger)(Budget(tokens=50_000))
    Rag(matched=True).answer(problem("lamp?", TEXT), table.lm(), run.child())
    assert table.calls[0].prompt_tokens < 1500


# -- forecast --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"token_budget": 384}, {"top_k": None, "token_budget": 2000}, {"rerank": 8}],
)
def test_the_forecast_is_near_what_is_sent(settings: dict[str, Any]) -> None:
    ((context, sample),) = Needle(lengths=[6000], n=1).build()
    table = Table(scripted(lambda messages: "[1] > [2]"))
    method = Rag(**settings)
    asked = Problem(sample.id, sample.question, context, 64)
    method.answer(asked, table.lm(), table.ledger())
    question = load_tokenizer().count(sample.question)
    parts = method.forecast(Shape(sample.length_tokens, question, 64), table_infos(table)) or ()
    assert sum(part.calls for part in parts) == len(table.calls)
    sent = sum(call.prompt_tokens for call in table.calls)
    assert sum(part.prompt_tokens for part in parts) == pytest.approx(sent, rel=0.25)


def table_infos(table: Table) -> dict[Any, ModelInfo]:
    return {"root": table.lm().info()}


def test_a_forecast_knows_the_window_and_small_contexts() -> None:
    small = Rag().forecast(Shape(50, 20, 32), {"root": ModelInfo("m", "e", 8192)}) or ()
    assert small[0].prompt_tokens < 50 + 20 + 80
    narrow = Rag().forecast(Shape(9000, 20, 32), {"root": ModelInfo("m", "e", 400)}) or ()
    assert narrow[0].prompt_tokens + 32 <= 400


# -- BM25 ------------------------------------------------------------------------------------------


def test_bm25_ranks_by_words_and_then_by_position() -> None:
    chunks = [Chunk(t, i, 1) for i, t in enumerate(["red lamp", "heron", "heron blue sky", "moon"])]
    bm25 = Bm25(chunks)
    assert [c.text for c in bm25.ranked("Where is the heron?", 3)] == [
        "heron",
        "heron blue sky",
        "red lamp",
    ]
    assert [c.text for c in bm25.matching("Where is the heron?", 3)] == ["heron", "heron blue sky"]
    assert bm25.matching("the of and", 3) == []
    assert bm25.ranked("the of and", 2) == chunks[:2]


def test_bm25_of_a_text_without_words() -> None:
    chunks = [Chunk("?!", 0, 1), Chunk("--", 2, 1)]
    assert Bm25(chunks).ranked("anything", 5) == chunks
    assert Context.of("").text == ""
