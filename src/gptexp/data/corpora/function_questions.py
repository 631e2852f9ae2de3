"""Questions about a documented function, whose answers follow from its signature and its docstring.

Each question has its answer as a sentence, in few words and in German, and a wrong answer where there is one: the same
with a name, a number or a summary of another function.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from gptexp.data.corpora.documented_functions import Function
from gptexp.data.corpora.summaries import STOP_WORDS, content_words

MIN_WORD_LETTERS = 5  # of a word that a question is about
PLAIN_WORD = re.compile(r"\b[a-z]+\b")
NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
GERMAN_NUMBERS = "keine ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()  # noqa: SIM905
NO_ARGUMENTS = "no arguments"
ORDINALS = ("first", "second", "third", "fourth", "fifth")
ORDINALS_IN_GERMAN = ("erste", "zweite", "dritte", "vierte", "fünfte")


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    sentence: str  # the answer, as a sentence
    brief: str  # in few words
    german: str = ""  # in German; "": it is not asked for
    wrong: str = ""  # a wrong answer in few words; "": none is known
    next: "Question | None" = None  # that only makes sense behind this one


Ask = Callable[[Function, Function, random.Random], Question | None]


def ask_questions(
    function: Function, other: Function, rng: random.Random, count: int
) -> Iterator[Question]:
    """Yield up to `count` questions of different kinds, each perhaps followed by one that needs it.

    Args:
        other: another function, of which the wrong answers are.
    """
    possible = (ask(function, other, rng) for ask in _shuffle_kinds(rng))
    questions = (question for question in possible if question is not None)
    for number, question in enumerate(islice(questions, count)):
        is_question = question.text.endswith("?")
        if number and is_question and rng.random() < 0.6:
            text = f"And {question.text[0].lower()}{question.text[1:]}"
            question = replace(question, text=text)
        yield question
        if question.next and rng.random() < 0.4:
            yield question.next


def _shuffle_kinds(rng: random.Random) -> list[Ask]:
    """Return the kinds of questions in a random order, in which those of a large weight tend to come first."""
    keys = {ask: rng.random() ** (1 / weight) for ask, weight in KINDS.items()}
    return sorted(keys, key=lambda ask: -keys[ask])


def _summary(function: Function, other: Function, rng: random.Random) -> Question:
    text = rng.choice(
        (
            "What does it do?",
            "What is it for?",
            "Summarize it in one sentence.",
            "Summarize it.",
            "What does this function do?",
            "Say in one sentence what it does.",
        )
    )
    return Question("summary", text, function.summary, function.summary, wrong=other.summary)


def _arguments(function: Function, other: Function, rng: random.Random) -> Question:
    text = rng.choice(
        (
            "Which arguments does it take?",
            "What are its arguments?",
            "List its arguments.",
            "What can be passed to it?",
        )
    )
    wrong = ", ".join(other.arguments) if other.arguments != function.arguments else ""
    following = _count(function, other, rng)
    following = replace(following, text=rng.choice(("How many are they?", "How many are there?")))
    if not function.arguments:
        return Question(
            "arguments", text, "It takes no arguments.", NO_ARGUMENTS, "Es gibt keine.", wrong
        )
    return Question(
        "arguments",
        text,
        f"It takes {join_names(function.arguments, 'and')}.",
        ", ".join(function.arguments),
        f"Die Argumente sind {join_names(function.arguments, 'und')}.",
        wrong,
        following,
    )


def _count(function: Function, _: Function, rng: random.Random) -> Question:
    count = len(function.arguments)
    wrong = rng.choice([number for number in range(6) if number != count])
    plural = "" if count == 1 else "s"
    german = "ein Argument" if count == 1 else f"{GERMAN_NUMBERS[count]} Argumente"
    return Question(
        "count",
        rng.choice(("How many arguments does it take?", "How many arguments are there?")),
        f"It takes {NUMBERS[count]} argument{plural}.",
        NUMBERS[count] if count else NO_ARGUMENTS,
        f"Es sind {german}.",
        NUMBERS[wrong] if wrong else NO_ARGUMENTS,
    )


def _nth_argument(function: Function, other: Function, rng: random.Random) -> Question | None:
    most = min(len(function.arguments), len(ORDINALS))
    if not most:
        return None
    number = rng.randrange(most)
    question = _ask_for_argument(function, other, number)
    if number + 1 < most:
        following = _ask_for_argument(function, other, number + 1)
        following = replace(following, text=rng.choice(("And the next one?", "And after that?")))
        question = replace(question, next=following)
    return question


def _ask_for_argument(function: Function, other: Function, number: int) -> Question:
    name, ordinal = function.arguments[number], ORDINALS[number]
    strangers = [n for n in (*other.arguments, *function.arguments) if n != name]
    return Question(
        "argument",
        f"What is its {ordinal} argument?",
        f"Its {ordinal} argument is {name}.",
        name,
        f"Das {ORDINALS_IN_GERMAN[number]} Argument ist {name}.",
        strangers[0] if strangers else "",
    )


def _has_argument(function: Function, other: Function, rng: random.Random) -> Question | None:
    strangers = [name for name in other.arguments if name not in function.arguments]
    is_true = rng.random() < 0.5
    names = function.arguments if is_true else strangers
    if not names:
        return None
    name = rng.choice(names)
    text = rng.choice(
        (f"Does it take an argument named {name}?", f"Is {name} one of its arguments?")
    )
    if is_true:
        return Question(
            "yes_no", text, f"Yes, it takes {name}.", "yes", f"Ja, sie hat {name}.", "no"
        )
    return Question(
        "yes_no", text, f"No, it does not take {name}.", "no", f"Nein, {name} hat sie nicht.", "yes"
    )


def _returns(function: Function, other: Function, rng: random.Random) -> Question | None:
    text = rng.choice(
        ("What does it return?", "What is its return type?", "Which type is returned?")
    )
    returns = function.returns
    if not returns:
        if "return" in function.text.lower():  # the text may name the type
            return None
        return Question(
            "returns",
            text,
            "That is not documented.",
            "not documented",
            "Das ist nicht dokumentiert.",
            other.returns or "int",
        )
    wrong = other.returns if other.returns != returns else ""
    return Question(
        "returns", text, f"It returns {returns}.", returns, f"Sie gibt {returns} zurück.", wrong
    )


def _class(function: Function, other: Function, rng: random.Random) -> Question:
    text = rng.choice(("Which class does it belong to?", "What class is it in?"))
    wrong = other.class_name if other.class_name != function.class_name else ""
    if not function.class_name:
        return Question(
            "class", text, "It belongs to no class.", "no class", "Zu keiner Klasse.", wrong
        )
    name = function.class_name
    german = f"Sie gehört zur Klasse {name}."
    return Question("class", text, f"It is a method of {name}.", name, german, wrong)


def _name(function: Function, other: Function, rng: random.Random) -> Question:
    text = rng.choice(("What is it called?", "What is its name?", "What is the function called?"))
    name = function.name
    wrong = other.name if other.name != name else ""
    return Question("name", text, f"It is called {name}.", name, f"Sie heißt {name}.", wrong)


def _mentioned(function: Function, other: Function, rng: random.Random) -> Question | None:
    """Ask which of three words the documentation has."""
    own, strange = _plain_words(function.text), _plain_words(other.text)
    known = content_words(function.documentation)
    strange = [word for word in strange if not content_words(word) & known]
    if not own or len(strange) < 2:
        return None
    word = rng.choice(own)
    options = [word, *rng.sample(strange, 2)]
    rng.shuffle(options)
    text = f"Which of these does it mention: {join_names(options, 'or')}?"
    wrong = next(option for option in options if option != word)
    german = f"Es ist das Wort {word}."
    return Question("mentioned", text, f"It mentions {word}.", word, german, wrong)


def _plain_words(text: str) -> list[str]:
    words = dict.fromkeys(PLAIN_WORD.findall(text))
    return [word for word in words if len(word) >= MIN_WORD_LETTERS and word not in STOP_WORDS]


def join_names(names: tuple[str, ...] | list[str], conjunction: str) -> str:
    """Return names as a list in words: "a", "a and b", "a, b and c"."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} {conjunction} {names[-1]}"


KINDS: dict[Ask, float] = {  # and their weights
    _summary: 3.0,
    _arguments: 2.0,
    _nth_argument: 1.5,
    _returns: 1.5,
    _count: 1.3,
    _has_argument: 1.5,
    _mentioned: 1.0,
    _name: 0.7,
    _class: 0.7,
}
