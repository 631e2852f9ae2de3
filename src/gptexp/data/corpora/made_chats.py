"""Conversations that need no network, made of what is on every machine: data=chats.

The user shows the documentation of a function of an installed package, and asks up to four questions about it, of which
some only make sense behind the ones before (function_questions.py). System prompts change the form of the answers, or
hold the documentation. Other conversations translate dates and measures of the CLDR tables. Every answer follows from
the conversation, and its message knows the kind of the question.

A function and a phrase are in one split; the packages in `data.unseen` are only tested on, as in data=pydocs.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import babel
from babel import Locale

from gptexp.config import schema
from gptexp.data.conversation import Conversation, Message
from gptexp.data.corpora.cldr import draw_phrase
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.documented_functions import DocumentedFunctions, Function
from gptexp.data.corpora.function_questions import Question, ask_questions
from gptexp.data.duplicates import normalized_hash

MAX_QUESTIONS = 4
MAX_PHRASES = 3
SYSTEM_PROMPTS = {  # by the form of the answers that they ask for
    "brief": ("Answer with as few words as you can.", "Answer briefly.", "Be brief: no sentences."),
    "german": ("Answer in German.", "Antworte auf Deutsch.", "Always answer in German."),
    "named": (
        "Begin each answer with the name of the function.",
        "Start every answer with the function's name.",
    ),
}
FORMS = {"": 0.5, "brief": 0.25, "german": 0.15, "named": 0.1}  # and their weights
SMALL_TALK = (  # what a user says first, and the answer
    (
        ("Hello", "Hi", "Hello!", "Hi there", "Good morning"),
        "Hello. Show me the documentation of a function, and I answer questions about it.",
    ),
    (
        ("Who are you?", "What are you?", "Are you a person?"),
        "I am a small language model that gptexp has trained on the documentation of Python packages.",
    ),
    (
        ("What can you do?", "How can you help me?", "Help"),
        "I can say what a documented function does, which arguments it takes and what it returns, and write dates in "
        "German, French and Spanish.",
    ),
    (
        (
            "What is the capital of France?",
            "Who won the election?",
            "How will the weather be tomorrow?",
            "Tell me a joke.",
            "Write a poem about the sea.",
            "What is 17 times 23?",
            "Who wrote Faust?",
            "Which film should I watch?",
            "How do I cook rice?",
            "What is the meaning of life?",
            "Is it healthy to run every day?",
            "Recommend a book to me.",
        ),
        "I do not know that. I answer questions about the documentation that I am shown.",
    ),
)
NO_DOCUMENTATION = "Please show me its documentation first."
NO_QUESTION = "What would you like to know about it?"
THANKS = (("Thanks", "Thank you", "Thanks a lot"), "You are welcome.")
LANGUAGES = {"German": Locale("de"), "French": Locale("fr"), "Spanish": Locale("es")}
PHRASES = (0, 2, 4)  # of data=cldr: dates and measures


class Chats(DocumentedFunctions):
    supported_fields = (("conversation",),)
    config: schema.ChatsConfig

    def describe(self) -> dict[str, Any]:
        phrases = {"phrases": self.config.phrases, "babel": babel.__version__}
        return {**super().describe(), "view": "conversations", **phrases}

    def read_examples(self) -> Iterator[Example]:
        for function, other, split, rng in self.read_functions("writing conversations"):
            yield _make_example(_talk_about(function, other, rng), split, function.documentation)
        yield from self._translations()

    def _translations(self) -> Iterator[Example]:
        rng = random.Random("phrases")
        seen: set[str] = set()
        for _ in range(self.config.phrases):
            phrases: list[tuple[str, dict[str, str]]] = []
            count = rng.randint(1, MAX_PHRASES)
            while len(phrases) < count:
                phrase = draw_phrase(rng, PHRASES)
                english = phrase(Locale("en"))
                splits = {self._split_of(text) for text, _ in (*phrases, (english, {}))}
                if english.lower() not in seen and len(splits) == 1:
                    seen.add(english.lower())
                    phrases.append((english, {n: phrase(to) for n, to in LANGUAGES.items()}))
            first, _ = phrases[0]
            yield _make_example(_translate(phrases, rng), self._split_of(first), first)

    def _split_of(self, phrase: str) -> str:
        """Return the split of a phrase, by its hash."""
        position = int.from_bytes(normalized_hash(phrase), "little") / 2.0**64
        if position < self.config.test_fraction:
            return "test"
        return "val" if position < self.config.test_fraction + self.config.val_fraction else "train"


def _make_example(messages: Sequence[Message], split: str, group: str) -> Example:
    return Example({"conversation": Conversation(tuple(messages)).to_json()}, split, group=group)


def _talk_about(function: Function, other: Function, rng: random.Random) -> list[Message]:
    """Return a conversation about a function."""
    form = rng.choices(list(FORMS), list(FORMS.values()))[0]
    instructions = [rng.choice(SYSTEM_PROMPTS[form])] if form else []
    documentation = function.documentation
    in_system = rng.random() < 0.2  # the documentation is part of the system prompt
    messages: list[Message] = []
    if in_system:
        instructions.append(f"Answer questions about this function:\n{documentation}")
    if instructions:
        messages.append(Message("system", "\n\n".join(instructions)))
    elif rng.random() < 0.2:
        texts, answer = rng.choice(SMALL_TALK)
        messages += exchange(rng.choice(texts), answer, "small_talk")
    count = rng.choices(range(1, MAX_QUESTIONS + 1), (0.15, 0.2, 0.3, 0.35))[0]
    questions = ask_questions(function, other, rng, count)
    is_shown = in_system
    num_answers = 0
    for question in questions:
        answer = answer_in_form(question, form, function)
        if not answer or num_answers >= MAX_QUESTIONS:
            continue
        text = question.text
        if not is_shown:
            if not instructions and rng.random() < 0.12:
                messages += exchange(text, NO_DOCUMENTATION, "no_documentation")
            if not instructions and rng.random() < 0.1:
                messages += exchange(documentation, NO_QUESTION, "no_question")
            else:
                text = show_documentation(documentation, text, rng)
            is_shown = True
        messages += exchange(text, answer, question.kind)
        num_answers += 1
        if rng.random() < 0.03:
            messages += exchange("Repeat that.", answer, "repeat")
    if not num_answers:
        text = show_documentation(documentation, "Summarize it.", rng)
        messages = exchange(text, function.summary, "summary")
    elif not form and rng.random() < 0.04:
        messages += exchange(rng.choice(THANKS[0]), THANKS[1], "small_talk")
    return messages


def exchange(question: str, answer: str, kind: str) -> list[Message]:
    """Return the messages of a question and its answer."""
    return [Message("user", question), Message("assistant", answer, kind=kind)]


def show_documentation(documentation: str, question: str, rng: random.Random) -> str:
    """Return a question with the documentation that it is about."""
    if rng.random() < 0.3:
        return f"{question}\n\n{documentation}"
    return f"{documentation}\n\n{question}"


def answer_in_form(question: Question, form: str, function: Function) -> str:
    """Return the answer in the form that a system prompt asks for; "": it has none."""
    if form == "named":
        return f"{function.name}: {question.sentence}"
    return {"": question.sentence, "brief": question.brief, "german": question.german}[form]


def _translate(phrases: list[tuple[str, dict[str, str]]], rng: random.Random) -> list[Message]:
    """Return a conversation about phrases and their translations."""
    messages: list[Message] = []
    languages = rng.sample(list(LANGUAGES), 2)
    language = languages[0]
    is_instructed = rng.random() < 0.2
    if is_instructed:
        messages.append(Message("system", f"Translate what the user writes to {language}."))
    for number, (english, translations) in enumerate(phrases):
        question = english
        if not is_instructed:
            texts = (
                f"How do you write {english} in {language}?",
                f"{english} in {language}, please.",
            )
            question = f"And {english}?" if number else rng.choice(texts)
        messages += exchange(question, translations[language], "phrase")
        if not is_instructed and rng.random() < 0.4:
            language = next(name for name in languages if name != language)
            messages += exchange(f"And in {language}?", translations[language], "phrase")
    return messages
