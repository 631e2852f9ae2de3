import json
import random

import pytest

from gptexp.data.corpora.keyterms import extract_key_terms
from gptexp.run import run
from gptexp.tasks.extract import TermF1
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.term_tags import find_occurrences

MARKED = (
    "Give ``read_csv`` a path, or a :class:`~pandas.io.Buffer`, and it returns the "
    ":ref:`frame <frames>` that was read."
)


def test_markup_becomes_terms():
    [(text, terms)] = extract_key_terms("Title\n\n" + MARKED + "\n\n    >>> read_csv(1)")
    assert text == "Give read_csv a path, or a Buffer, and it returns the frame that was read."
    assert terms == "read_csv; Buffer; frame"


def test_definitions_of_arguments_are_no_text_with_marked_terms():
    heading = f"Notes\n-----\n{MARKED}"
    lists = [
        f"path : str\n    {MARKED}",
        f"Args:\n    path: {MARKED}",
        f":param path: {MARKED}",
        f"Parameters\n----------\npath : str\n    {MARKED}",
    ]
    texts = [text for text, _ in extract_key_terms("\n\n".join([heading, *lists]))]
    assert texts == [next(extract_key_terms(MARKED))[0]]


def test_terms_are_found_as_whole_words_the_longest_first():
    text = "map, remap and map_all"
    assert [text[a:b] for a, b in find_occurrences(text, ["map", "map_all"])] == ["map", "map_all"]


def test_the_signature_above_a_text_is_no_part_of_the_baseline():
    examples = [
        EvalExample("Shelf.find_book(by_title)\nCall read_csv.", "read_csv"),
        EvalExample("Call read_csv\nof find_book.", "read_csv"),
    ]
    [outputs] = TermF1().baselines(examples).values()
    assert outputs == ["read_csv", "read_csv; find_book"]


@pytest.fixture
def words(own_folder):
    rng = random.Random(0)
    rows = []
    for _ in range(400):
        name = "".join(rng.choices("abcdefg", k=5))
        rows.append(
            {
                "source": f"we then call q{name} here and {rng.choice('xyz') * 4} there",
                "terms": [f"q{name}"],
            }
        )
    (own_folder / "terms.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "task=extract",
        "data=files",
        "data.path=terms.jsonl",
        "trainer.val_every=60",
        "trainer.global_batch_size=8",
        "tokenizer=char",
        "model.context=64",
        "trainer.accelerator=cpu",
        "trainer.progress=false",
        "task.test_examples=10",
        "task.max_target_tokens=8",
    ]


@pytest.mark.parametrize("arch", ["encoder", "decoder"])
def test_terms_are_learned_by_tags_and_by_generation(arch, words, tiny):
    folder = run(
        tiny(*words, f"model.arch={arch}", f"trainer.max_steps={80 if arch == 'encoder' else 10}")
    )
    metrics = folder.result()["metrics"]
    assert set(metrics) >= {"test/f1", "test/precision", "test/recall", "test/baseline/f1"}
    if arch == "encoder":
        assert metrics["test/f1"] > 0.9 > metrics["test/baseline/f1"]
