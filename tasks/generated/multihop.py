"""multihop: variable tracking, RULER's vt; ``variant=semantic`` is
:mod:`rlm_eval.tasks.generated.chains`.

Lines such as ``VAR KQWDA = 48210`` and ``VAR PLMEX = VAR KQWDA`` are scattered in order through
noise; the question gives the number and asks for every variable that has it, through all hops.
Source: RULER (Hsieh et al. 2024), task vt; 30 answer tokens. Score: ``strict_match``, the variables
named less wrong ones, in an answer and no more; RULER's ``string_match_all`` is ``score_official``.

Not as in RULER: the noise sentences and the question's wording, no worked example in the prompt,
statements are on lines of their own.

Known shortcuts: the statements have one fixed form, so a few lines of code solve it
(``code_oracle``: 100 %; best constant: 0); with one chain the list of all variables is the answer.
``chains`` above 1 adds chains that lead to other numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_uppercase

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context

from ..draws import Draws
from ..sizing import at_least, one_of, spans_of
from ..task import Generated, Pair
from . import haystack as hay
from .chains import SemanticChain

STATEMENT = re.compile(r"^VAR ([A-Z]{5}) = (?:VAR ([A-Z]{5})|(\d+))$", re.MULTILINE)
#: RULER's even grid of 40 depths would put long chains on one spot: statements are placed freely,
#: this many at most.
MOST_STATEMENTS = 1000


def multihop(
    *,
    lengths: Sequence[int],
    n: int,
    variant: str = "vt",
    hops: int | None = None,
    chains: int = 1,
    seed: int = 0,
    tokenizer: str = "cl100k_base",
) -> VariableTracking | SemanticChain:
    """The task of that variant. ``hops``: null takes the variant's own, 4 (vt) or 2 (semantic)."""
    one_of("variant", variant, ("vt", "semantic"))
    if variant == "vt":
        return VariableTracking(
            lengths=lengths,
            n=n,
            hops=4 if hops is None else hops,
            chains=chains,
            seed=seed,
            tokenizer=tokenizer,
        )
    hops = 2 if hops is None else hops
    return SemanticChain(lengths=lengths, n=n, hops=hops, seed=seed, tokenizer=tokenizer)


@dataclass(kw_only=True, eq=False)
class VariableTracking(Generated):
    hops: int = 4
    chains: int = 1

    name = "multihop"

    def prepare(self) -> None:
        at_least(1, hops=self.hops, chains=self.chains)
        if self.chains * (self.hops + 1) > MOST_STATEMENTS:
            raise ConfigError(f"× (hops + 1) may be {MOST_STATEMENTS} at most", key="chains")
        self._line = "".join(hay.NOISE)
        self._line_tokens = self._tok.count(self._line)
        self.max_answer_tokens = max(30, 6 * (self.hops + 1))

    def shortest(self) -> int:
        """Room for the statements, were every letter a token, and for as many lines of noise."""
        statements = self.chains * (self.hops + 1)
        each = self._tok.count("VAR  = VAR \n") + 10 + self._line_tokens
        return statements * each + self._tok.count(self._question(99_999)) + self.max_answer_tokens

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = re.search(r"the value (\d+)\?", question)
        if asked is None:
            return None
        values: dict[str, str] = {}
        for name, source, number in STATEMENT.findall(context.text):
            values[name] = number or values.get(source, "")
        return ", ".join(name for name, held in values.items() if held == asked[1]) or None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, "vt", purpose, self.hops, self.chains, self.seed, target, index)
        names = draws.distinct(
            self.chains * (self.hops + 1),
            lambda: "".join(draws.choice(ascii_uppercase) for _ in range(5)),
        )
        numbers = draws.distinct(self.chains, lambda: draws.between(10_000, 99_999))
        groups = [names[i :: self.chains] for i in range(self.chains)]
        chains = [
            [f"VAR {group[0]} = {number}", *(f"VAR {b} = VAR {a}" for a, b in pairwise(group))]
            for group, number in zip(groups, numbers, strict=True)
        ]
        turns = [i for i, chain in enumerate(chains) for _ in chain]
        draws.shuffle(turns)
        heads = [iter(chain) for chain in chains]
        statements = [next(heads[i]) for i in turns]  # each chain's in its order
        question = self._question(numbers[0])
        stated = sum(self._tok.count(f"{statement}\n") for statement in statements)
        reserve = stated + self._tok.count(question) + self.max_answer_tokens
        depths = sorted(draws.random() for _ in statements)
        pieces = [self._line] * ((target - reserve) // self._line_tokens)
        context = Context.of(hay.insert(pieces, zip(depths, statements, strict=True)))
        yield self.pair(
            context,
            target,
            question=question,
            gold=tuple(groups[0]),
            group="vt",
            summed=stated + len(pieces) * self._line_tokens,
            evidence=spans_of(context.text, chains[0]),
            knobs={
                "variant": "vt",
                "hops": self.hops,
                "chains": self.chains,
                "index": index,
                "seed": self.seed,
            },
        )

    def _question(self, number: int) -> str:
        return (
            "Some lines of the text assign variables: 'VAR X = 123' gives X the value 123, and"
            " 'VAR Y = VAR X' gives Y the value of X. Which variables have, directly or through"
            f" others, the value {number}? There are {self.hops + 1}. Answer with their names"
            " alone, separated by commas."
        )
