"""Notes on every part, merged where they do not fit, and an answer from them."""

from __future__ import annotations

from helpers.chat import Table, problem, scripted
from helpers.summaries import QUESTION, TEXT, Witness
from rlm_eval.methods.summarize.map_reduce import SummarizeMapReduce
from rlm_eval.methods.summarize.parts import parts_of


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


def test_the_prompts_of_map_reduce_are_as_they_were() -> None:
    """Those with the question in sight, word for word."""
    table = Table(scripted(witness := Witness(note=2), window=1000))
    SummarizeMapReduce(chunk_tokens=32, note_tokens=16).answer(
        problem("Who?\nReply 'Name: <name>'.", "One line.\n"), table.lm(), table.ledger()
    )
    assert witness.read == [
        "Part 1 of 1 of a longer text:\n\nOne line.\n\n\nA question will be asked about the whole "
        "text:\nWho?\nReply 'Name: <name>'.\n\nWrite short notes on what this part holds that is "
        "needed to answer it: facts, names, and counts. Do not answer the question itself."
    ]
    assert witness.asked == [
        "These are notes on a text, one per part, in order.\n\nPart 1 of 1:\n<1>\n\n"
        "Who?\nReply 'Name: <name>'."
    ]
