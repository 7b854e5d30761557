"""cwe and fwe: which words occur most, RULER's two aggregation tasks.

cwe (common words): a numbered list in random order, ten words thirty times each and all others
three times; the ten are asked for, 120 answer tokens. fwe (frequent words): six-letter coded words
whose k-th comes N / (k² ζ(2)) times; the first is replaced by dots, ranks two to four are asked
for, 50 answer tokens. Source: RULER (Hsieh et al. 2024). Score: ``strict_match``, the words named
less other entries of the answer's list; RULER's ``string_match_all`` is ``score_official``.

``task=ruler_cwe`` and ``task=ruler_fwe`` (a ``template``) are RULER's own: its preface (it begins
the context), question and answer prefix, for cwe a worked example of forty words before the
preface, and ``string_match_all``. What stays different: prompts other than ``experiment=ruler``'s
say more after the prefix; cwe's words are those the project's keys are made of and then made-up
ones, of which some three tokens each fill a length with fewer entries than RULER's English words
do; every sample is filled to its target.

Known shortcut: counting words is one line of code (``code_oracle``: 100 %; best constant: 0),
of fwe also where lines that come again are dropped (``cheat_deduplicate``: 100 %). The
tasks measure counting without code, or writing that line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice, repeat
from string import ascii_lowercase

from rlm_eval.records import Context

from ..draws import Draws
from ..task import Generated, Pair
from .haystack import ADJECTIVES, NOUNS, filled, made_up_names

ZETA_2 = 1.6449340668482264
#: Of RULER's worked example: times that ten words occur, and thirty others.
EXAMPLE_TIMES = (10, 3)


def numbered(words: Iterable[str]) -> str:
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))


@dataclass(kw_only=True, eq=False)
class CommonWords(Generated):
    """RULER's cwe."""

    template: Sequence[str] | None = None

    name = "cwe"
    max_answer_tokens = 120
    common = 10
    common_times = 30
    other_times = 3
    question = (
        "The numbered list holds some words more often than the others. What are the ten most"
        " common words in it? Answer with the ten words alone, separated by commas."
    )

    def prepare(self) -> None:
        if self.template:
            self.name, self.scorer = "ruler_cwe", "string_match_all"
            _, self.question = filled(self.template)
        self._reserve = self._tok.count(self.question) + self.max_answer_tokens

    def shortest(self) -> int:
        """Ten common words and as many others, of eight tokens at most (RULER's 4096: of five)."""
        entries = self.common * (self.common_times + self.other_times)
        return self._reserve + (entries * 8 + 1000 if self.template else entries * 12)

    def code_oracle(self, question: str, context: Context) -> str | None:
        listed = context.text.rpartition("\n")[2]  # without a worked example
        words = Counter(re.findall(r"\d+\. (\w+)", listed))
        return ", ".join(word for word, _ in words.most_common(self.common)) or None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, purpose, self.seed, target, index)
        before = self._example(draws, self.template[0]) if self.template else ""
        spent = self._tok.count(before)
        words, used = self._words(target - self._reserve - spent, draws)
        gold, others = words[: self.common], words[self.common :]
        entries = gold * self.common_times + others * self.other_times
        draws.shuffle(entries)
        context = Context.of(before + numbered(entries))
        yield self.pair(
            context,
            target,
            question=self.question,
            gold=tuple(gold),
            summed=used + spent,
            knobs=self.noted(index, n_words=len(words)),
        )

    def _example(self, draws: Draws, before: str) -> str:
        """RULER's worked example (list, question, answer) and what comes before the list."""
        words = draws.sample(ADJECTIVES + NOUNS, 40)
        often, seldom = words[: self.common], words[self.common :]
        entries = often * EXAMPLE_TIMES[0] + seldom * EXAMPLE_TIMES[1]
        draws.shuffle(entries)
        return f"{before}{numbered(entries)}\n{self.question} {numbered(often)}\n{before}"

    def _words(self, budget: int, draws: Draws) -> tuple[list[str], int]:
        """The common words, then as many others as fit; and the tokens of all entries."""
        pool = list(ADJECTIVES + NOUNS)
        new = (name.lower() for name in made_up_names(draws))
        known = set(pool)
        pool += islice((word for word in new if word not in known), budget // 20)
        draws.shuffle(pool)
        words: list[str] = []
        used = entries = 0
        for word in pool:
            times = self.common_times if len(words) < self.common else self.other_times
            number = 10 ** (len(str(entries + times)) - 1)  # with as many digits as the last
            cost = times * (self._count(f" {word}") + self._count(f" {number}."))
            if used + cost > budget:
                break
            words.append(word)
            used += cost
            entries += times
        return words, used


@dataclass(kw_only=True, eq=False)
class FrequentWords(Generated):
    """RULER's fwe."""

    template: Sequence[str] | None = None

    name = "fwe"
    max_answer_tokens = 50
    question = (
        "The text is made of coded words; ignore the dots between them. Which three coded words"
        " occur most often? Answer with the three words alone, separated by commas."
    )

    def prepare(self) -> None:
        first_word = 6  # without the space before it, it may take a token for each letter
        self._preface = ""
        if self.template:
            self.name, self.scorer = "ruler_fwe", "string_match_all"
            self._preface, self.question = filled(self.template)
        said = self._tok.count(self._preface + self.question)
        self._reserve = said + self.max_answer_tokens + first_word

    def shortest(self) -> int:
        """So many words that ranks two to five differ by two at least."""
        return self._reserve + 1000

    def code_oracle(self, question: str, context: Context) -> str | None:
        text = context.text.removeprefix(self._preface)
        words = Counter(re.findall(r"[a-z]+", text))
        return ", ".join(word for word, _ in words.most_common(3)) or None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, purpose, self.seed, target, index)
        counts, used = self._counts(target - self._reserve, draws)
        words = list(chain.from_iterable([word] * times for word, times in counts.items()))
        draws.shuffle(words)
        context = Context.of(self._preface + " ".join(words))
        used += self._tok.count(f"{self._preface}{words[0]}") - self._tok.count(f" {words[0]}")
        yield self.pair(
            context,
            target,
            question=self.question,
            gold=tuple(islice(counts, 1, 4)),
            summed=used,
            knobs=self.noted(index, n_words=len(words)),
        )

    def _counts(self, budget: int, draws: Draws) -> tuple[dict[str, int], int]:
        """Times each word occurs, by rank, for the largest N whose text fits; and its tokens."""
        most = int((budget / ZETA_2) ** 0.5) + 2
        letters = (draws.choice(ascii_lowercase) for _ in repeat(None))
        words = ["...", *draws.distinct(most, lambda: "".join(islice(letters, 6)))]
        costs = [self._tok.count(f" {word}") for word in words]

        def tokens(n: int) -> int:
            return sum(cost * times for cost, times in zip(costs, zeta_counts(n), strict=False))

        largest = bisect_right(range(1, budget + 1), budget, key=tokens)
        return dict(zip(words, zeta_counts(largest), strict=False)), tokens(largest)


def zeta_counts(n: int) -> Iterator[int]:
    """How often ranks 1, 2, … occur among ``n`` words that follow a zeta(2) distribution."""
    for rank in count(1):
        times = int(n / (rank * rank * ZETA_2))
        if times == 0:
            return
        yield times
