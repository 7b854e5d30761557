"""Words to make keys from, and made-up names that occur in no training data."""

# ruff: noqa: SIM905  (word lists read better as text)
from __future__ import annotations

from collections.abc import Iterator

from .draws import Draws

ADJECTIVES = tuple(
    """
    amber ample ancient arched bitter blank bold brave brief bright broad bronze calm careful cheap
    civil clean clever cloudy coarse copper cosy crisp curious curly daring deep dense dim distant
    dry dull dusty eager early elastic empty even faint famous fancy fertile fierce flat fluent
    fragile frank fresh frosty gentle glossy golden grand grave handy hasty hidden hollow honest
    humble idle jolly keen lively lonely loud loyal lucky marble mellow mild modern modest narrow
    neat nimble noble odd olive pale patient plain polite proud purple quick quiet rapid rare
    restless ripe rough rural rusty salty scarlet secret sharp shiny shy silent silver simple sleepy
    slender smooth sober solid spare square steady steep stern stout subtle sudden sunny swift tall
    tender thick timid tiny tough vague vast velvet vivid warm weary wide wild wise witty woolly
    """.split()
)

NOUNS = tuple(
    """
    acorn anchor anvil apron arrow atlas attic axle badge bagel banjo barn barrel basin basket
    beacon bell bench berry blanket bonnet bottle boulder bracket bridge broom bucket buckle
    button cabin cable camera candle canoe canvas carpet castle cedar cellar chapel chimney
    circus clarinet cliff clock cobbler comet compass cottage cradle crane crater crayon curtain
    cushion dagger desert diary dolphin dome donkey drawer drum easel elbow engine falcon
    feather fiddle fjord flute forest fountain funnel galaxy garden garlic gate geyser glacier
    goblet granite guitar hammer hammock harbor harvest hedge helmet heron hinge island jacket
    jigsaw kettle kitten ladder lagoon lantern lemon lever lizard locket magnet mango meadow
    mirror mitten monsoon museum napkin needle nettle oasis orchard otter oyster paddle pagoda
    parcel parrot pebble pencil pepper piano pigeon pillow planet plaza pocket prairie puddle
    pulley pumpkin quarry quilt radish raven ribbon river rocket
    """.split()
)

ONSETS = "b br c cl d dr f fl g gr h j k kr l m n p pl qu r s sk st t tr v w y z".split()
VOWELS = "a e i o u ae ei io oa".split()
CODAS = "l n r s m nd rn th lt x sk rk d v".split()


def made_up_names(draws: Draws) -> Iterator[str]:
    """Distinct capitalised names of two or three syllables, such as ``Troaneith``; longer ones when
    those run out, so the stream doesn't end."""
    seen: set[str] = set()
    misses = 0
    syllables = 2
    while True:
        opening = "".join(draws.choice(ONSETS) + draws.choice(VOWELS) for _ in range(syllables - 1))
        name = (opening + draws.choice(ONSETS) + draws.choice(VOWELS) + draws.choice(CODAS)).title()
        if name in seen:
            misses += 1
            if misses > len(seen):
                syllables, misses = syllables + 1, 0
            continue
        seen.add(name)
        yield name
