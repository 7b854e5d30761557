"""multihop: variable tracking, RULER's vt; ``variant=semantic`` is
:mod:`rlm_eval.tasks.generated.chains`.

Statements such as ``VAR KQWDA = 48210.`` and ``VAR PLMEX = VAR KQWDA.`` are scattered in order
through ``needle``'s prose, in which no sentence occurs twice (``haystack=noise`` repeats five); the
question gives the number and asks for every variable that has it, through all hops. Source: RULER
(Hsieh et al. 2024), task vt; 30 answer tokens. Score: ``strict_match``, the variables named less
wrong ones, in an answer and no more; RULER's ``string_match_all`` is ``score_official``.

``task=ruler_vt`` (a ``template``) is RULER's own: its noise, preface and before it a worked example
(500 tokens of the same task, three-letter names), which begin the context, question and answer
prefix, ``string_match_all``. What stays different: prompts other than ``experiment=ruler``'s say
more after the prefix, that one ends in no space; statements are placed freely and end in no space,
every sample has an example and a seed of its own, and each is filled to its target.

Known shortcuts: the statements have one fixed form, so a few lines of code solve it
(``code_oracle``: 100 %; best constant: 0). With one chain, as in RULER, the list of all variables
is the answer; here a second one leads to another number (``chains``). In noise the statements are
the only sentences that occur once, by RULER's construction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from string import ascii_uppercase
from typing import Any

from rlm_eval.errors import at_least
from rlm_eval.records import Context

from ..draws import Draws
from ..task import LONGEST, Generated, Pair, fill, one_of, spans_of
from . import haystack as hay
from .chains import SemanticChain

STATEMENT = re.compile(r"\bVAR ([A-Z]{5}) = (?:VAR ([A-Z]{5})|(\d+))\b")
EXAMPLE_TOKENS = 500


def multihop(
    *,
    lengths: Sequence[int],
    n: int,
    variant: str = "vt",
    hops: int | None = None,
    chains: int = 2,
    haystack: str = "essay",
    template: Sequence[str] | None = None,
    seed: int = 0,
    tokenizer: str = "cl100k_base",
) -> VariableTracking | SemanticChain:
    """The task of that variant. ``hops``: null takes the variant's own, 4 (vt) or 2 (semantic)."""
    one_of("variant", variant, ("vt", "semantic"))
    usual = 4 if variant == "vt" else 2
    settings: dict[str, Any] = {"lengths": lengths, "n": n, "seed": seed, "tokenizer": tokenizer}
    settings["hops"] = usual if hops is None else hops
    if variant == "semantic":
        return SemanticChain(**settings)
    return VariableTracking(chains=chains, haystack=haystack, template=template, **settings)


@dataclass(kw_only=True, eq=False)
class VariableTracking(Generated):
    hops: int = 4
    chains: int = 2
    haystack: str = "essay"
    template: Sequence[str] | None = None

    name = "multihop"

    def prepare(self) -> None:
        # Names and numbers are drawn until all differ: there are enough for so many.
        at_least(1, up_to=1000, hops=self.hops, chains=self.chains)
        one_of("haystack", self.haystack, ("essay", "noise"))
        self._paragraphs = hay.prose() if self.haystack == "essay" else ()
        self._line = hay.RULER_NOISE if self.template else "".join(hay.NOISE)
        self._line_tokens = self._tok.count(self._line)
        if self.template:
            self.name, self.scorer = "ruler_vt", "string_match_all"
        self.max_answer_tokens = max(30, 6 * (self.hops + 1))

    def shortest(self) -> int:
        """Room for the statements, were every letter a token, and for as many lines of noise."""
        statements = self.chains * (self.hops + 1)
        each = self._tok.count("VAR  = VAR .\n") + 10 + self._line_tokens
        asked = self._tok.count(self._question(99_999)) + self.max_answer_tokens
        return statements * each + asked + bool(self.template) * (EXAMPLE_TOKENS + 50)

    def longest(self) -> int:
        if not self._paragraphs:
            return LONGEST
        return hay.longest(self._paragraphs, self.lengths, self._tok)

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = re.findall(r"the value (\d+)", question)
        if not asked:
            return None
        values: dict[str, str] = {}
        for name, source, number in STATEMENT.findall(context.text):
            values[name] = number or values.get(source, "")
        return ", ".join(name for name, held in values.items() if held == asked[-1]) or None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, "vt", purpose, self.hops, self.chains, self.seed, target, index)
        names = _names(self.chains * (self.hops + 1), 5, draws)
        numbers = draws.distinct(self.chains, lambda: draws.between(10_000, 99_999))
        groups = [names[i :: self.chains] for i in range(self.chains)]
        stop = "." * bool(self._paragraphs)
        chains = [_chain(*named, stop) for named in zip(groups, numbers, strict=True)]
        turns = [i for i, chain in enumerate(chains) for _ in chain]
        draws.shuffle(turns)
        heads = [iter(chain) for chain in chains]
        statements = [next(heads[i]) for i in turns]  # each chain's in its order
        question = self._question(numbers[0])
        preface = self._example(draws) if self.template else ""
        stated = sum(self._tok.count(f" {statement}\n") for statement in statements)
        stated += self._tok.count(preface)
        budget = target - stated - self._tok.count(question) - self.max_answer_tokens
        depths = sorted(draws.random() for _ in statements)
        if self._paragraphs:
            pieces, used = fill(hay.prose_pieces(self._paragraphs, draws), self._tok.count, budget)
        else:
            pieces, used = fill(repeat(self._line), self._count, budget)
        context = Context.of(preface + hay.insert(pieces, zip(depths, statements, strict=True)))
        yield self.pair(
            context,
            target,
            question=question,
            gold=tuple(groups[0]),
            group="vt",
            summed=stated + used,
            evidence=spans_of(context.text, chains[0]),
            knobs=self.noted(index, variant="vt", hops=self.hops, chains=self.chains),
        )

    def _example(self, draws: Draws) -> str:
        """RULER's worked example (text, question, answer) and what comes before the text."""
        names, number = _names(self.hops + 1, 3, draws), draws.between(10_000, 99_999)
        chain = _chain(names, number)
        before, asked = self._texts(number)
        used = self._tok.count(before + asked + "\n".join(chain))
        pieces = [self._line] * max(len(chain), (EXAMPLE_TOKENS - used) // self._line_tokens)
        depths = sorted(draws.random() for _ in chain)
        text = hay.insert(pieces, zip(depths, chain, strict=True))
        return f"{before}{text}\n{asked} {' '.join(names)}\n\n{before}"

    def _texts(self, number: int) -> tuple[str, str]:
        return hay.filled(self.template or (), number=number, count=self.hops + 1)

    def _question(self, number: int) -> str:
        if self.template:
            return self._texts(number)[1]
        return (
            "Some sentences of the text assign variables: 'VAR X = 123' gives X the value 123, and"
            " 'VAR Y = VAR X' gives Y the value of X. Which variables have, directly or through"
            f" others, the value {number}? There are {self.hops + 1}. Answer with their names"
            " alone, separated by commas."
        )


def _names(count: int, letters: int, draws: Draws) -> list[str]:
    letter = range(letters)
    return draws.distinct(count, lambda: "".join(draws.choice(ascii_uppercase) for _ in letter))


def _chain(names: Sequence[str], number: int, stop: str = "") -> list[str]:
    """The statements that give the first name a number and each other name its neighbour's."""
    hops = (f"VAR {b} = VAR {a}{stop}" for a, b in pairwise(names))
    return [f"VAR {names[0]} = {number}{stop}", *hops]
