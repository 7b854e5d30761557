"""What a task is: it builds samples, scores answers, and brings its own controls."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate, chain, compress, count, islice
from typing import ClassVar

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.records import Context, Sample, Scalar, Score, Span
from rlm_eval.tokens import load_tokenizer

from .scoring.matching import CHARS_PER_TOKEN
from .scoring.rules import RULES
from .scoring.scorers import by_verdict, options_of

Pair = tuple[Context, Sample]
#: The note of a task whose samples name the rule ``judge`` where no judge is set.
UNJUDGED = "no model grades the answers: rule judge is exact match after SQuAD's normalisation"
#: Tokens of contexts in a row that may have no question, since some kinds of questions are rare.
MOST_WITHOUT = 20_000_000
#: What a fixed answer is, by rule, where it is not a gold as it stands. Those without {} are for
#: rules whose golds differ from sample to sample: users, nodes, a random prefix.
CONSTANTS = {
    "oolong": "Answer: {}",  # of a bare answer of 20 characters OOLONG reads its last word alone
    "oolong_real": "\\boxed{{{}}}",
    "choice": "The correct answer is ({})",
    "graphwalks": "Final Answer: []",
    "mrcr": "",
    "pairs_f1": "[]",
    "strict_pairs": "none",
}


@dataclass(kw_only=True, eq=False)
class Task(ABC):
    """One question family. Its fields are its settings; a bad one raises ConfigError when the
    task is made, which builds no sample."""

    name = ""
    #: The rule its answers are scored by, unless a sample names another.
    scorer = "string_match_all"
    max_answer_tokens = 64
    #: Whether the room for the answer is a part of the target length.
    answer_in_target = True
    #: Where the task reads a file: its path and hash, or hub id and revision.
    source: Mapping[str, str] | None = field(default=None, init=False)
    #: The prompt of the model that grades the answers, a name in conf/prompt/judge or the path of
    #: a YAML file; None scores by rule.
    judge: str | None = field(default=None, init=False)
    #: Room for the judge's reply, in tokens.
    judge_tokens: int = field(default=0, init=False)
    #: How often the judge is asked about each answer: what most of its verdicts say is the score.
    judge_repeats: int = field(default=1, init=False)
    #: What a user should know, before a run starts, of what was read and of how it is scored.
    notes: tuple[str, ...] = field(default=(), init=False)
    #: A method here encrypts text that must not be stored in the clear: every question, gold,
    #: answer, reply and trajectory of a run passes through it.
    seal: ClassVar[Callable[..., str] | None] = None

    #: Lengths are in tokens of this one, see :func:`rlm_eval.tokens.load_tokenizer`.
    tokenizer: str = "cl100k_base"

    def __post_init__(self) -> None:
        at_least(1, max_answer_tokens=self.max_answer_tokens)
        at_least(1, judge_tokens=self.judge_tokens if self.judge else None)
        if self.judge_repeats < 1 or self.judge_repeats % 2 == 0:
            raise ConfigError(f"must be odd, not {self.judge_repeats}", key="judge_repeats")
        self._tok = load_tokenizer(self.tokenizer)
        #: Tokens of a piece, each distinct one counted once.
        self._count = cache(self._tok.count)

    @property
    def card(self) -> str:
        """The docstring of its module: what it measures, its source, its known shortcuts."""
        return sys.modules[type(self).__module__].__doc__ or ""

    @property
    def answer_room(self) -> int:
        """Tokens of a target length that are the answer's."""
        return self.max_answer_tokens if self.answer_in_target else 0

    @property
    def scoring(self) -> Mapping[str, Scalar]:
        """The settings that change scores and no sample: they are in each result's key."""
        return {name: getattr(self, name) for name in ("judge", "judge_tokens", "judge_repeats")}

    @abstractmethod
    def build(self) -> Iterator[Pair]:
        """Every sample with its context, ordered by length, then by context: samples that share
        a context are adjacent. The first k samples of a length don't depend on ``n``."""

    def score(self, sample: Sample, answer: str) -> Score:
        """``answer`` judged by the sample's rule; where a model grades the answers, the rule that
        constants are fitted by."""
        if (rule := RULES.get(sample.scorer)) is None:
            told = f"{sample.scorer!r} is unknown; choose one of {', '.join(RULES)}"
            raise ConfigError(told, key="scorer")
        return rule(sample, answer)

    def judge_values(self, sample: Sample, answer: str) -> Mapping[str, object]:
        """What the judge's prompt is filled with. A longer answer than was asked for is cut."""
        return {
            "question": self.query(sample.question),
            "gold": list(sample.gold),
            "answer": answer.strip()[: CHARS_PER_TOKEN * sample.max_answer_tokens],
        }

    def judged(self, sample: Sample, answer: str, verdict: str) -> Score | None:
        """The score by the judge's reply; None where it holds no verdict: the row stays pending."""
        return by_verdict(sample, answer, verdict)

    def query(self, question: str) -> str:
        """What is asked, to search by and to judge by: the question without its instruction and
        examples."""
        return question

    def code_oracle(self, question: str, context: Context) -> str | None:
        """What a script that reads only the surface text answers; None where it has no idea."""
        return None

    def count_alone(self, question: str, context: Context) -> str | None:
        """What counting lines, users and dates gives without reading a text; None where nothing."""
        return None

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        """Samples of other seeds, disjoint from every run's, to fit the best constant answer on.
        Empty where the task reads a file."""
        return iter(())

    def constants(self, group_samples: Sequence[Sample]) -> Iterable[str]:
        """Fixed answers worth trying on samples of one question group: their golds, all of one
        sample where all are asked for, in the form that the rule reads."""
        every = ("string_match_all", "strict_match", "contains")
        golds = ((s, ", ".join(s.gold if s.scorer in every else s.gold[:1])) for s in group_samples)
        return dict.fromkeys(
            CONSTANTS.get(s.scorer.partition(":")[0], "{}").format(gold) for s, gold in golds
        )

    def constant_scores(self, samples: Iterable[Sample]) -> dict[str, float]:
        """By sample id, what the best fixed answer for its question group and length scores on it.

        The answer is fitted on the task's calibration samples; for a group that has none, on the
        samples of all other contexts (a group of one context alone is left out). Of a multiple
        choice it is what the answer scores on those, and no less than chance: of a balanced set,
        where one is left out, the best letter of the rest is never its own.
        """
        groups: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        for sample in samples:
            groups[sample.question_group, sample.target_tokens].append(sample)
        others: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        for length in sorted({target for _, target in groups}):
            for sample in self.calibration(length):
                others[sample.question_group, length].append(sample)
        scores: dict[str, float] = {}
        for key, members in groups.items():
            by_context: dict[str, list[Sample]] = defaultdict(list)
            for sample in members:
                by_context["" if key in others else sample.context_id].append(sample)
            pool = others.get(key, members)
            values = cache(lambda answer, pool=pool: [self.score(s, answer).value for s in pool])
            for context_id, held_out in by_context.items():
                kept = [key in others or s.context_id != context_id for s in pool]
                if not (fitted := list(compress(pool, kept))):
                    continue
                sums = {x: sum(compress(values(x), kept)) for x in self.constants(fitted)}
                best = max(sums, key=sums.__getitem__)
                scores |= {
                    s.id: max(sums[best] / len(fitted), len(s.gold) / len(options_of(s)))
                    if s.scorer == "choice"
                    else self.score(s, best).value
                    for s in held_out
                }
        return scores

    def pair(
        self,
        context: Context,
        target: int,
        *,
        question: str,
        gold: tuple[str, ...],
        group: str = "",
        scorer: str = "",
        length: int = 0,
        summed: int = 0,
        used: int = 0,
        evidence: tuple[Span, ...] = (),
        knobs: Mapping[str, Scalar] | None = None,
    ) -> Pair:
        """A question about ``context`` as a sample of length ``target``, whose budget is checked.

        ``length`` are the context's tokens where they have been counted. Else they are counted
        here; of a very long context ``summed`` is taken, those of its pieces, at most a few more.
        ``used`` are the tokens of it all by another count, a benchmark's own.
        """
        length = length or (summed if summed > EXACT_UP_TO else self._tok.count(context.text))
        used = used or length + self._tok.count(question) + self.answer_room
        if used > target:
            raise AssertionError(f"a sample of {self.name} takes {used} of {target} tokens")
        sample = Sample.of(
            task=self.name,
            context_id=context.id,
            question=question,
            gold=gold,
            scorer=scorer or self.scorer,
            question_group=group or self.name,
            target_tokens=target,
            length_tokens=length,
            max_answer_tokens=self.max_answer_tokens,
            knobs=knobs or {},
            evidence=evidence,
        )
        return context, sample


