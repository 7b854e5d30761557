"""needle: RULER's eight needle-in-a-haystack tasks.

A needle is one sentence, ``One of the special magic {numbers|uuids|words} for {key} is: {value}.``,
at a sentence boundary of a long text; the question asks for the value or values of one or more
keys. Source: RULER (Hsieh et al. 2024), tasks niah_*. Score: ``strict_match``, the values named
less other values of their form, in an answer and no more; RULER's ``string_match_all`` is
``score_official``. The default text is public-domain prose (items/prose.md) in which no sentence
occurs twice, 1.26M tokens of cl100k, its paragraphs drawn anew for each sample;
``haystack_file=ruler`` takes RULER's essays, 690K tokens, as repetitive as essays are.

``task=ruler_niah`` (a ``template``) is RULER's own: preface (it begins the context), question and
answer prefix, noise, its essays from their beginning and again where they end, 128 answer tokens,
``string_match_all``. What stays different: prompts other than ``experiment=ruler``'s say more after
the prefix; the lists of words that keys are made from (no effect on scores); keys are distinct, so
every gold is unique (RULER draws them with replacement); sentences are split by rule, not by NLTK
(needles stand elsewhere by a few words); every sample has a seed of its own (RULER's shuffles reuse
one, so its positions repeat); each is filled to its target (RULER steps by 25 to 500 pieces).

Known shortcuts: the needle's wording is fixed, so one regular expression solves every variant
(``code_oracle``: 100 %; best constant: 0). The task measures finding, not understanding. The noise
of single_1 is, by RULER's construction, five sentences again and again: the needle is the only one
that occurs once, and without repeated lines any length is a few hundred tokens
(``cheat_occurs_once`` and ``cheat_deduplicate``: 100 %).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import gcd

from rlm_eval.errors import at_least
from rlm_eval.records import Context

from ..draws import Draws
from ..task import LONGEST, Generated, Pair, fill, one_of, spans_of
from . import haystack as hay
from .haystack import ADJECTIVES, NOUNS

#: RULER's even grid of depths.
GRID = tuple(i / 39 for i in range(40))


@dataclass(frozen=True)
class Variant:
    """How one of RULER's needle tasks is made. ``fillers``: needles nobody asks for."""

    haystack: str
    key: str = "words"
    value: str = "numbers"
    queries: int = 1
    values: int = 1
    fillers: int = 0


VARIANTS = {
    "single_1": Variant("noise"),
    "single_2": Variant("essay"),
    "single_3": Variant("essay", value="uuids"),
    "multikey_1": Variant("essay", fillers=3),
    "multikey_2": Variant("needles"),
    "multikey_3": Variant("needles", key="uuids", value="uuids"),
    "multivalue": Variant("essay", values=4),
    "multiquery": Variant("essay", queries=4),
}


