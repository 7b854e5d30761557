"""latent_needle: a needle that has no word in common with the question.

One person lives by a landmark; the question asks who lives in that landmark's country. Three more
persons live by landmarks of other countries, so the sentence can't be found by being odd alone: the
landmark must be known. Our own, in the manner of NoLiMa (Modarressi et al. 2025), with our own
landmarks and wordings; scored by exact match after SQuAD's normalisation. The prose (that of
``needle``; no sentence occurs twice) is of English and American people, so neither country is asked
for, and sentences that name one of the others, its people or a city of it are left out.

Known shortcuts: code finds the four sentences by their made-up names and has one chance in four
(``code_oracle`` takes the first: 27 %).
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

#: Landmarks whose name doesn't hold the country's.
LANDMARKS = {
    "France": "Eiffel Tower",
    "Italy": "Colosseum",
    "Greece": "Acropolis",
    "Spain": "Alhambra",
    "Germany": "Brandenburg Gate",
    "Russia": "Kremlin",
    "India": "Taj Mahal",
    "Cambodia": "temples of Angkor Wat",
    "Jordan": "rock tombs of Petra",
    "Peru": "ruins of Machu Picchu",
    "Brazil": "Sugarloaf Mountain",
    "South Africa": "Table Mountain",
    "Egypt": "Sphinx of Giza",
    "Turkey": "Hagia Sophia",
    "Japan": "Fushimi Inari shrine",
    "China": "Forbidden City",
    "Indonesia": "Borobudur temple",
    "Malaysia": "Petronas Towers",
    "Australia": "Uluru rock",
    "Austria": "Schönbrunn Palace",
    "the Czech Republic": "Charles Bridge",
    "Belgium": "Atomium",
    "the Netherlands": "Rijksmuseum",
    "Denmark": "statue of the Little Mermaid",
    "Sweden": "Vasa Museum",
    "Iceland": "Hallgrímskirkja church",
    "Ireland": "Blarney Stone",
    "Portugal": "Tower of Belém",
    "Poland": "Wawel Castle",
    "Hungary": "Fisherman's Bastion",
    "Romania": "Bran Castle",
    "Bulgaria": "Rila Monastery",
    "Switzerland": "Chillon Castle",
    "Canada": "CN Tower",
    "Chile": "stone heads of Rapa Nui",
    "Argentina": "Casa Rosada",
    "South Korea": "Gyeongbokgung Palace",
    "Myanmar": "Shwedagon Pagoda",
    "Thailand": "Wat Arun",
    "Sri Lanka": "Sigiriya rock",
    "Nepal": "Boudhanath Stupa",
    "Morocco": "Hassan II Mosque",
}
WORDINGS = (
    "From the kitchen window of {name} one looks straight at the {landmark}.",
    "On Sundays {name} sweeps the front steps, which face the {landmark}.",
    "The rent went up again for {name}, because the flat is so close to the {landmark}.",
    "At night the floodlights of the {landmark} keep {name} awake in bed.",
)
#: In a sentence about one of these countries, at least of those that prose of this kind knows.
COUNTRIES = re.compile(
    r"\b(?:Fr(?:ance|ench)|Paris\b|Ital(?:y|ian)|Rom(?:e|an)\b|Naples|Venice|Gree(?:ce|k)|Spa(?:in|ni)"
    r"|Madrid|German|Prussia|Berlin|Russia|Petersburg|India\b|Ind(?:ies|ia)|Bengal|Calcutta|Cambodia"
    r"|Jordan|Peru|Lima\b|Bra[sz]il|Africa|Cape\b|Egypt|Turk(?:ey|ish)|Ottoman|Constantinople|Japan"
    r"|China|Chinese|Canton\b|Indonesia|Java\b|Malay|Austr(?:alia|ia)|Vienna|Bohemia|Czech|Belgi"
    r"|Brussels|Antwerp|Netherlands|Holland|Dutch|Denmark|Danish|Swed(?:en|ish)|Iceland|Ir(?:eland|ish)"
    r"|Dublin|Portug|Lisbon|Poland|Polish|Hungar|R[ou]+mania|Bulgaria|Swi(?:tz|ss)|Geneva|Canad|Quebec"
    r"|Chil[ei]|Argentin|Buenos|Korea|Myanmar|Burm|Thai|Siam|Ceylon|Sri Lanka|Nepal|Moroc)"
)

QUESTION = "One of the persons in the text must live in {country}. Who? Answer with the name alone."


NAME = re.compile("|".join(w.format(name=r"(\w+)", landmark=".+?") for w in WORDINGS))


@dataclass(kw_only=True, eq=False)
class LatentNeedle(Generated):
    haystack_file: str | None = None

    name, scorer = "latent_needle", "squad_em"
    max_answer_tokens = 32

    def prepare(self) -> None:
        self._paragraphs = hay.prose(self.haystack_file)

    def shortest(self) -> int:
        return self.max_answer_tokens + 100 + (DECOYS + 1) * 50

    def longest(self) -> int:
        """A tenth of the prose is more than what is left out of it."""
        return hay.longest(self._paragraphs, [n * 10 // 9 for n in self.lengths], self._tok)

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
            knobs={
                "country": countries[0],
                "depth": round(depths[0], 4),
                "index": index,
                "seed": self.seed,
            },
        )
