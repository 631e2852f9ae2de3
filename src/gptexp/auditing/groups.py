"""Count which groups of people texts mention, and which words stand near one group rather than near the others."""

from collections import Counter
from dataclasses import dataclass, field
from math import log, sqrt
from typing import NamedTuple

from gptexp.auditing.examples import ExampleCounter
from gptexp.auditing.languages import stop_words
from gptexp.auditing.word_lists import ANY_LANGUAGE, GroupSets, Occurrence, Tokens, WordMatcher

WINDOW = 10  # words on either side of a mention
PRIOR_SHARE, MAX_PRIOR_WORDS = 0.1, 1000  # weight of the prior, in words
MIN_Z, MIN_COUNT, MAX_WORDS = 2.5, 3, 8


class NearWord(NamedTuple):
    """A word that stands near one group more often than near the others of its set."""

    word: str
    times: int  # near this group
    z: float


@dataclass
class GroupCounts:
    """Mentions of one group, and the words near them."""

    examples: ExampleCounter = field(default_factory=ExampleCounter)
    mentions: int = 0
    near: Counter[str] = field(default_factory=Counter)
    near_lists: Counter[str] = field(default_factory=Counter)  # list of terms -> mentions near one


class GroupCounter:
    """Counts sets of groups over examples. Words of a language count in texts of that language only."""

    def __init__(self, sets: GroupSets) -> None:
        self.counts = {
            name: {group: GroupCounts() for group in groups} for name, groups in sets.items()
        }
        languages = {
            language for groups in sets.values() for words in groups.values() for language in words
        }
        self._matchers = {
            language: WordMatcher(
                {
                    f"{name}\n{group}": [*words.get(language, ()), *words.get(ANY_LANGUAGE, ())]
                    for name, groups in sets.items()
                    for group, words in groups.items()
                }
            )
            for language in languages | {ANY_LANGUAGE}
        }
        stop = stop_words()
        self._ignored = {code: set(stop.get(code, ())) for code in stop}

    def add(
        self, tokens: Tokens, row: int, split: str, language: str, terms: list[Occurrence]
    ) -> None:
        """Count a text of example `row`. `terms` are the occurrences of the user's terms in it."""
        matcher = self._matchers.get(language, self._matchers[ANY_LANGUAGE])
        mentions = matcher.find(tokens)
        if not mentions:
            return
        words = tokens.words
        ignored = self._ignored.get(language, set())
        own = {index for mention in mentions for index in range(mention.first, mention.last + 1)}
        for mention in mentions:
            group = self._group(mention.name)
            group.mentions += 1
            group.examples.add(row, split)
            start, end = max(0, mention.first - WINDOW), mention.last + WINDOW + 1
            group.near.update(
                words[index]
                for index in range(start, min(end, len(words)))
                if index not in own and words[index] not in ignored and words[index].isalpha()
            )
            group.near_lists.update(
                {term.name for term in terms if start <= term.first and term.last < end}
            )

    def near_words(self, set_name: str, group: str) -> list[NearWord]:
        """Return the words that are nearer to a group than to the others, by their log-odds ratio.

        The ratio has an informative Dirichlet prior, the counts of the whole set (Monroe, Colaresi and Quinn 2008,
        "Fightin' Words"); z is the ratio over its standard error.
        """
        groups = self.counts[set_name]
        own = groups[group].near
        total: Counter[str] = Counter()
        for counts in groups.values():
            total.update(counts.near)
        size, own_size = total.total(), own.total()
        weight = min(MAX_PRIOR_WORDS, PRIOR_SHARE * size)
        scored = []
        for word, count in own.items():
            prior = weight * total[word] / size
            rest, rest_size = total[word] - count, size - own_size
            odds = (count + prior) / (own_size + weight - count - prior)
            other_odds = (rest + prior) / (rest_size + weight - rest - prior)
            z = (log(odds) - log(other_odds)) / sqrt(1 / (count + prior) + 1 / (rest + prior))
            if z >= MIN_Z and count >= MIN_COUNT:
                scored.append(NearWord(word, count, z))
        return sorted(scored, key=lambda near: -near.z)[:MAX_WORDS]

    def _group(self, label: str) -> GroupCounts:
        name, _, group = label.partition("\n")
        return self.counts[name][group]
