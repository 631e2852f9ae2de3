import random
import re

import pytest

from gptexp.config import schema
from gptexp.data.corpora import pydocs
from gptexp.data.corpora.docstrings import Docstring
from gptexp.data.corpora.documented_functions import MAX_TEXT_CHARACTERS, Function
from gptexp.data.corpora.function_questions import ask_questions
from gptexp.data.corpora.made_chats import FORMS, NO_DOCUMENTATION, SYSTEM_PROMPTS, Chats
from gptexp.data.corpora.made_preferences import Preferences

WORDS = [
    f"{a}{b}"
    for a in ("am", "bir", "ce", "del", "em", "fros", "gro")
    for b in ("berry", "stone", "wood")
]
FUNCTIONS = 150


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two packages of functions: a shelf to train on, and one that is unseen."""
    root = tmp_path_factory.mktemp("packages")
    for package in ("shelf", "desk"):
        (root / package).mkdir()
        code = ""
        for i in range(FUNCTIONS if package == "shelf" else 10):
            rng = random.Random(f"{package}{i}")
            words = rng.sample(WORDS, 6)
            names = [f"{word}_{i}" for word in words[: i % 4]]
            returns = " -> int" if i % 2 else ""
            text = " ".join(f"{rng.choice(WORDS)} {rng.choice(WORDS)}{i}" for _ in range(12))
            code += f"def find_{package}{i}({', '.join(names)}){returns}:\n"
            summary = f"Find the {words[4]} of the {words[5]}{i}."
            code += f'    """{summary}\n\n    Find {words[4]} {words[5]}{i} {text}."""\n'
        (root / package / "code.py").write_text(code)
    return [(name, "1", "MIT", root / name) for name in ("shelf", "desk")]


def read(corpus_class, packages, folder, **settings):
    config_class = schema.ChatsConfig if corpus_class is Chats else schema.PreferencesConfig
    config = config_class(
        packages=["shelf", "desk"], val_fraction=0.1, test_fraction=0.1, unseen=[], **settings
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pydocs, "_sources", lambda _: packages)
        patch.setattr(pydocs, "_distribution", lambda *_: None)
        config.unseen = ["desk"]
        corpus = corpus_class(config, corpus_class.supported_fields[0], folder)
        return list(corpus)


@pytest.fixture(scope="module")
def chats(packages, tmp_path_factory):
    return read(Chats, packages, tmp_path_factory.mktemp("cache"), phrases=60)


def turns(example):
    """The questions of a conversation, each with its answer, and the kind of its answer."""
    messages = [message for message in example.messages if message.role != "system"]
    for question, answer in zip(messages[::2], messages[1::2], strict=True):
        yield question.content, answer.content, answer.kind


def test_conversations_are_the_same_in_every_reading(packages, chats, tmp_path):
    again = read(Chats, packages, tmp_path, phrases=60)
    assert [example.fields for example in again] == [example.fields for example in chats]
    assert len(chats) > FUNCTIONS


def test_every_split_has_conversations_and_no_function_is_in_two(chats):
    assert {example.split for example in chats} == {"train", "val", "test", "unseen"}
    split_of = {}
    for example in chats:
        for name in re.findall(r"find_\w+\(", "\n".join(example.texts)):
            assert split_of.setdefault(name, example.split) == example.split
            assert (example.split == "unseen") == name.startswith("find_desk")


def test_users_and_the_assistant_take_turns_and_the_documentation_is_shown(chats):
    kinds = set()
    for example in chats:
        roles = [message.role for message in example.messages]
        assert roles[roles[0] == "system" :] == ["user", "assistant"] * (len(roles) // 2)
        for number, (_, answer, kind) in enumerate(turns(example)):
            kinds.add(kind)
            shown = "\n".join(message.content for message in example.messages[: 2 * number + 2])
            if kind not in ("small_talk", "phrase", "no_documentation"):
                assert "find_" in shown
            assert (answer == NO_DOCUMENTATION) == (kind == "no_documentation")
    assert kinds >= {
        *("summary", "arguments", "argument", "count", "yes_no", "returns", "class", "name"),
        *("mentioned", "phrase", "small_talk", "repeat"),
    }


def test_the_answer_follows_from_the_documentation(chats):
    for example in chats:
        header = re.search(r"find_\w+\((.*)\)( -> int)?\n", "\n".join(example.texts))
        for _, answer, kind in turns(example):
            arguments = header[1].split(", ") if header and header[1] else []
            if kind == "arguments":
                names = re.findall(r"[a-z]+_\d+", answer)
                assert names == arguments or (
                    answer.split(": ")[-1].lower()
                    in ("it takes no arguments.", "no arguments", "es gibt keine.")
                )
            elif kind == "returns":
                assert ("int" in answer.split()[-1] or "int zurück" in answer) == bool(header[2])
            elif kind == "argument":
                assert any(name in answer for name in arguments)


@pytest.mark.parametrize("form", [form for form in FORMS if form])
def test_a_system_prompt_changes_the_form_of_all_answers(form, chats):
    in_form = {
        "brief": lambda answer: not answer.startswith("It ") and "Es " not in answer,
        "german": lambda answer: not answer.startswith(("It ", "Its ", "That ", "Yes", "No,")),
        "named": lambda answer: answer.startswith("find_"),
    }
    prompts = tuple(SYSTEM_PROMPTS[form])
    examples = [e for e in chats if e.messages[0].content.startswith(prompts)]
    answers = [a for e in examples for _, a, kind in turns(e) if kind not in ("summary", "repeat")]
    assert answers
    assert all(map(in_form[form], answers))


def test_phrases_are_in_one_split_and_translated_to_the_language_of_the_turn(chats):
    examples = [e for e in chats if next(turns(e))[2] == "phrase"]
    assert len(examples) == 60
    followed = [e for e in examples if any("And in " in text for text in e.texts)]
    assert followed
    split_of = {}
    for example in examples:
        first = example.group
        assert split_of.setdefault(first, example.split) == example.split


def test_chosen_answers_are_short_and_rejected_ones_longer_or_wrong(packages, chats, tmp_path):
    pairs = read(Preferences, packages, tmp_path)
    kinds = set()
    for example in pairs:
        *prompt, chosen, rejected = example.messages
        assert prompt[-1].role == "user"
        assert "find_" in prompt[0].content
        kinds.add(rejected.kind)
        if rejected.kind == "wrong":
            assert rejected.content != chosen.content
        else:
            assert len(rejected.content) > len(chosen.content)
    assert kinds == {"wrong", "sentence", "long-winded"}
    chat_splits = {e.group: e.split for e in chats}
    shown = {
        re.search(r"find_\w+\(.*(?:\n(?!\n).*)?", e.messages[0].content)[0]: e.split for e in pairs
    }
    assert all(chat_splits[text] == split for text, split in shown.items() if text in chat_splits)


def test_questions_are_asked_only_where_the_documentation_answers_them():
    function, other = (
        Function.from_docstring(Docstring(header, text, ""))
        for header, text in (
            ("Shelf.find(title, case)", f"Find the book.\n\nFind a book. {'It returns one. ' * 8}"),
            ("sum_up(numbers) -> int", f"Add numbers up.\n\n{'Numbers to add up. ' * 8}"),
        )
    )
    assert function.class_name == "Shelf"
    questions = {q.kind: q for q in ask_questions(function, other, random.Random(0), 20)}
    assert "returns" not in questions  # the text says something, the signature does not
    assert questions["arguments"].brief == "title, case"
    assert questions["arguments"].wrong == "numbers"
    assert questions["class"].sentence == "It is a method of Shelf."
    assert questions["summary"].wrong == "Add numbers up."
    asked = {q.kind: q for q in ask_questions(other, function, random.Random(0), 20)}
    assert (asked["returns"].brief, asked["count"].brief) == ("int", "one")
    assert asked["class"].brief == "no class"


def test_functions_without_support_or_with_too_many_arguments_are_not_asked_about():
    body = "All about numbers, and more about numbers, in as many words as it takes to say so here."
    for header, summary in (("f(a)", "Grow green vegetables."), ("f(a, ...)", "Say the numbers.")):
        assert Function.from_docstring(Docstring(header, f"{summary}\n\n{body}", "")) is None
    function = Function.from_docstring(Docstring("f(a)", f"Say the numbers.\n\n{body * 9}", ""))
    assert len(function.text) <= MAX_TEXT_CHARACTERS
