"""What summarize_map_reduce, summarize_refine and compaction have in common, with a scripted model
that sees only its messages. It counts a token per four characters; the methods cut by the offline
tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from test_rlm_prompts import HINTS

from helpers.chat import Table, problem, scripted
from helpers.summaries import KINDS, LINES, QUESTION, TEXT, WINDOW, Witness, kinds, records_in
from rlm_eval.errors import BudgetExceeded, ConfigError, NoReply, ProviderError, SampleFailure
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.method import Shape
from rlm_eval.methods.summarize.compaction import Compaction
from rlm_eval.methods.summarize.notes import SummarizeMapReduce, SummarizeRefine
from rlm_eval.methods.summarize.summarizer import Summarizer
from rlm_eval.models.client import ModelClient
from rlm_eval.models.protocol import ModelInfo, Price, Reply, Usage
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Call, Content
from rlm_eval.tokens import load_tokenizer

# -- what all three hold to ------------------------------------------------------------------------


@kinds
def test_every_line_is_read_once_and_in_order(kind: Callable[..., Summarizer]) -> None:
    witness = Witness()
    table = Table(scripted(witness, window=WINDOW))
    got = kind().answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    if kind is KINDS[0]:  # side by side
        witness.read.sort(key=lambda prompt: int(prompt.partition("This was part ")[2].split()[0]))
    assert records_in([*witness.read, *witness.asked]) == list(range(300))
    assert (got.text, got.outcome) == ("done", "answered")
    assert got.iterations == (2 if kind is KINDS[0] else len(witness.read) + 1)
    assert len(witness.read) >= 2
    assert got.spans_read == ((0, len(TEXT)),)
    roles = [c.role for c in table.calls]
    assert roles == ["summarize"] * len(witness.read) + ["root"]


@kinds
@pytest.mark.parametrize("aware", [True, False])
def test_the_question_is_in_sight_while_reading_only_if_told(
    kind: Callable[..., Summarizer], aware: bool
) -> None:
    witness = Witness(note=400)
    table = Table(scripted(witness, window=1500))
    method = kind(query_aware=aware, chunk_tokens=300)
    method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    assert all((QUESTION in prompt) == aware for prompt in witness.read)
    assert all(("question" in prompt.lower()) == aware for prompt in witness.read)
    assert [prompt.count(QUESTION) for prompt in witness.asked] == [1]


@kinds
@pytest.mark.parametrize(
    "content",
    [tuple(LINES), {f"room_{i}.txt": line for i, line in enumerate(LINES)}],
    ids=["tuple", "mapping"],
)
def test_documents_are_read_under_their_number_or_name(
    kind: Callable[..., Summarizer], content: Content
) -> None:
    witness = Witness()
    table = Table(scripted(witness, window=WINDOW))
    got = kind().answer(problem(QUESTION, content), table.lm(), table.ledger())
    seen = "\n".join([*witness.read, *witness.asked])
    for i, line in enumerate(LINES):
        title = f"Document {i + 1}" if isinstance(content, tuple) else f"room_{i}.txt"
        assert seen.count(f"{title}:\n{line.rstrip()}\n") == 1
    assert got.spans_read == ((0, len(TEXT)),)


@kinds
@pytest.mark.parametrize("records", [60, 300, 1000])
def test_the_forecast_is_what_is_sent(kind: Callable[..., Summarizer], records: int) -> None:
    """Within a quarter, calls to one; notes as long as they may be."""
    method = kind()
    text = "".join(LINES[i % 300] for i in range(records))
    model = scripted(Witness(note=4 * method.written), window=WINDOW)
    table = Table(model)
    method.answer(problem(QUESTION, text), table.lm(), table.ledger())
    count = load_tokenizer().count
    expected = method.forecast(Shape(count(text), count(QUESTION), 32), {"root": model.info})
    assert [part.role for part in expected] == ["summarize", "root"]
    for part in expected:
        calls = [c for c in table.calls if c.role == part.role]
        assert part.calls == pytest.approx(len(calls), rel=0.25, abs=1)
    prompts = sum(c.prompt_tokens for c in table.calls)
    assert sum(part.prompt_tokens for part in expected) == pytest.approx(prompts, rel=0.25)
    written = sum(c.completion_tokens for c in table.calls if c.role == "summarize")
    step = method.written
    assert expected[0].completion_tokens == pytest.approx(written, rel=0.25, abs=step)


@kinds
def test_summaries_are_written_by_a_model_of_their_own(kind: Callable[..., Summarizer]) -> None:
    calls: list[Call] = []
    witness = Witness()
    models = {
        "root": ScriptedModel("answers", context_window=WINDOW, script=witness),
        "summarize": ScriptedModel("reads", context_window=WINDOW, script=witness),
    }
    client = ModelClient(models, lambda call, reply: calls.append(call))
    method = kind()
    method.check({role: model.info for role, model in models.items()})  # type: ignore[misc]
    method.answer(problem(QUESTION, TEXT), client.lm("key", memory_scope="arm"), Table().ledger())
    assert {(c.role, c.model) for c in calls} == {("summarize", "reads"), ("root", "answers")}


@kinds
def test_a_failed_call_fails_the_sample(kind: Callable[..., Summarizer]) -> None:
    class Broken(ScriptedModel):
        def complete(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
            raise ProviderError("down", kind="unavailable", retryable=False)

    table = Table(Broken(context_window=WINDOW))
    with pytest.raises(ProviderError):
        kind().answer(problem(QUESTION, TEXT), table.lm(), table.ledger())


@kinds
def test_nothing_written_for_want_of_tokens_is_a_failure(kind: Callable[..., Summarizer]) -> None:
    table = Table(scripted(lambda _: " " * 4000, window=WINDOW))
    with pytest.raises(SampleFailure, match=r"(note|summary)_tokens=\d+: no answer yet"):
        kind().answer(problem(QUESTION, TEXT), table.lm(), table.ledger())


@kinds
def test_a_refusal_to_read_on_is_a_failure_by_its_name(kind: Callable[..., Summarizer]) -> None:
    class Unwilling(ScriptedModel):
        def complete(self, *_: object, **__: object) -> Reply:
            return Reply("", Usage(10, 10), "refusal")

    table = Table(Unwilling(context_window=WINDOW))
    with pytest.raises(NoReply, match="refused") as caught:
        kind().answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    assert caught.value.outcome == "refusal"


@kinds
def test_no_hint_at_a_benchmark_stands_in_the_prompts(kind: Callable[..., Summarizer]) -> None:
    for aware in (True, False):
        witness = Witness(note=400)
        table = Table(scripted(witness, window=900))
        method = kind(query_aware=aware, chunk_tokens=200)
        method.answer(problem("Who?", "x" * 9000), table.lm(), table.ledger())
        assert len(witness.read) > 1
        assert not HINTS.findall("\n".join([*witness.read, *witness.asked]))


# -- up to the cap ---------------------------------------------------------------------------------


@kinds
def test_matched_without_a_cap_of_the_sample_changes_nothing(
    kind: Callable[..., Summarizer],
) -> None:
    spent = []
    run_cap = Ledger(Budget(tokens=20_000)).child()
    for matched, ledger in (
        (False, Ledger()),
        (True, Ledger()),
        (True, Ledger(Budget(calls=100))),
        (True, run_cap),
    ):
        table = Table(scripted(Witness(), window=WINDOW))
        kind(matched=matched).answer(problem(QUESTION, TEXT), table.lm(), ledger)
        spent.append(sorted((c.role, c.prompt_tokens) for c in table.calls))
    assert spent == [spent[0]] * 4


@kinds
@pytest.mark.parametrize("tokens", [6_000, 7_000, 8_000])
def test_matched_reads_more_finely_as_far_as_the_cap_goes(
    kind: Callable[..., Summarizer], tokens: int
) -> None:
    plain, fine = (Table(scripted(Witness(note=4000), window=WINDOW)) for _ in range(2))
    kind().answer(problem(QUESTION, TEXT), plain.lm(), plain.ledger())
    ledger = fine.ledger(Budget(tokens=tokens))
    kind(matched=True).answer(problem(QUESTION, TEXT), fine.lm(), ledger)
    assert fine.tokens <= tokens
    assert fine.tokens > max(plain.tokens, 0.75 * tokens)


@dataclass
class Priced(ScriptedModel):
    """A cent per thousand tokens of either kind."""

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(self.name, "scripted", self.context_window, Price(10.0, 10.0))


@kinds
def test_matched_spends_dollars_and_keeps_to_a_cap_on_calls(
    kind: Callable[..., Summarizer],
) -> None:
    """At a cent per 1,000 tokens, 8 cents are 8,000 tokens."""
    model = Priced(context_window=WINDOW, script=Witness(note=4000))
    plain, rich, few = Table(model), Table(model), Table(model)
    asked = problem(QUESTION, TEXT)
    kind().answer(asked, plain.lm(), plain.ledger())
    kind(matched=True).answer(asked, rich.lm(), rich.ledger(Budget(usd=0.08)))
    assert 0.75 * 8_000 < rich.tokens <= 8_000
    most = len(plain.calls)
    kind(matched=True).answer(asked, few.lm(), few.ledger(Budget(usd=0.08, calls=most)))
    assert len(few.calls) == most < len(rich.calls)


@kinds
def test_matched_with_too_small_a_cap_reads_as_configured_and_is_refused(
    kind: Callable[..., Summarizer],
) -> None:
    table = Table(scripted(Witness(), window=WINDOW))
    with pytest.raises(BudgetExceeded):
        kind(matched=True).answer(
            problem(QUESTION, TEXT), table.lm(), table.ledger(Budget(tokens=3_000))
        )
    assert table.tokens <= 3_000


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SummarizeMapReduce(chunk_tokens=16), "chunk_tokens must be at least 32"),
        (lambda: SummarizeMapReduce(note_tokens=0), "note_tokens must be at least 8"),
        (lambda: SummarizeMapReduce(chunk_tokens=100, note_tokens=100), "no shorter than the text"),
        (lambda: SummarizeMapReduce(concurrency=0), "concurrency must be at least 1"),
        (lambda: SummarizeMapReduce(max_merges=0), "max_merges must be at least 1"),
        (lambda: SummarizeRefine(chunk_tokens=64, summary_tokens=64), "no shorter than the text"),
        (lambda: SummarizeRefine(prompt="fancy"), "no prompt 'fancy'; choose plain"),
        (lambda: Compaction(fill=0), "fill must be above 0"),
        (lambda: Compaction(fill=1.5), "fill must be at most 1"),
        (lambda: Compaction(summary_tokens=4), "summary_tokens must be at least 8"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "window", "told"),
    [
        (SummarizeMapReduce(chunk_tokens=4000), 4096, "^chunk_tokens must be lower"),
        (SummarizeRefine(chunk_tokens=4000), 4500, "^chunk_tokens must be lower"),
        (Compaction(chunk_tokens=3000), 4096, "of the window of 4096 it may fill 3276"),
        (SummarizeRefine(chunk_tokens=64, summary_tokens=32), 50, "^chunk_tokens must be lower"),
    ],
)
def test_a_window_that_is_too_small_is_refused(method: Summarizer, window: int, told: str) -> None:
    info = ScriptedModel(context_window=window).info
    with pytest.raises(ConfigError, match=told):
        method.check({"root": info})
    method.check({"root": ScriptedModel(context_window=50_000).info})


def test_an_answering_window_smaller_than_its_prompt_is_refused() -> None:
    small, large = (ScriptedModel(context_window=w).info for w in (500, 50_000))
    with pytest.raises(ConfigError, match=r"^summary_tokens must be lower: the answering"):
        SummarizeRefine(summary_tokens=512).check({"root": small, "summarize": large})
