"""A needle that has to be understood to be found: the latent needle."""

from __future__ import annotations

import re

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.tasks.generated.latent import LANDMARKS, NAME, QUESTION, WORDINGS, LatentNeedle
from rlm_eval.tokens import NAMES, load_tokenizer


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


@pytest.mark.parametrize("tokenizer", NAMES)
def test_samples_fill_their_target_and_counts_add_up(tokenizer: str) -> None:
    tok = load_tokenizer(tokenizer)
    for context, sample in LatentNeedle(lengths=[3000, 250_000], n=1, tokenizer=tokenizer).build():
        real = tok.count(context.text)
        used = real + tok.count(sample.question) + sample.max_answer_tokens
        assert sample.target_tokens - 130 < used <= sample.target_tokens
        assert 0 <= sample.length_tokens - real <= 2


def test_same_seed_same_bytes_everywhere() -> None:
    ((context, sample),) = LatentNeedle(lengths=[4000], n=1, seed=5).build()
    assert f"{context.id} {sample.id}" == "ba7a337a10cfc968 809298902d9aa7a6"


def test_too_short_a_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="the least is"):
        LatentNeedle(lengths=[200], n=1)
