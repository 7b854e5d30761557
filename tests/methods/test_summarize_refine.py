"""A summary handed from part to part, and an answer from the last."""

from __future__ import annotations

from helpers.chat import Table, problem, scripted
from helpers.summaries import QUESTION, TEXT, Witness
from rlm_eval.methods.summarize.parts import parts_of
from rlm_eval.methods.summarize.refine import SummarizeRefine


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
