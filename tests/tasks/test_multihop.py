"""Variable tracking and semantic chains: the answer follows from the text, and only one does."""

from __future__ import annotations

import re

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context
from rlm_eval.tasks.generated import chains
from rlm_eval.tasks.generated.chains import RELATIONS, SemanticChain
from rlm_eval.tasks.generated.multihop import VariableTracking, multihop
from rlm_eval.tokens import NAMES, load_tokenizer


@pytest.mark.parametrize(("hops", "count"), [(1, 1), (4, 1), (4, 3), (9, 2)])
def test_vt_gold_is_what_running_the_statements_gives(hops: int, count: int) -> None:
    task = VariableTracking(lengths=[3000], n=4, hops=hops, chains=count)
    for context, sample in task.build():
        values: dict[str, str] = {}
        for name, right in re.findall(r"\bVAR ([A-Z]{5}) = ((?:VAR )?\w+)\.", context.text):
            values[name] = values[right[4:]] if right.startswith("VAR") else right
        asked = re.findall(r"\d{5}", sample.question)[0]
        assert len(values) == count * (hops + 1)
        assert set(sample.gold) == {name for name, value in values.items() if value == asked}
        assert len(sample.gold) == hops + 1
        oracle = task.code_oracle(sample.question, context)
        assert oracle is not None
        assert task.score(sample, oracle).value == 1.0
        assert task.score(sample, sample.gold[0]).value == pytest.approx(1 / (hops + 1))


@pytest.mark.parametrize("tokenizer", NAMES)
@pytest.mark.parametrize(("variant", "hops"), [("vt", 4), ("semantic", 2), ("semantic", 5)])
def test_samples_fill_their_target(variant: str, hops: int, tokenizer: str) -> None:
    tok = load_tokenizer(tokenizer)
    task = multihop(lengths=[2500, 9000], n=3, variant=variant, hops=hops, tokenizer=tokenizer)
    for context, sample in task.build():
        used = tok.count(context.text) + tok.count(sample.question) + sample.max_answer_tokens
        assert sample.target_tokens - 150 < used <= sample.target_tokens
        assert sample.length_tokens == tok.count(context.text)


@pytest.mark.parametrize("tokenizer", NAMES)
@pytest.mark.parametrize("variant", ["vt", "semantic"])
def test_counts_add_up_exactly(variant: str, tokenizer: str) -> None:
    task = multihop(lengths=[300_000], n=1, variant=variant, tokenizer=tokenizer)
    ((context, sample),) = task.build()
    assert 0 <= sample.length_tokens - load_tokenizer(tokenizer).count(context.text) <= 2


def follow(context: Context, start: str, phrases: list[str]) -> str:
    """The chain's end, by matching documents against the wordings of each relation."""
    here = start
    for phrase in phrases:
        facts = next(r.facts for r in RELATIONS if r.phrase == phrase)
        patterns = [
            re.escape(fact).replace(r"\{x\}", here).replace(r"\{y\}", "([A-Z][a-z]+)")
            for fact in facts
        ]
        found = {m for p in patterns for m in re.findall(p, context.text)}
        assert len(found) == 1
        here = found.pop()
    return here


def unfold(phrase: str) -> tuple[str, list[str]]:
    """The first name of a nested question, and its relations from the inside out."""
    if re.fullmatch(r"[A-Z][a-z]+", phrase):
        return phrase, []
    for relation in RELATIONS:
        before, after = relation.phrase.split("{x}")
        if phrase.startswith(before) and phrase.endswith(after):
            inner = phrase[len(before) : len(phrase) - len(after)]
            try:
                start, inside = unfold(inner)
            except ValueError:
                continue
            return start, [*inside, relation.phrase]
    raise ValueError(phrase)


@pytest.mark.parametrize("hops", [1, 2, 3, 5])
def test_semantic_gold_follows_from_the_documents(hops: int) -> None:
    task = SemanticChain(lengths=[4000], n=12, hops=hops)
    for context, sample in task.build():
        phrase = sample.question.partition("Name ")[2].partition(". Answer")[0]
        start, phrases = unfold(phrase)
        assert len(phrases) == hops
        assert (follow(context, start, phrases),) == sample.gold
        assert sample.gold[0] not in sample.question
        assert isinstance(context.content, tuple)
        assert len(set(context.content)) == len(context.content) == sample.knobs["n_documents"]
        first = context.content[int(str(sample.knobs["first_document"])) - 1]
        assert first.split(".")[0].endswith(start)
        assert task.score(sample, f"{sample.gold[0]}.").correct


def test_question_and_documents_have_no_content_word_in_common() -> None:
    for relation in RELATIONS:
        asked = chains._content_words(relation.phrase.replace("{x}", ""))
        for fact in relation.facts:
            stated = chains._content_words(fact.replace("{x}", "").replace("{y}", ""))
            assert not asked & stated, (relation.phrase, fact)


def test_surface_oracle_is_near_its_chance() -> None:
    task = SemanticChain(lengths=[4000], n=150, hops=2)
    hits = [
        task.score(sample, task.code_oracle(sample.question, context) or "").value
        for context, sample in task.build()
    ]
    assert sum(hits) / len(hits) < 0.2


@pytest.mark.parametrize(
    ("variant", "digest"),
    [
        ("vt", "d12b774e57164a6d d48d4cb8f190e8cc"),
        ("semantic", "a472539ea3c7ce14 611961f56c78814e"),
    ],
)
def test_same_seed_same_bytes_everywhere(variant: str, digest: str) -> None:
    ((context, sample),) = multihop(lengths=[4096], n=1, seed=5, variant=variant).build()
    assert f"{context.id} {sample.id}" == digest


@pytest.mark.parametrize("variant", ["vt", "semantic"])
def test_first_samples_do_not_depend_on_n_and_calibration_is_disjoint(variant: str) -> None:
    few = [s.id for _, s in multihop(lengths=[3000], n=2, variant=variant).build()]
    task = multihop(lengths=[3000], n=5, variant=variant)
    samples = [s for _, s in task.build()]
    assert [s.id for s in samples][:2] == few
    calibration = list(task.calibration(3000))
    assert {s.target_tokens for s in calibration} == {3000}
    assert not {s.gold for s in samples} & {s.gold for s in calibration}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"lengths": [100]}, "the least is"),
        ({"variant": "semantic", "lengths": [1000]}, "the least is"),
        ({"variant": "semantic", "hops": 6}, "at most 5"),
        ({"hops": 0}, "hops"),
        ({"chains": 900}, "the least is"),
        ({"chains": 2000}, "at most 1000"),
        ({"variant": "graph"}, "vt"),
    ],
)
def test_bad_knobs_are_refused_at_once(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        multihop(**{"lengths": [4000], "n": 1, **knobs})  # type: ignore[arg-type]
