"""Notes on every part, side by side or one after another, and an answer from them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from helpers.chat import Table, problem, scripted
from helpers.summaries import LINES, QUESTION, TEXT, Witness
from rlm_eval.methods.method import Shape
from rlm_eval.methods.summarize.notes import SummarizeMapReduce, SummarizeRefine
from rlm_eval.methods.summarize.summarizer import parts_of
from rlm_eval.models.protocol import Message
from rlm_eval.tokens import load_tokenizer


@pytest.mark.parametrize("size", [50, 400])
def test_parts_are_the_whole_input_within_their_size(size: int) -> None:
    count = load_tokenizer().count
    parts = parts_of(TEXT, size)
    assert "".join(part.text for part in parts) == TEXT
    assert all(part.tokens <= size for part in parts)
    for content in (LINES, {"a": TEXT, "b": "short", "c": TEXT}):
        assert all(count(part.text) <= size + 2 for part in parts_of(content, size))


def test_a_document_that_goes_on_says_so_in_the_next_part_and_short_ones_share_one() -> None:
    parts = parts_of({"long.txt": TEXT, "a.txt": "alpha", "b.txt": "beta"}, 400)
    assert all("long.txt:\n" in part.text for part in parts[:-1])
    assert parts[-1].text.endswith("a.txt:\nalpha\n\nb.txt:\nbeta\n\n")


def test_map_reduce_answers_from_the_notes() -> None:
    witness = Witness(note=8)
    table = Table(scripted(witness))
    method = SummarizeMapReduce(chunk_tokens=1000, note_tokens=40)
    got = method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    parts = len(parts_of(TEXT, 1000))
    assert witness.asked[0].count("nnnnn") == parts == len(witness.read)
    assert f"Part {parts} of {parts}:" in witness.asked[0]
    assert [len(event["notes"]) for event in got.trajectory] == [parts]


def test_map_reduce_merges_notes_that_do_not_fit() -> None:
    witness = Witness(note=400)
    table = Table(scripted(witness, window=900))
    method = SummarizeMapReduce(chunk_tokens=300, note_tokens=100)
    got = method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    merging = [prompt for prompt in witness.read if prompt.startswith("Notes on consecutive")]
    assert got.text == "done"
    assert got.iterations > 2
    assert merging
    assert QUESTION in merging[0]


def test_merging_leaves_as_many_notes_as_fit() -> None:
    """Half the summariser's window holds ten: groups that fill it would leave four."""
    witness = Witness(note=400)
    model = scripted(witness, window=2000)
    table = Table(model)
    method = SummarizeMapReduce(chunk_tokens=150, note_tokens=100)
    got = method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    (notes,) = [event["notes"] for event in got.trajectory]
    assert got.iterations == 3
    assert len(notes) * 100 > model.context_window / 2
    count = load_tokenizer().count
    reading, _ = method.forecast(Shape(count(TEXT), count(QUESTION), 32), {"root": model.info})
    assert reading.calls == pytest.approx(len(witness.read), rel=0.15)


def test_the_prompts_of_map_reduce() -> None:
    """Those with the question in sight, word for word; an input of one part stands first, as in
    direct's prompt, so that a server has read it for both."""
    table = Table(scripted(witness := Witness(note=2), window=1000))
    SummarizeMapReduce(chunk_tokens=32, note_tokens=16).answer(
        problem("Who?\nReply 'Name: <name>'.", "One line.\n"), table.lm(), table.ledger()
    )
    assert witness.read == [
        "One line.\n\n\nA question will be asked about the whole text:\nWho?\n"
        "Reply 'Name: <name>'.\n\nWrite short notes on what the text holds that is "
        "needed to answer it: facts, names, and counts. Do not answer the question itself."
    ]
    assert witness.asked == [
        "These are notes on a text, one per part, in order.\n\nPart 1 of 1:\n<1>\n\n"
        "Who?\nReply 'Name: <name>'."
    ]


def test_refine_keeps_its_summary_where_nothing_more_is_written() -> None:
    said = iter(["the first notes", "", ""])

    def script(messages: Sequence[Message]) -> str:
        asked = messages[-1]["content"]
        if "Write" not in asked:
            assert "the first notes" in asked
            return "done"
        return next(said, "")

    table = Table(scripted(script))
    got = SummarizeRefine(chunk_tokens=1000).answer(
        problem(QUESTION, TEXT), table.lm(), table.ledger()
    )
    assert got.text == "done"
    assert {event["text"] for event in got.trajectory} == {"the first notes"}


def test_refine_hands_each_summary_to_the_next_step_and_the_last_to_the_answer() -> None:
    witness = Witness(note=20)
    table = Table(scripted(witness))
    method = SummarizeRefine(chunk_tokens=1000, summary_tokens=60)
    got = method.answer(problem(QUESTION, TEXT), table.lm(), table.ledger())
    steps = len(witness.read)
    assert steps == len(parts_of(TEXT, 1000))
    for number, prompt in enumerate(witness.read, 1):
        seen = [i for i in range(1, steps + 1) if f"<{i}>nn" in prompt]
        assert seen == ([number - 1] if number > 1 else [])
        assert f"Part {number} of {steps} " in prompt
    assert f"<{steps}>nn" in witness.asked[0]
    assert "Record" not in witness.asked[0]
    assert [event["text"][:3] for event in got.trajectory] == [
        f"<{i}>" for i in range(1, steps + 1)
    ]
