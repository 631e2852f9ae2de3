import random

import numpy as np
from conftest import sentence

from gptexp.data.duplicates import (
    connected_components,
    duplicate_pairs,
    first_near_duplicates,
    minhash_signatures,
    normalized_hash,
)


def test_the_share_of_equal_hashes_estimates_the_jaccard_similarity():
    rng = random.Random(0)
    errors = []
    for _ in range(200):
        words = [str(rng.randrange(10**6)) for _ in range(100)]
        changed = [*words[:50], *(str(rng.randrange(10**6)) for _ in range(50))]
        sets = [{tuple(text[i : i + 3]) for i in range(98)} for text in (words, changed)]
        jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        one, two = minhash_signatures(" ".join(text) for text in (words, changed))
        errors.append((one == two).mean() - jaccard)
    assert abs(np.mean(errors)) < 0.02


def test_scripts_without_spaces_are_compared_by_character():
    text = "東京の天気は今日はとても良いですが明日は雨が降るでしょう。そして来週は雪になるかもしれません。"
    assert first_near_duplicates([text, text.replace("雨", "風")]).tolist() == [0, 0]


def test_each_text_is_labelled_with_the_first_of_its_near_duplicates():
    rng = random.Random(0)
    texts = [sentence(rng, 40) for _ in range(3)]
    changed = [text.replace(text.split()[20], "another", 1) for text in texts]
    assert first_near_duplicates([*texts, *reversed(changed)]).tolist() == [0, 1, 2, 2, 1, 0]


def test_texts_that_cannot_be_encoded_or_are_short_have_a_signature():
    signatures = minhash_signatures(["", "a", "a b", "\ud800"])
    assert len(np.unique(signatures, axis=0)) == 4


def test_a_signature_does_not_depend_on_the_texts_around_it():
    rng = random.Random(0)
    texts = [sentence(rng, length) for length in (3, 5000, 40, 1, 900, 900, 900, 2)]
    alone = [minhash_signatures([text])[0] for text in texts]
    assert (minhash_signatures(texts) == alone).all()


def test_ascii_and_other_texts_have_the_same_words():
    text = "Some_name.other-name(x1, 'y')\t42\x1f7 tokens; \x7f end"
    one, other = minhash_signatures([text, f"{text} \u2014"])  # a dash is no word
    assert (one == other).all()


def test_the_normalized_hash_ignores_white_space_and_capitals():
    assert normalized_hash("A  tree\n") == normalized_hash("a tree")
    assert normalized_hash("a tree") != normalized_hash("a trees")


def test_equal_hashes_are_connected_by_pairs():
    hashes = np.array([7, 1, 7, 2, 7, 1], np.uint64)
    labels = connected_components(6, duplicate_pairs(hashes))
    assert labels.tolist() == [0, 1, 0, 3, 0, 1]


def test_components_join_over_chains():
    chain = (np.array([4, 3, 2]), np.array([3, 2, 0]))
    assert connected_components(6, chain).tolist() == [0, 1, 0, 0, 0, 5]
