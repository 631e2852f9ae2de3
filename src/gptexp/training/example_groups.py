"""Identify held-out examples over runs, and find those that are not independent of each other."""

import hashlib
from collections import Counter
from typing import Any

import numpy as np

from gptexp.data.duplicates import (
    connected_components,
    duplicate_pairs,
    minhash_signatures,
    near_duplicate_pairs,
)
from gptexp.tasks.layout import EvalExample, Layout


def example_ids(examples: list[EvalExample]) -> list[str]:
    """Return twelve hex digits for each example: a hash of its input and reference, and of its equals before it."""
    seen: Counter[bytes] = Counter()
    ids = []
    for example in examples:
        content = b"\0".join(map(_content, (example.input, example.reference)))
        key = content + b"\0%d" % seen[content]
        ids.append(hashlib.blake2b(key, digest_size=6).hexdigest())
        seen[content] += 1
    return ids


def example_groups(examples: list[EvalExample], ids: list[str], layout: Layout) -> list[str]:
    """Return for each example the id of the first one of its group: those with equal inputs, and near-duplicates.

    Pictures are compared byte by byte: equal captions do not make near-duplicates of two pictures.
    """
    inputs = (hashlib.blake2b(_content(e.input), digest_size=8).digest() for e in examples)
    pairs = [duplicate_pairs(np.frombuffer(b"".join(inputs), np.uint64))]
    if examples and layout.texts(examples[0].input):
        texts = ("\n".join(_texts(example, layout)) for example in examples)
        pairs.append(near_duplicate_pairs(minhash_signatures(texts)))
    labels = connected_components(len(examples), *pairs)
    return [ids[label] for label in labels.tolist()]


def _texts(example: EvalExample, layout: Layout) -> list[str]:
    texts = layout.texts(example.input)
    return [*texts, example.reference] if isinstance(example.reference, str) else texts


def _content(value: Any) -> bytes:
    """Return the bytes of a text, of an image or audio clip, or of the parts of an input with several."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if parts := getattr(value, "__dict__", None):
        return b"\0".join(_content(part) for part in parts.values())
    return str(value).encode("utf8", "surrogatepass")
