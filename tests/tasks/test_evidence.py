"""What tasks say of where the answer stands: the stretches really hold it, and no id knows them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest

from helpers.dataset_rows import musique
from rlm_eval.records import Context, Sample, content_hash, documents_of
from rlm_eval.tasks.datasets.docqa import MuSiQue
from rlm_eval.tasks.datasets.mrcr import MRCR
from rlm_eval.tasks.generated.multihop import multihop
from rlm_eval.tasks.generated.needle import VARIANTS, Needle
from rlm_eval.tasks.task import document_spans, spans_of


def stretches(context: Context, sample: Sample) -> list[str]:
    text = "".join(documents_of(context.content))
    return [text[start:end] for start, end in sample.evidence]


@pytest.mark.parametrize("variant", VARIANTS)
def test_needles_are_the_sentences_asked_for(variant: str) -> None:
    for context, sample in Needle(lengths=[2000], n=2, variant=variant).build():
        found = stretches(context, sample)
        assert [sentence.rpartition("is: ")[2] for sentence in found] == [
            f"{gold}." for gold in sample.gold
        ]
        assert all(s.startswith("One of the special magic ") for s in found)


def test_tracked_variables_are_assigned_in_the_evidence() -> None:
    for context, sample in multihop(lengths=[2000], n=2, chains=2).build():
        found = stretches(context, sample)
        assert [line.split()[1] for line in found] == list(sample.gold)
        assert found[0].endswith(f"{sample.question.rpartition('the value ')[2][:5]}.")
        assert all(re.search(rf"(^|\s){line}(\s|$)", context.text) for line in found)


def test_each_fact_of_a_chain_is_evidence_in_its_document() -> None:
    for context, sample in multihop(lengths=[3000], n=4, variant="semantic", hops=3).build():
        found = stretches(context, sample)
        assert len(found) == 3
        assert sample.gold[0] in found[-1]
        ends = list(accumulate(map(len, documents_of(context.content))))
        places = [next(i for i, end in enumerate(ends) if e <= end) for _, e in sample.evidence]
        assert places[0] + 1 == sample.knobs["first_document"]
        assert places[-1] + 1 == sample.knobs["last_document"]


def test_the_gold_paragraphs_are_the_evidence(tmp_path: Path) -> None:
    file = tmp_path / "musique.jsonl"
    file.write_text("\n".join(json.dumps(musique(i)) for i in range(30)))
    task = MuSiQue(path=str(file), lengths=[1500], n=3)
    for context, sample in task.build():
        row = str(sample.knobs["row"]).removeprefix("2hop__")
        titles = [document.partition("\n")[0] for document in stretches(context, sample)]
        assert titles == [f"Title {row}-1", f"Title {row}-3"]
        assert set(stretches(context, sample)) < set(documents_of(context.content))


def mrcr(tmp_path: Path, answer: str) -> tuple[Context, Sample]:
    turns = [("user", "a riddle"), ("assistant", "one"), ("user", "a riddle"), ("assistant", "two")]
    messages = [{"role": role, "content": text} for role, text in turns]
    row = {
        "prompt": json.dumps([*messages, {"role": "user", "content": "Prepend xyz to the 2nd."}]),
        "answer": answer,
        "random_string_to_prepend": "xyz",
        "n_needles": 2,
        "desired_msg_index": 3,
    }
    file = tmp_path / "mrcr.jsonl"
    file.write_text(json.dumps(row))
    ((context, sample),) = MRCR(path=str(file), lengths=[4000], n=1).build()
    return context, sample


def test_mrcr_knows_the_turn_that_is_to_be_repeated(tmp_path: Path) -> None:
    assert stretches(*mrcr(tmp_path, "xyztwo")) == ["assistant: two"]
    assert mrcr(tmp_path, "xyzelsewhere")[1].evidence == ()


def test_an_id_does_not_depend_on_the_evidence() -> None:
    ((_, sample),) = Needle(lengths=[1000], n=1).build()
    fields = {k: v for k, v in vars(sample).items() if k not in ("id", "evidence")}
    assert sample.evidence
    assert sample.id == content_hash(fields)
    assert Sample.of(**fields).id == sample.id == replace(sample, evidence=()).id


def test_spans_by_hand() -> None:
    assert spans_of("ab cab", ["cab", "ab"]) == ((3, 6), (0, 2))
    assert document_spans(["ab", "", "cde"], [2, 0]) == ((2, 5), (0, 2))
    with pytest.raises(ValueError, match="not found"):
        spans_of("ab", ["x"])
