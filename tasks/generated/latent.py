"""latent_needle: a needle that has no word in common with the question.

One person lives by a landmark; the question asks who lives in that landmark's country. Three more
persons live by landmarks of other countries, so the sentence can't be found by being odd alone: the
landmark must be known. Our own, in the manner of NoLiMa (Modarressi et al. 2025), with our own
landmarks and wordings. Score: ``strict_answer``, 1 where the answer names the person and nobody
else; exact match and F1 after SQuAD's normalisation stand beside it. The prose (that of
``needle``; no sentence occurs twice) is of English and American people, so neither country is asked
for, and sentences that name one of the others, its people or a city of it are left out.

Known shortcuts: code finds the four sentences by their made-up names and has one chance in four
(``code_oracle`` takes the first).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rlm_eval.records import Context

from ..draws import Draws
from ..sizing import fill_new, spans_of
from ..task import Generated, Pair
from . import haystack as hay
from .needle import GRID

DECOYS = 3

#: Countries with a landmark whose name doesn't hold the country's, and how words about the country,
#: its people and its cities begin.
ROWS = [line.split("\t") for line in (hay.ITEMS / "landmarks.tsv").read_text("utf-8").splitlines()]
LANDMARKS = {country: landmark for country, landmark, _ in ROWS[1:]}
COUNTRIES = re.compile("|".join(words for _, _, words in ROWS[1:]))

WORDINGS = (
    "From the kitchen window of {name} one looks straight at the {landmark}.",
    "On Sundays {name} sweeps the front steps, which face the {landmark}.",
    "The rent went up again for {name}, because the flat is so close to the {landmark}.",
    "At night the floodlights of the {landmark} keep {name} awake in bed.",
)
QUESTION = "One of the persons in the text must live in {country}. Who? Answer with the name alone."


NAME = re.compile("|".join(w.format(name=r"(\w+)", landmark=".+?") for w in WORDINGS))


@dataclass(kw_only=True, eq=False)
class LatentNeedle(Generated):
    haystack_file: str | None = None

    name, scorer = "latent_needle", "strict_answer"
    max_answer_tokens = 32

    def prepare(self) -> None:
        self._paragraphs = hay.prose(self.haystack_file)

    def shortest(self) -> int:
        return self.max_answer_tokens + 100 + (DECOYS + 1) * 50

    def longest(self) -> int:
        """A twentieth of the prose is more than what is left out of it."""
        return hay.longest(self._paragraphs, self.lengths, self._tok, used=0.95)

    def code_oracle(self, question: str, context: Context) -> str | None:
        found = NAME.search(context.text)
        return next((name for name in found.groups() if name), None) if found else None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, purpose, self.seed, target, index)
        countries = draws.sample(tuple(LANDMARKS), DECOYS + 1)
        people = [name for name, _ in zip(hay.made_up_names(draws), countries, strict=False)]
        needles = [
            draws.choice(WORDINGS).format(name=name, landmark=LANDMARKS[country])
            for name, country in zip(people, countries, strict=True)
        ]
        question = QUESTION.format(country=countries[0])
        hidden = sum(self._tok.count(f" {needle}\n") for needle in needles)
        budget = target - hidden - self._tok.count(question) - self.max_answer_tokens
        prose = hay.prose_pieces(self._paragraphs, draws, COUNTRIES)
        pieces, used = fill_new(prose, self._tok, budget)
        depths = draws.sample(GRID, len(needles))
        context = Context.of(hay.insert(pieces, zip(depths, needles, strict=True)))
        yield self.pair(
            context,
            target,
            question=question,
            gold=(people[0],),
            summed=used + hidden,
            evidence=spans_of(context.text, needles[:1]),
            knobs=self.noted(index, country=countries[0], depth=round(depths[0], 4)),
        )
