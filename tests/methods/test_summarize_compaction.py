"""Read on until the window fills, sum up, go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from helpers.chat import Table, problem, scripted
from helpers.summaries import QUESTION, TEXT, WINDOW, Witness, records_in
from rlm_eval.ledger import Budget
from rlm_eval.methods.method import Shape
from rlm_eval.methods.summarize.compaction import Compaction
from rlm_eval.models.client import LM, ModelClient
from rlm_eval.models.protocol import ChatModel, Message
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Content, Role, text_of


@pytest.mark.parametrize("content", [TEXT, (TEXT, "short"), {"a.txt": TEXT, "b.txt": "short"}])
def test_what_fits_is_never_summed_up_and_has_each_heading_once(content: Content) -> None:
    witness = Witness()
    table = Table(scripted(witness))
    got = Compaction().answer(problem(QUESTION, content), table.lm(), table.ledger())
    assert not witness.read
    assert witness.asked == [f"{text_of(content)}\n\n{QUESTION}"]
    assert (got.iterations, got.text) == (1, "done")


@pytest.mark.parametrize("fill", [0.5, 0.8])
def test_no_prompt_passes_its_share_of_the_window_and_none_but_the_last_stays_under(
    fill: float,
) -> None:
    table = Table(scripted(Witness(note=4 * 60), window=WINDOW))
    method = Compaction(fill=fill, chunk_tokens=100, summary_tokens=60)
    method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    taken = [c.prompt_tokens + c.completion_tokens for c in table.calls]
    room = fill * WINDOW
    assert all(size <= room + 1 for size in taken)
    # The first has no summary before it, and a part that is not taken is 100 tokens, or 170 of the
    # scripted model's.
    assert all(size > room - 170 - 60 for size in taken[:-2])


def test_compaction_goes_on_with_the_summary_and_answers_from_what_is_in_sight() -> None:
    witness = Witness(note=20)
    table = Table(scripted(witness, window=WINDOW))
    method = Compaction(chunk_tokens=100, summary_tokens=60)
    got = method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    first, *later = [*witness.read, *witness.asked]
    assert first.startswith("A long text begins:\n\nRecord 0:")
    for number, prompt in enumerate(later, 1):
        assert prompt.index(f"<{number}>nn") < prompt.index("Record")
        assert f"<{number - 1}>nn" not in prompt
    assert records_in(witness.asked)[-1] == 299
    assert [event["type"] for event in got.trajectory] == ["summary"] * len(witness.read)


def test_a_summary_that_its_model_did_not_think_over_has_room() -> None:
    info = scripted(Witness(), window=WINDOW).info
    method, shape = Compaction(chunk_tokens=100, summary_tokens=60), Shape(5 * WINDOW, 10, 32)
    thinking = replace(info, reasoning_tokens=WINDOW // 4)
    (few, _), (many, _) = (method.forecast(shape, {"root": m}) for m in (info, thinking))
    assert many.calls > few.calls
    assert many.prompt_tokens / many.calls + WINDOW // 4 <= WINDOW * method.fill


def test_a_step_that_writes_nothing_leaves_the_summary_as_it_was() -> None:
    witness = Witness(note=20)

    def script(messages: Sequence[Message]) -> str:
        said = witness(messages)
        return "" if len(witness.read) > 1 and said != "done" else said

    table = Table(scripted(script, window=WINDOW))
    method = Compaction(chunk_tokens=100, summary_tokens=60)
    got = method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    assert len(got.trajectory) > 2
    assert len({event["text"] for event in got.trajectory}) == 1
    assert "<1>nn" in witness.asked[0]


def small_answerer(witness: Witness) -> LM:
    """The reader's window holds all, the answerer's only a summary."""
    models: dict[Role, ChatModel] = {
        "root": ScriptedModel("answers", context_window=300, script=witness),
        "summarize": ScriptedModel("reads", context_window=50_000, script=witness),
    }
    return ModelClient(models, lambda call, reply: None).lm("key", memory_scope="arm")


def test_what_the_answering_model_has_no_room_for_is_summed_up_too() -> None:
    witness = Witness(note=20)
    got = Compaction(chunk_tokens=200, summary_tokens=60).answer(
        problem(QUESTION, TEXT), small_answerer(witness), Table().ledger()
    )
    assert got.text == "done"
    assert records_in(witness.read) == list(range(300))
    assert witness.asked == [f"Summary of the text:\n\n<1>{'n' * 17}\n\n{QUESTION}"]


def test_a_matched_summary_leaves_the_answering_model_room() -> None:
    witness = Witness(note=40_000)
    method = Compaction(chunk_tokens=200, summary_tokens=60, matched=True)
    ledger = Table().ledger(Budget(tokens=100_000))
    got = method.answer(problem(QUESTION, TEXT), small_answerer(witness), ledger)
    assert got.text == "done"
    assert len(witness.asked[0]) > 4 * 100, "the cap affords more than is configured"


def test_matched_lengthens_the_summaries_as_far_as_the_cap_affords() -> None:
    def calls(tokens: int) -> tuple[int, int]:
        table = Table(scripted(Witness(note=8000), window=WINDOW))
        method = Compaction(chunk_tokens=100, summary_tokens=60, matched=True)
        method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger(Budget(tokens=tokens)))
        written = [c.completion_tokens for c in table.calls if c.role == "summarize"]
        return len(written), max(written)

    (few, short), (more, longer), (most, longest) = map(calls, (5_500, 8_000, 20_000))
    assert short < longer <= longest <= 0.8 * WINDOW / 4
    assert few <= more <= most
