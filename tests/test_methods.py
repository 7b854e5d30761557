"""direct, rag_bm25 and summarize_map_reduce with a scripted model that sees only its messages."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chat import Table, problem, scripted
from rlm_eval.errors import ConfigError, ContextOverflow, ProviderError
from rlm_eval.methods.chunking import chunks_of
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.fitting import cut_text, largest_fitting
from rlm_eval.methods.rag import RagBm25
from rlm_eval.methods.summarize import SummarizeMapReduce
from rlm_eval.models.protocol import Message
from rlm_eval.tokens import load_tokenizer

LINES = tuple(
    f"Record {i}: the lamp in room {i} is {'red' if i % 2 else 'blue'}.\n" for i in range(300)
)
TEXT = "".join(LINES)


def echo_size(messages: Sequence[Message]) -> str:
    return str(len(messages[-1]["content"]))


def test_direct_sends_all_of_the_context_and_the_question() -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return "42"

    table = Table(scripted(script))
    got = Direct().answer(problem("Which lamp?", TEXT), table.lm(), table.ledger())
    assert (got.text, got.outcome, got.truncated_tokens) == ("42", "answered", 0)
    assert TEXT in seen[0]
    assert seen[0].endswith("Which lamp?")
    assert got.context_chars_read_by_lm == len(TEXT)
    assert len(table.calls) == 1


def test_direct_refuses_what_does_not_fit() -> None:
    table = Table(scripted(echo_size, window=1000))
    with pytest.raises(ContextOverflow) as caught:
        Direct(overflow="refuse").answer(problem("?", TEXT), table.lm(), table.ledger())
    assert caught.value.excess_tokens > 0
    assert not table.calls


@pytest.mark.parametrize(
    ("overflow", "head", "tail"),
    [
        ("truncate_tail", True, False),
        ("truncate_head", False, True),
        ("truncate_middle", True, True),
    ],
)
def test_direct_truncates_where_told_and_records_it(overflow: str, head: bool, tail: bool) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return "42"

    model = scripted(script, window=1000)
    table = Table(model)
    got = Direct(overflow=overflow).answer(problem("?", TEXT), table.lm(), table.ledger())  # type: ignore[arg-type]
    assert (LINES[0] in seen[0], LINES[-1].strip() in seen[0]) == (head, tail)
    call = table.calls[0]
    assert call.prompt_tokens + 32 <= 1000
    assert call.prompt_tokens > 900, "the window is used"
    whole = model.count_tokens([{"role": "user", "content": TEXT}])
    assert got.truncated_tokens == pytest.approx(whole - call.prompt_tokens, abs=60)


def test_rag_finds_the_line_and_keeps_to_its_budget() -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return "blue"

    table = Table(scripted(script))
    text = TEXT[:6000] + "The password of the vault is heron.\n" + TEXT[6000:]
    rag = RagBm25(chunk_tokens=32, top_k=4, token_budget=128)
    got = rag.answer(
        problem("What is the password of the vault?", text), table.lm(), table.ledger()
    )
    assert "heron" in seen[0]
    assert load_tokenizer().count(seen[0]) < 128 + 60
    assert 0 < got.context_chars_read_by_lm < 700


def test_rag_orders_passages_by_position_or_rank() -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return "x"

    text = "one heron here.\n" + TEXT + "heron heron heron at the end.\n"
    table = Table(scripted(script))
    for order in ("position", "rank"):
        rag = RagBm25(chunk_tokens=16, top_k=2, token_budget=64, order=order)  # type: ignore[arg-type]
        rag.answer(problem("heron?", text), table.lm(), table.ledger())
    assert seen[0].index("one heron") < seen[0].index("at the end")
    assert seen[1].index("at the end") < seen[1].index("one heron")


@pytest.mark.parametrize(
    "settings", [{"top_k": 0}, {"chunk_tokens": 4}, {"chunk_tokens": 512, "token_budget": 128}]
)
def test_rag_refuses_settings_that_cannot_work(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"method\.rag_bm25"):
        RagBm25(**settings)  # type: ignore[arg-type]


def test_summarize_reads_every_chunk_once_and_answers_from_notes() -> None:
    def script(messages: Sequence[Message]) -> str:
        last = messages[-1]["content"]
        if "Write short notes" in last:
            return f"note on {last.count('Record')} records"
        assert "Part 1 of" in last
        return "answer from " + str(last.count("note on"))

    table = Table(scripted(script))
    method = SummarizeMapReduce(chunk_tokens=1000, note_tokens=40)
    got = method.answer(problem("How many?", TEXT), table.lm(), table.ledger())
    chunks = len(chunks_of(TEXT, 1000))
    assert got.text == f"answer from {chunks}"
    assert [c.role for c in table.calls].count("summarize") == chunks
    assert got.context_chars_read_by_lm == len(TEXT)


def test_summarize_merges_notes_that_do_not_fit() -> None:
    def script(messages: Sequence[Message]) -> str:
        last = messages[-1]["content"]
        if "Join these notes" in last:
            return "merged"
        return "n" * 400 if "Write short notes" in last else "done"

    table = Table(scripted(script, window=900))
    method = SummarizeMapReduce(chunk_tokens=300, note_tokens=100)
    got = method.answer(problem("How many?", TEXT), table.lm(), table.ledger())
    assert got.text == "done"
    assert got.iterations > 2


def test_a_failed_note_fails_the_sample() -> None:
    class Broken(type(scripted(echo_size))):  # type: ignore[misc]
        def complete(self, *args: object, **kwargs: object) -> None:
            raise ProviderError("down", kind="unavailable", retryable=False)

    table = Table(Broken())
    with pytest.raises(ProviderError):
        SummarizeMapReduce().answer(problem("?", TEXT), table.lm(), table.ledger())


@pytest.mark.parametrize("size", [16, 100, 1000])
def test_chunks_are_the_whole_input_in_pieces_of_bounded_size(size: int) -> None:
    text = TEXT + "a very long line without an end " * 400 + "\n" + "x" * 5000
    chunks = chunks_of(text, size)
    assert "".join(c.text for c in chunks) == text
    count = load_tokenizer().count
    assert all(c.tokens <= size and count(c.text) <= size + 1 for c in chunks)
    assert all(text[c.start : c.start + len(c.text)] == c.text for c in chunks)


def test_documents_are_never_joined_in_a_chunk() -> None:
    chunks = chunks_of(("first doc", "second doc"), 100)
    assert [c.text for c in chunks] == ["first doc", "second doc"]


def test_cut_text_cuts_what_it_names() -> None:
    assert cut_text("abcdef", 4, "head") == "cdef"
    assert cut_text("abcdef", 4, "tail") == "abcd"
    assert cut_text("abcdef", 4, "middle") == "abef"
    assert cut_text("abcdef", 9, "middle") == "abcdef"


def test_largest_fitting_is_the_largest() -> None:
    assert [largest_fitting(20, lambda n, k=k: n <= k) for k in (0, 7, 20, 99)] == [0, 7, 20, 20]
