"""turns: repeat the n-th of several alike replies in a long conversation.

A conversation of requests (``Write a riddle about: otter.``) and replies of up to three sentences;
one request comes ``needles`` times, each time with another reply, and one of those replies is asked
for word for word after a random prefix. Our own, in the manner of MRCR (Vodrahalli et al. 2024),
with its rule, strict as it is: 0 without the prefix, else the SequenceMatcher ratio; with text
before the prefix ``score_anywhere``.

Not as in MRCR: replies are sentences of public-domain prose (items/prose.md) and don't fit their
requests, so nothing but order and wording tells them apart. No sentence occurs twice.

Known shortcut: code that splits the text into turns and counts solves it (``code_oracle``:
100 %).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from rlm_eval.errors import at_least
from rlm_eval.records import Context

from ..draws import Draws
from ..sizing import fill_new, spans_of
from ..task import Generated, Pair
from .haystack import NOUNS, longest, prose, prose_pieces

KINDS = ("riddle", "poem", "limerick", "fable", "speech", "letter", "toast", "lullaby")
SENTENCES = 3
#: Of a reply, so that it fits the room for the answer.
MOST_CHARS = 600
MOST_NEEDLES = 20

ASKED = re.compile(r"reply number (\d+) to '(.+?)'.*right after the characters (\w{8})", re.DOTALL)


@dataclass(kw_only=True, eq=False)
class Turns(Generated):
    needles: int = 4

    name, scorer = "turns", "mrcr"
    max_answer_tokens = 192
    constant_answers = ("",)  # the prefix differs from sample to sample

    def prepare(self) -> None:
        at_least(2, up_to=MOST_NEEDLES, needles=self.needles)
        self._paragraphs = prose()

    def shortest(self) -> int:
        turn = self.max_answer_tokens + 30
        return self.max_answer_tokens + 140 + (self.needles + 2) * turn

    def longest(self) -> int:
        return longest(self._paragraphs, self.lengths, self._tok)

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = ASKED.search(question)
        if asked is None:
            return None
        replies = (
            asked[3] + reply.removeprefix("Assistant: ")
            for request, reply in pairwise(context.text.split("\n"))
            if request == f"User: {asked[2]}"
        )
        return next(islice(replies, int(asked[1]) - 1, None), None)

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
        replies = _replies(prose_pieces(self._paragraphs, draws))
        needles = [_turn(wanted, reply) for reply in islice(replies, self.needles)]
        hidden = sum(map(self._tok.count, needles))
        stream = (_turn(draws.choice(others), reply) for reply in replies)
        turns, used = fill_new(stream, self._tok, budget - hidden)
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
            knobs=self.noted(index, needles=self.needles, wanted=place + 1, n_turns=len(turns)),
        )


def _replies(sentences: Iterable[str]) -> Iterator[str]:
    """The sentences in their order, three or fewer a reply."""
    reply: list[str] = []
    for sentence in map(str.strip, sentences):
        full = len(reply) == SENTENCES or len(" ".join((*reply, sentence))) > MOST_CHARS
        if reply and full:
            yield " ".join(reply)
            reply = []
        reply.append(sentence)


def _turn(request: str, reply: str) -> str:
    """A request with a reply, as two lines."""
    return f"User: {request}\nAssistant: {reply}\n"