@dataclass(kw_only=True, eq=False)
class Generated(Task):
    """``n`` samples per length, drawn one by one from a seed."""

    lengths: Sequence[int]
    n: int
    seed: int = 0

    scorer = "strict_match"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, n=self.n)
        at_least(0, seed=self.seed)
        self.prepare()
        self.lengths = check_lengths(self.name, self.lengths, self.shortest(), self.longest())

    def prepare(self) -> None:
        """Check further settings, and whatever all samples need."""

    def noted(self, index: int, **knobs: Scalar) -> dict[str, Scalar]:
        """A sample's knobs: these, and what it was drawn from."""
        return {**knobs, "index": index, "seed": self.seed}

    @abstractmethod
    def shortest(self) -> int:
        """The least target that can be built, found without building."""

    def longest(self) -> int:
        """The largest target that can be built."""
        return LONGEST

    @abstractmethod
    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        """The samples of context ``index`` of a length; ``purpose`` is run or calibration."""

    def build(self) -> Iterator[Pair]:
        for target in self.lengths:
            yield from islice(chain.from_iterable(self._contexts(target)), self.n)
        self._count.cache_clear()  # it holds every line that was counted

    def _contexts(self, target: int) -> Iterator[list[Pair]]:
        """The samples of one context after the other. Raises ConfigError where, of very many in a
        row, none has a question."""
        without = 0
        for index in count():
            asked = [*self.make(target, "run", index)]
            without = 0 if asked else without + 1
            if without > max(200, MOST_WITHOUT // target):
                told = f"of {without:,} contexts of {target} tokens none has an exact question"
                raise ConfigError(f"{self.name}: {told}: ask for other kinds, or another length")
            yield asked

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        """Golds of other seeds. They don't depend on the length, so the shortest is built."""
        for index in range(16):
            for _, sample in self.make(self.shortest(), "calibration", index):
                yield replace(sample, target_tokens=target_tokens)


# --- Lengths -------------------------------------------------------------------------------------
#
# A sample's budget is ``tokens(context) + tokens(question) + Task.answer_room ≤ target``.
#
# Contexts are made of pieces whose tokens are counted once per distinct piece and added. The sum is
# exact because no pre-token of cl100k or o200k spans the seam between two pieces: a piece either
# starts with one space and a printable character after a piece that ends in none, or follows a
# piece that ends in a newline and itself starts with a letter or digit. Pre-tokens are split before
# BPE merges are looked for, so the tokens on both sides are those of the pieces alone. Contexts up
# to so many tokens are counted again from beginning to end; tests compare the two.
EXACT_UP_TO = 200_000
#: Larger samples are refused: their text alone would take some 0.5 GB.
LONGEST = 100_000_000


def one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Raises ConfigError unless ``value`` is among the choices."""
    if value not in choices:
        raise ConfigError(f"{value!r} is unknown; choose one of {', '.join(choices)}", key=key)


def check_lengths(
    task: str, lengths: Sequence[int], shortest: int, longest: int = LONGEST
) -> tuple[int, ...]:
    """The lengths in rising order without repeats. Raises ConfigError, naming the limit, for one
    that can't be built."""
    if not lengths:
        raise ConfigError("must be a list such as [4000,16000]", key="lengths")
    values = sorted(set(lengths))
    if values[0] < shortest:
        told = f"has {values[0]}, too few tokens for {task}; the least is {shortest}"
        raise ConfigError(told, key="lengths")
    if values[-1] > longest:
        told = f"has {values[-1]}, more tokens than {task} can build; the most is {longest}"
        raise ConfigError(told, key="lengths")
    return tuple(values)


def heading(number: int) -> str:
    """What ``Context.text`` puts before document ``number``: a specimen with as many digits."""
    return f"Document {10 ** (len(str(number)) - 1)}:\n"


def fill(pieces: Iterator[str], count: Callable[[str], int], budget: int) -> tuple[list[str], int]:
    """The first pieces that fit ``budget`` tokens, and the tokens they take: counted 64 pieces at a
    time (the counts of joined pieces add up as those of single ones do), singly near the end."""
    taken: list[str] = []
    used = 0
    while chunk := list(islice(pieces, 64)):
        cost = count("".join(chunk))
        if used + cost > budget:
            for piece, cost in zip(chunk, map(count, chunk), strict=True):
                if used + cost > budget:
                    break
                taken.append(piece)
                used += cost
            break
        taken += chunk
        used += cost
    return taken, used


def spans_of(text: str, pieces: Iterable[str]) -> tuple[Span, ...]:
    """Where each of ``pieces`` first occurs in ``text``. Raises ValueError for one that doesn't."""
    starts = [(text.index(piece), len(piece)) for piece in pieces]
    return tuple((start, start + length) for start, length in starts)


def document_spans(documents: Sequence[str], places: Iterable[int]) -> tuple[Span, ...]:
    """The stretches of the documents at these places (from 0)."""
    ends = list(accumulate(map(len, documents)))
    return tuple((ends[place] - len(documents[place]), ends[place]) for place in places)
