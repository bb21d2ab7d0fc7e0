"""The words that items of the world are written with: by topic, by language and by what is wrong with them."""

from __future__ import annotations

import numpy as np

TOPIC_NAMES = tuple("""
football basketball tennis cycling running swimming
cricket rugby golf skiing climbing surfing
python javascript databases cloud security opensource
ai robotics chips quantum space astronomy
physics biology chemistry medicine climate geology
cooking baking coffee wine vegan barbecue
travel hiking camping beaches trains aviation
movies television anime comics theatre documentaries
rock jazz hiphop classical techno country
gaming esports boardgames chess speedrunning roleplaying
fashion makeup sneakers jewellery tattoos hairstyles
fitness yoga nutrition sleep meditation therapy
stocks crypto realestate startups banking taxes
elections parliament diplomacy justice migration protest
novels poetry fantasy crime journalism libraries
painting photography sculpture architecture typography ceramics
dogs cats birds horses aquarium wildlife
gardening woodwork knitting sewing repairs minimalism
parenting weddings dating friendship grandparents school
cars motorcycles electric trucks racing classics
history archaeology mythology genealogy maps museums
economics trade energy farming logistics labour
memes comedy standup podcasts magic trivia
university mathematics languages philosophy teaching exams
london paris tokyo newyork berlin saopaulo
""".split())
"""150 topics in 25 communities of six; further ones, where more are asked for, are numbered."""

_ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io")
_ENDS = ("", "n", "r", "s", "l", "m", "x", "th")

COMMON = {
    "en": "the a this just really with about today new what my people think more when for still best first never",
    "es": "el la esto muy con sobre hoy nuevo que mi gente creo cuando para siempre mejor nunca todo pero hay",
    "pt": "o isto muito com sobre hoje novo que minha gente acho mais quando para sempre melhor nunca tudo mas tem",
    "fr": "le la cela tout avec sur nouveau que mon gens pense plus quand pour encore meilleur jamais mais très aussi",
    "de": "der die das ganz mit über heute neu was mein leute denke mehr wenn für immer beste nie aber auch",
}
SHARED_BY_HARM = {
    "toxicity": "idiot stupid pathetic trash losers hate disgusting shut clowns worthless",
    "nsfw": "nsfw nude explicit uncensored adult lewd xxx undressed onlyadults steamy",
    "spam": "free click win cash giveaway discount dm promo guaranteed limited",
    "misinformation": "hoax coverup rigged miracle cure exposed theydontwantyoutoknow faked secret truth",
}
WORDS_PER_TOPIC = 24


def topic_names(count: int) -> list[str]:
    """Names of the first `count` topics."""
    return [TOPIC_NAMES[t] if t < len(TOPIC_NAMES) else f"topic{t + 1}" for t in range(count)]


def topic_words(count: int) -> list[str]:
    """WORDS_PER_TOPIC words for each of `count` topics, flat: its name, then names one hears only there."""
    out = []
    for topic, name in enumerate(topic_names(count)):
        rng = np.random.Generator(np.random.SFC64(topic))
        words = [name]
        while len(words) < WORDS_PER_TOPIC:
            syllables = rng.integers(2, 4)
            word = "".join(
                _ONSETS[rng.integers(len(_ONSETS))] + _VOWELS[rng.integers(len(_VOWELS))] for _ in range(syllables)
            ) + _ENDS[rng.integers(len(_ENDS))]
            if word not in words:
                words.append(word)
        out.extend(words)
    return out
