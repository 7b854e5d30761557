"""Our own variants: the latent needle and the n-th of alike replies."""

from __future__ import annotations

import re

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.tasks.generated.latent import LANDMARKS, NAME, QUESTION, WORDINGS, LatentNeedle
from rlm_eval.tasks.generated.turns import Turns
from rlm_eval.tokens import NAMES, load_tokenizer

Make = type[LatentNeedle] | type[Turns]


def test_latent_needles_share_no_word_with_the_question() -> None:
    for country, landmark in LANDMARKS.items():
        asked = set(re.findall(r"\w{4,}", country.lower()))
        assert not asked & set(re.findall(r"\w{4,}", landmark.lower()))
    question = QUESTION.format(country="X").lower()
    words = {w for w in re.findall(r"[a-z]+", question) if len(w) > 3} - {"with", "from"}
    for wording in WORDINGS:
        assert not words & set(re.findall(r"[a-z]+", wording.replace("{name}", "").lower()))


def test_the_person_by_the_landmark_is_the_only_answer() -> None:
    for context, sample in LatentNeedle(lengths=[2000], n=20).build():
        landmark = LANDMARKS[str(sample.knobs["country"])]
        (line,) = [s for s in re.split(r"(?<=[.!?])\s", context.text) if landmark in s]
        assert sample.gold[0] in line
        assert str(sample.knobs["country"]) in sample.question
        assert len(NAME.findall(context.text)) == 4
        assert context.text.count(sample.gold[0]) == 1


def test_latent_oracle_is_at_chance() -> None:
    task = LatentNeedle(lengths=[1000], n=200)
    hits = [task.score(s, task.code_oracle(s.question, c) or "").value for c, s in task.build()]
    assert 0.12 < sum(hits) / 200 < 0.38


def test_turns_asks_for_the_reply_it_says() -> None:
    task = Turns(lengths=[3000], n=12, needles=3)
    for context, sample in task.build():
        request = re.search(r"request '(.+?)'", sample.question)
        assert request is not None
        lines = context.text.split("\n")
        replies = [lines[i + 1] for i, line in enumerate(lines) if line == f"User: {request[1]}"]
        assert len(set(replies)) == 3
        gold, prefix = sample.gold
        wanted = int(str(sample.knobs["wanted"]))
        assert gold == prefix + replies[wanted - 1].removeprefix("Assistant: ")
        assert task.score(sample, gold).correct
        assert task.score(sample, gold.removeprefix(prefix)).value == 0.0
        other = prefix + replies[wanted % 3].removeprefix("Assistant: ")
        assert 0 < task.score(sample, other).value < 0.9
        assert task.code_oracle(sample.question, context) == gold
        assert load_tokenizer().count(gold) <= sample.max_answer_tokens


@pytest.mark.parametrize("tokenizer", NAMES)
@pytest.mark.parametrize("make", [LatentNeedle, Turns])
def test_samples_fill_their_target_and_counts_add_up(make: Make, tokenizer: str) -> None:
    tok = load_tokenizer(tokenizer)
    for context, sample in make(lengths=[3000, 250_000], n=1, tokenizer=tokenizer).build():
        real = tok.count(context.text)
        used = real + tok.count(sample.question) + sample.max_answer_tokens
        assert sample.target_tokens - 130 < used <= sample.target_tokens
        assert 0 <= sample.length_tokens - real <= 2


@pytest.mark.parametrize(
    ("make", "digest"),
    [
        (LatentNeedle, "ba7a337a10cfc968 809298902d9aa7a6"),
        (Turns, "c2652e125649006f 6b2065bb6ebd8482"),
    ],
)
def test_same_seed_same_bytes_everywhere(make: Make, digest: str) -> None:
    ((context, sample),) = make(lengths=[4000], n=1, seed=5).build()
    assert f"{context.id} {sample.id}" == digest


def test_bad_knobs_are_refused() -> None:
    for make in (LatentNeedle, Turns):
        with pytest.raises(ConfigError, match="the least is"):
            make(lengths=[200], n=1)
    with pytest.raises(ConfigError, match="at most 20"):
        Turns(lengths=[4000], n=1, needles=21)
