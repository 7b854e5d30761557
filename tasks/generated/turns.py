"""turns: repeat the n-th of several alike replies in a long conversation.

A conversation of requests (``Write a riddle about an otter.``) and replies of three sentences; one
request comes ``needles`` times, each time with another reply, and one of those replies is asked for
word for word after a random prefix. Our own, in the manner of MRCR (Vodrahalli et al. 2024), with
its rule, strict as it is: 0 without the prefix, else the SequenceMatcher ratio; with text before
the prefix ``score_anywhere``.

Not as in MRCR: replies are sentences of the project's own essays and don't fit their requests, so
nothing but order and wording tells them apart.

Known shortcut: code that splits the text into turns and counts solves it (``code_oracle``:
100 %).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, repeat

from rlm_eval.records import Context

from ..draws import Draws
from ..sizing import at_least, at_most, fill, spans_of
from ..task import Generated, Pair
from .haystack import NOUNS, essays

KINDS = ("riddle", "poem", "limerick", "fable", "speech", "letter", "toast", "lullaby")
SENTENCES = 3
MOST_NEEDLES = 20

ASKED = re.compile(r"reply number (\d+) to '(.+?)'.*right after the characters (\w{8})", re.DOTALL)


@dataclass(kw_only=True, eq=False)
class Turns(Generated):
    needles: int = 4

    name, scorer = "turns", "mrcr"
    max_answer_tokens = 192
    constant_answers = ("",)  # the prefix differs from sample to sample

    def prepare(self) -> None:
        at_least(2, needles=self.needles)
        at_most(MOST_NEEDLES, needles=self.needles)
        sentences = (piece.strip() for paragraph in essays() for piece in paragraph)
        self._sentences = tuple(dict.fromkeys(sentences))

    def shortest(self) -> int:
        longest = max(self._tok.count(f" {sentence}") for sentence in self._sentences)
        turn = SENTENCES * longest + 30
        return self.max_answer_tokens + 140 + (self.needles + 2) * turn

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = ASKED.search(question)
        if asked is None:
            return None
        replies = [
            reply.removeprefix("Assistant: ")
            for request, reply in pairwise(context.text.split("\n"))
            if request == f"User: {asked[2]}"
        ]
        place = int(asked[1]) - 1
        return asked[3] + replies[place] if place < len(replies) else None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, purpose, self.needles, self.seed, target, index)
        requests = [f"Write a {kind} about: {noun}." for kind in KINDS for noun in NOUNS]
        wanted = draws.choice(requests)
        others = [request for request in requests if request != wanted]
        prefix = f"{draws.below(16**8):08x}"
        place = draws.below(self.needles)
        question = (
            f"The user makes the request '{wanted}' {self.needles} times. Repeat, word for word,"
            f" the assistant's reply number {place + 1} to '{wanted}' (the first is number 1),"
            f" right after the characters {prefix}. Start with {prefix} and write nothing else."
        )
        budget = target - self._tok.count(question) - self.max_answer_tokens
        needles = draws.distinct(self.needles, lambda: self._turn(wanted, draws))
        hidden = sum(map(self._tok.count, needles))
        stream = (self._turn(draws.choice(others), draws) for _ in repeat(None))
        turns, used = fill(stream, self._tok.count, budget - hidden)
        places = sorted(draws.below(len(turns) + 1) for _ in needles)
        for shift, (at, text) in enumerate(zip(places, needles, strict=True)):
            turns.insert(at + shift, text)
        context = Context.of("".join(turns).rstrip("\n"))
        needle = needles[place].rstrip("\n")
        reply = needle.partition("Assistant: ")[2]
        ((_, end),) = spans_of(context.text, [needle])
        yield self.pair(
            context,
            target,
            question=question,
            gold=(prefix + reply, prefix),
            group=f"{self.needles}needle",
            summed=hidden + used,
            evidence=((end - len(reply), end),),
            knobs={
                "needles": self.needles,
                "wanted": place + 1,
                "n_turns": len(turns),
                "index": index,
                "seed": self.seed,
            },
        )

    def _turn(self, request: str, draws: Draws) -> str:
        """A request with a reply, as two lines."""
        reply = " ".join(draws.sample_few(self._sentences, SENTENCES))
        return f"User: {request}\nAssistant: {reply}\n"
