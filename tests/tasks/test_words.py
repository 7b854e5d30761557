"""cwe and fwe: the frequencies RULER prescribes."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.tasks.generated.words import CommonWords, FrequentWords, zeta_counts
from rlm_eval.tokens import NAMES, load_tokenizer


def test_cwe_holds_ten_words_thirty_times_and_all_others_thrice() -> None:
    task = CommonWords(lengths=[8000], n=2)
    for context, sample in task.build():
        entries = re.findall(r"(\d+)\. (\S+)", context.text)
        assert [int(i) for i, _ in entries] == list(range(1, len(entries) + 1))
        counts = Counter(word for _, word in entries)
        assert Counter(counts.values()) == {30: 10, 3: int(str(sample.knobs["n_words"])) - 10}
        assert {word for word, times in counts.items() if times == 30} == set(sample.gold)
        assert task.score(sample, task.code_oracle(sample.question, context) or "").correct


def test_zeta_counts() -> None:
    # 100 / 1.6449 = 60.8; a quarter, a ninth, a sixteenth …
    assert list(zeta_counts(100)) == [60, 15, 6, 3, 2, 1, 1]


def test_fwe_asks_for_ranks_two_to_four() -> None:
    task = FrequentWords(lengths=[4000], n=2)
    for context, sample in task.build():
        ranks = Counter(context.text.split()).most_common()
        assert ranks[0][0] == "..."
        assert tuple(word for word, _ in ranks[1:4]) == sample.gold
        for rank, (_, times) in enumerate(ranks[:8], 1):
            assert times == pytest.approx(ranks[0][1] / rank**2, abs=1)
        assert ranks[3][1] - ranks[4][1] >= 2
        assert task.score(sample, task.code_oracle(sample.question, context) or "").correct


@pytest.mark.parametrize("tokenizer", NAMES)
@pytest.mark.parametrize("make", [CommonWords, FrequentWords])
def test_samples_fill_their_target_and_counts_add_up(
    make: type[CommonWords] | type[FrequentWords], tokenizer: str
) -> None:
    tok = load_tokenizer(tokenizer)
    for context, sample in make(lengths=[5000, 250_000], n=1, tokenizer=tokenizer).build():
        real = tok.count(context.text)
        used = real + tok.count(sample.question) + sample.max_answer_tokens
        assert sample.target_tokens - 60 < used <= sample.target_tokens
        assert 0 <= sample.length_tokens - real <= 2


@pytest.mark.parametrize("make", [CommonWords, FrequentWords])
def test_too_short_is_refused_and_the_least_works(
    make: type[CommonWords] | type[FrequentWords],
) -> None:
    with pytest.raises(ConfigError) as refused:
        make(lengths=[600], n=1)
    least = int(str(refused.value).rsplit(" ", 1)[1])
    for context, sample in make(lengths=[least], n=5).build():
        counts = Counter(re.findall(r"[a-z]+", context.text)).most_common()
        edge = len(sample.gold)
        assert {word for word, _ in counts[:edge]} == set(sample.gold)
        assert counts[edge - 1][1] > counts[edge][1]


@pytest.mark.parametrize(
    ("make", "digest"),
    [
        (CommonWords, "bc8fbb5b65485aa4 5b34d6f1b483c850"),
        (FrequentWords, "4ff104130da83212 b605be6378b10dd1"),
    ],
)
def test_same_seed_same_bytes_everywhere(
    make: type[CommonWords] | type[FrequentWords], digest: str
) -> None:
    ((context, sample),) = make(lengths=[5000], n=1, seed=5).build()
    assert f"{context.id} {sample.id}" == digest
