"""The text that needles are hidden in: no sentence twice, and none that stands out by occurring
once, at any length it serves."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.tasks.draws import Draws
from rlm_eval.tasks.generated import haystack
from rlm_eval.tasks.generated.chains import SemanticChain
from rlm_eval.tasks.generated.multihop import VariableTracking
from rlm_eval.tasks.generated.needle import Needle
from rlm_eval.tokens import NAMES

#: Ways to cut a text into sentences; the last two are finer than sentences.
CUTS = (r"(?<=[.!?])\s+", r"(?<=\.)\s+", r"[.!?][\"')]*\s+", r"\n", r"[.!?\n]")
MILLION = 2**20


def twice(text: str, cut: str) -> list[str]:
    parts = (" ".join(re.findall(r"\w+", part.lower())) for part in re.split(cut, text))
    return [part for part, times in Counter(filter(None, parts)).items() if times > 1]


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", NAMES)
def test_the_prose_serves_a_million_tokens_without_a_sentence_twice(tokenizer: str) -> None:
    ((context, sample),) = Needle(lengths=[MILLION], n=1, tokenizer=tokenizer).build()
    assert sample.length_tokens > MILLION - 300
    for cut in CUTS:
        assert not twice(context.text, cut)


@pytest.mark.parametrize(
    "task",
    [
        *(Needle(lengths=[16_000], n=2, variant=v) for v in ("single_2", "single_3")),
        *(Needle(lengths=[16_000], n=2, variant=v) for v in ("multikey_1", "multivalue")),
        *(Needle(lengths=[16_000], n=2, variant=v) for v in ("multiquery", "multikey_2")),
        VariableTracking(lengths=[16_000], n=2),
        SemanticChain(lengths=[16_000], n=2),
    ],
    ids=lambda task: f"{task.name} {getattr(task, 'variant', '')}",
)
def test_what_occurs_once_is_everything(task: Needle) -> None:
    """Neither deduplication nor the search for what occurs once comes any nearer to the answer."""
    for context, _ in task.build():
        text = re.sub(r"Document \d+:", "", context.text)
        assert not twice(text, CUTS[0])
        assert len(re.split(CUTS[0], text)) > 300


def test_noise_repeats_by_construction_and_its_card_says_so() -> None:
    task = Needle(lengths=[16_000], n=1, variant="single_1")
    ((context, sample),) = task.build()
    counts = Counter(s.strip() for s in re.split(CUTS[0], context.text))
    (needle,) = [sentence for sentence, times in counts.items() if times == 1]
    assert sample.gold[0] in needle
    assert "the needle is the only one\nthat occurs once" in task.card


def test_samples_take_their_paragraphs_in_orders_of_their_own() -> None:
    (one, _), (two, _) = Needle(lengths=[4000], n=2).build()
    assert len(set(one.text.splitlines()) & set(two.text.splitlines())) < 3
    order = list(haystack.prose_pieces(haystack.prose(), Draws("a")))
    assert len(order) == len(set(order)) == 45_011
    assert sorted("".join(order).splitlines()) == sorted(haystack.prose())


@pytest.mark.parametrize("make", [Needle, VariableTracking])
def test_a_length_that_the_text_cannot_fill_is_refused_with_the_reason(make: type[Needle]) -> None:
    with pytest.raises(ConfigError, match=r"no sentence .* is used twice: the most is 1\d{6}$"):
        make(lengths=[2_000_000], n=1)
