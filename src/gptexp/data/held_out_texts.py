"""Find the texts that one source of a mixture holds out and another one would train on.

Each source is split by itself: groups of near-duplicates, fixed splits and other fractions may give a text that two
sources share to the test split of the one and to the train split of the other.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.config.source import source_fingerprint
from gptexp.data.account import DataAccount
from gptexp.data.build_store import hash_example, split_corpus, usable_examples
from gptexp.data.corpora import Corpus
from gptexp.data.duplicates import normalized_hash
from gptexp.data.splits import TRAIN
from gptexp.files import atomic_folder, short_hash

EMPTY = int.from_bytes(normalized_hash(""), "little")


class SourceTexts(NamedTuple):
    """The different texts of a source, as hashes in ascending order."""

    trained: NDArray[np.uint64]
    held_out: NDArray[np.uint64]


def find_held_out_elsewhere(
    sources: dict[str, schema.DataConfig], corpora: dict[str, Corpus], cache: Path
) -> dict[str, NDArray[np.uint64]]:
    """Return for each source the hashes of its training texts that another source holds out."""
    if len(corpora) < 2:
        return {}
    texts = {name: _read_texts(corpora[name], sources[name], cache) for name in corpora}
    elsewhere = {}
    for name, own in texts.items():
        others = [other.held_out for key, other in texts.items() if key != name]
        elsewhere[name] = np.intersect1d(own.trained, np.concatenate(others))
    return elsewhere


def _read_texts(corpus: Corpus, data: schema.DataConfig, cache: Path) -> SourceTexts:
    """Read the texts of a source once, and keep their hashes in the cache."""
    key = {
        "corpus": corpus.describe(),
        "split": [data.split, data.val_fraction, data.test_fraction, data.limit],
        "code": source_fingerprint("data", "tasks"),
    }
    folder = cache / "texts" / short_hash(json.dumps(key, sort_keys=True, default=str))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            assigned = split_corpus(corpus, data, DataAccount())
            examples = usable_examples(corpus, data.limit)
            hashes = np.array([hash_example(example) for example in examples], np.uint64)
            has_text = hashes != EMPTY
            with atomic_folder(folder) as temporary:
                for name, is_member in (
                    ("trained", assigned == TRAIN),
                    ("held_out", assigned != TRAIN),
                ):
                    np.save(temporary / f"{name}.npy", np.unique(hashes[has_text & is_member]))
    return SourceTexts(np.load(folder / "trained.npy"), np.load(folder / "held_out.npy"))