def keys(kind: str, draws: Draws) -> Iterator[str]:
    """Distinct keys: uuids, or adjective-noun words (adjective-adjective-noun once those are used
    up), each list walked by a random step that meets every combination once."""
    if kind == "uuids":
        while True:
            yield draws.uuid4()
    a, n = len(ADJECTIVES), len(NOUNS)
    for parts, total in ((1, a * n), (2, a * a * n)):
        step = total
        while gcd(step, total) > 1:
            step = draws.between(1, total)
        at = draws.below(total)
        for _ in range(total):
            at = (at + step) % total
            rest, noun = divmod(at, n)
            words = [ADJECTIVES[rest // a**p % a] for p in range(parts)]
            if len(set(words)) == len(words):
                yield "-".join([*words, NOUNS[noun]])


def value(kind: str, draws: Draws) -> str:
    return draws.uuid4() if kind == "uuids" else str(draws.between(1_000_000, 9_999_999))


def sentence(kind: str, key: str, val: str) -> str:
    return f"One of the special magic {kind} for {key} is: {val}."


NEEDLE = re.compile(r"One of the special magic \w+ for (\S+) is: (\S+)\.")


def question_text(kind: str, asked: Sequence[str], values: int) -> str:
    *others, last = asked
    names = f"{', '.join(others)} and {last}" if others else last
    if len(asked) * values == 1:
        return (
            f"A special magic {kind[:-1]} for {names} is hidden in the text. What is the special"
            f" magic {kind[:-1]} for {names}? Answer with the {kind[:-1]} alone."
        )
    return (
        f"Special magic {kind} for {names} are hidden in the text. What are all the special magic"
        f" {kind} for {names}? Answer with the {kind} alone, separated by commas."
    )


def ruler_texts(
    template: Sequence[str], kind: str, asked: Sequence[str], values: int
) -> tuple[str, str]:
    """RULER's preface and question, in the singular where one value is asked for."""
    *others, last = asked
    names = f"{', '.join(others)}, and {last}" if others else last
    if len(asked) * values == 1:
        template = [re.sub("are all|are", "is", text.replace("Some", "A")) for text in template]
        kind = kind[:-1]
    return hay.filled(template, kind=kind, names=names)


@dataclass(frozen=True)
class Plan:
    """One sample before its haystack: what is hidden, what is asked. Of the ``sentences``, one for
    each gold comes first. ``cost``: the tokens of everything but the haystack, an upper bound."""

    preface: str
    question: str
    gold: tuple[str, ...]
    sentences: tuple[str, ...]
    used_keys: frozenset[str]
    cost: int


@dataclass(kw_only=True, eq=False)
class Needle(Generated):
    variant: str = "single_2"
    haystack: str | None = None
    depths: Sequence[float] | None = None
    haystack_file: str | None = None
    template: Sequence[str] | None = None

    name = "needle"
    max_answer_tokens = 128

    def prepare(self) -> None:
        one_of("variant", self.variant, VARIANTS)
        self._variant = VARIANTS[self.variant]
        self._haystack = self.haystack or self._variant.haystack
        one_of("haystack", self._haystack, ("noise", "essay", "needles"))
        for depth in self.depths or ():
            at_least(0, up_to=1, depths=depth)
        self._paragraphs: tuple[str, ...] = ()
        if self._haystack == "essay" and self.haystack_file:
            self._paragraphs, sha256 = hay.prose_of(self.haystack_file)
            self.source = {"haystack_file": self.haystack_file, "sha256": sha256}
        elif self._haystack == "essay":
            self._paragraphs = hay.prose()
        if self.template:
            self.name, self.scorer = "ruler_niah", "string_match_all"
            self._in_order = hay.sentences(" ".join(self._paragraphs), longest=sys.maxsize)

    def shortest(self) -> int:
        """Room for the needles and a paragraph."""
        return max(self._plan(Draws(self.name, "limits", i)).cost for i in range(8)) + 100

    def longest(self) -> int:
        """Of prose once through it; where needles are the haystack, no more than there are keys."""
        if self._paragraphs and not self.template:
            return hay.longest(self._paragraphs, self.lengths, self._tok)
        if self._haystack != "needles" or self._variant.key != "words":
            return LONGEST
        line = self._tok.count(sentence("numbers", f"{ADJECTIVES[0]}-{NOUNS[0]}", "1234567"))
        return min(line * len(ADJECTIVES) ** 2 * len(NOUNS) // 2, LONGEST)

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = set(re.findall(r"[\w-]+", question))
        found = [val for key, val in NEEDLE.findall(context.text) if key in asked]
        return ", ".join(found) or None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        stream = self.variant if purpose == "run" else purpose
        draws = Draws(self.name, stream, self.seed, target, index)
        plan = self._plan(draws)
        pieces, used = self._fill(plan, target - plan.cost, draws)
        depths = draws.sample(GRID, len(plan.sentences))
        if self.template and not self._paragraphs:
            depths = [draws.random() for _ in depths]
        if self.depths:
            depths[0] = self.depths[index % len(self.depths)]
        text = hay.insert(pieces, zip(depths, plan.sentences, strict=True))
        context = Context.of(plan.preface + text)
        answer = self._tok.count(plan.question) + self.max_answer_tokens
        yield self.pair(
            context,
            target,
            question=plan.question,
            gold=plan.gold,
            group=f"niah_{self.variant}",
            summed=used + plan.cost - answer,
            evidence=spans_of(context.text, plan.sentences[: len(plan.gold)]),
            knobs=self.noted(
                index, variant=self.variant, haystack=self._haystack, depth=round(depths[0], 4)
            ),
        )

    def _plan(self, draws: Draws) -> Plan:
        v = self._variant
        names = keys(v.key, draws)
        asked = [next(names) for _ in range(v.queries)]
        hidden = [(key, value(v.value, draws)) for key in asked for _ in range(v.values)]
        others = [(next(names), value(v.value, draws)) for _ in range(v.fillers)]
        sentences = tuple(sentence(v.value, *pair) for pair in [*hidden, *others])
        preface, question = "", question_text(v.value, asked, v.values)
        if self.template:
            preface, question = ruler_texts(self.template, v.value, asked, v.values)
        needles = sum(self._tok.count(f" {s}\n") for s in sentences)
        return Plan(
            preface=preface,
            question=question,
            gold=tuple(val for _, val in hidden),
            sentences=sentences,
            used_keys=frozenset(key for key, _ in [*hidden, *others]),
            cost=self._tok.count(preface + question) + needles + self.max_answer_tokens + 1,
        )

    def _fill(self, plan: Plan, budget: int, draws: Draws) -> tuple[list[str], int]:
        if self._haystack == "noise":
            noise = [hay.RULER_NOISE] if self.template else hay.NOISE
            return fill(cycle(noise), self._count, budget)
        if self._paragraphs:
            in_order = cycle(self._in_order) if self.template else None
            pieces = in_order or hay.prose_pieces(self._paragraphs, draws)
            return fill(pieces, self._tok.count, budget)
        v = self._variant  # lines of needles with other keys
        names = (key for key in keys(v.key, draws) if key not in plan.used_keys)
        stream = (sentence(v.value, name, value(v.value, draws)) + "\n" for name in names)
        return fill(stream, self._tok.count, budget)
