"""Texts that can only be predicted by copying what stands before: small models learn it late from prose alone."""

import random
from collections import Counter
from collections.abc import Callable

Record = dict[str, str]

SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvxz" for vowel in "aeiou"]
VOCABULARY = 12_000  # most frequent words, and names, that the texts use
SENTENCE_WORDS = range(6, 31)
MIN_SENTENCES = 10
LISTS = (", ", " ", "; ", "\n")
PAIRS = ("{}: {}", "{} = {}", "{} is {}", "{} -> {}", "the {} has the value {}")
STATEMENTS = (
    "{} calls {}.",
    "{} is a part of {}.",
    "The result of {} goes to {}.",
    "{} comes before {}.",
)


class CopyingTexts:
    """Makes records of copying, from words, names and passages that it learns from texts, and from made-up words."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        self.word_counts: Counter[str] = Counter()
        self.name_counts: Counter[str] = Counter()
        self.passages: list[str] = []
        self.words: list[str] = []
        self.names: list[str] = []
        self.makers: list[Callable[[], Record]] = [
            *(self._repetition, self._repetition, self._names_again),
            *(self._repeat, self._reverse, self._sort, self._look_up, self._fill_gap, self._follow),
            *(self._replace, self._select),
        ]

    def learn(self, text: str) -> None:
        """Count the words and names of a text, and remember a passage of it."""
        words = text.split()
        self.word_counts.update(w for w in words if w.isalpha() and w.islower() and len(w) > 2)
        self.name_counts.update(
            w for w in words if w.isidentifier() and ("_" in w[1:] or w[1:].lower() != w[1:])
        )
        length = self.random.choice(SENTENCE_WORDS)
        start = self.random.randrange(max(1, len(words) - length))
        passage = words[start : start + length]
        if len(passage) in SENTENCE_WORDS:
            self.passages.append(" ".join(passage))

    @property
    def can_make_records(self) -> bool:
        return bool(self.word_counts and self.name_counts and len(self.passages) >= MIN_SENTENCES)

    def make(self) -> Record:
        """Return a record of a kind that is drawn."""
        if not self.words:
            self.words, self.names = (
                [word for word, _ in counts.most_common(VOCABULARY)]
                for counts in (self.word_counts, self.name_counts)
            )
        return self.random.choice(self.makers)()

    def _items(self, low: int, high: int) -> list[str]:
        """Return different words of one kind, or of all kinds."""
        kinds = (
            self._word,
            self._word,
            self._name,
            self._name,
            self._made_up,
            self._number,
            self._any,
        )
        make = self.random.choice(kinds)
        items = dict.fromkeys(make() for _ in range(self.random.randint(low, high)))
        return list(items)

    def _word(self) -> str:
        return self.random.choice(self.words)

    def _name(self) -> str:
        return self.random.choice(self.names)

    def _number(self) -> str:
        return str(self.random.randrange(10 ** self.random.randint(1, 6)))

    def _made_up(self) -> str:
        word = "".join(self.random.choices(SYLLABLES, k=self.random.randint(2, 4)))
        return self.random.choice([word, word, word.capitalize(), f"{word}_{self._word()}"])

    def _any(self) -> str:
        return self.random.choice([self._word, self._name, self._made_up, self._number])()

    def _passage(self) -> str:
        return self.random.choice(self.passages)

    def _task(self, answer: str, templates: tuple[str, ...], **values: str) -> Record:
        return {"text": self.random.choice(templates).format(**values), "answer": answer}

    def _repetition(self) -> Record:
        """Return a list, or passages, that come again in the same order."""
        text = " ".join(self._items(8, 60))
        if self.random.random() < 0.3:
            text = " ".join(self.random.sample(self.passages, self.random.randint(1, 3)))
        between = self.random.choice(["\n", " ", "\n\n", f"\n{self._word()}\n"])
        return {"text": between.join([text] * self.random.randint(2, 3))}

    def _names_again(self) -> Record:
        """Return names that come again in statements, in another order."""
        names = self._items(3, 8)
        lines = [f"Names: {', '.join(names)}."]
        for _ in range(self.random.randint(3, 10)):
            pair = (self.random.choice(names), self.random.choice(names))
            lines.append(self.random.choice(STATEMENTS).format(*pair))
        return {"text": " ".join(lines)}

    def _repeat(self) -> Record:
        items = self.random.choice(LISTS).join(self._items(3, 30))
        text = self.random.choice([items, self._passage()])
        templates = ("Repeat the text.\n{text}", "Copy this:\n{text}", "{text}\nSay it again.")
        return self._task(text, templates, text=text)

    def _reverse(self) -> Record:
        items = self._items(2, 12)
        templates = (
            "Reverse the list.\n{text}",
            "Write the items in reverse order.\n{text}",
            "{text}\nFrom last to first:",
        )
        return self._task(", ".join(reversed(items)), templates, text=", ".join(items))

    def _sort(self) -> Record:
        items = self._items(2, 10)
        templates = ("Sort the words.\n{text}", "Write the items in alphabetical order.\n{text}")
        return self._task(", ".join(sorted(items)), templates, text=", ".join(items))

    def _look_up(self) -> Record:
        keys = self._items(2, 12)
        values = [self._any() for _ in keys]
        form = self.random.choice(PAIRS)
        text = "\n".join(form.format(key, value) for key, value in zip(keys, values, strict=True))
        place = self.random.randrange(len(keys))
        templates = (
            "Look up {key}.\n{text}",
            "{text}\nThe value of {key}?",
            "Which value has {key}?\n{text}",
        )
        return self._task(values[place], templates, text=text, key=keys[place])

    def _fill_gap(self) -> Record:
        words = self._passage().split()
        answer = self.random.choice([word for word in words if len(word) > 4] or words)
        text = " ".join("___" if word == answer else word for word in words)
        templates = (
            "Fill the gap in the second text.\n{full}\n{text}",
            "{full}\n{text}\nThe missing word:",
        )
        return self._task(answer, templates, full=" ".join(words), text=text)

    def _follow(self) -> Record:
        items = [*self._items(4, 20), self._made_up()]
        place = self.random.randrange(len(items) - 1)
        templates = ("Which item follows {item}?\n{text}", "{text}\nThe item after {item}:")
        text = self.random.choice(LISTS).join(items)
        return self._task(items[place + 1], templates, item=items[place], text=text)

    def _replace(self) -> Record:
        text = self._passage()
        words = text.split()
        old = self.random.choice([word for word in words if len(word) > 3] or words)
        new = self._any()
        templates = ("Replace {old} by {new}.\n{text}", "Write {new} instead of {old}.\n{text}")
        answer = " ".join(new if word == old else word for word in words)
        return self._task(answer, templates, old=old, new=new, text=text)

    def _select(self) -> Record:
        items = self._items(5, 20)
        letter = self.random.choice(items)[0]
        templates = (
            "Which of the words begin with {letter}?\n{text}",
            "List the items that start with {letter}.\n{text}",
        )
        answer = ", ".join(item for item in items if item.startswith(letter))
        return self._task(answer, templates, letter=letter, text=", ".join(items))
