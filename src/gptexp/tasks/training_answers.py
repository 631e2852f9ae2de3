"""The answers of a training split and their questions, as baselines that use no model."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from gptexp.data.token_store import TokenStore, read_bits

MAX_CONVERSATIONS = 20_000  # that are read, spread evenly over the split


class TrainingAnswers:
    """The learned runs of tokens in a training split, each with the tokens between it and the run before: its question.

    Questions are compared as sets of tokens, by the cosine of their inverse document frequencies.
    """

    def __init__(self, store: TokenStore) -> None:
        self.decode = store.tokenizer.decode
        questions: list[NDArray] = []
        self.answers: list[bytes] = []  # their tokens
        tokens, learned, index = store.tokens("train"), store.learned("train"), store.index("train")
        self.dtype = tokens.dtype
        count = min(len(index), MAX_CONVERSATIONS)
        for entry in index[np.linspace(0, len(index) - 1, num=count, dtype=np.int64)]:
            start, length = int(entry["offset"]), int(entry["length"])
            row, end = tokens[start : start + length], 0
            for first, last in find_runs(read_bits(learned, start, length)):
                questions.append(np.unique(row[end:first]))
                self.answers.append(row[first:last].tobytes())
                end = last
        self.owners, self.first, self.weights, self.norms = _invert(questions)

    def most_frequent(self) -> str:
        """Return the answer that occurs most often, of equally frequent ones the first."""
        [(answer, _)] = Counter(self.answers).most_common(1)
        return self._text(answer)

    def nearest(self, question: list[int]) -> str:
        """Return the answer to the question that is most similar to the tokens of this one."""
        scores = np.zeros(len(self.norms))
        for token in np.unique(question):
            if token < len(self.weights):
                owners = self.owners[self.first[token] : self.first[token + 1]]
                scores[owners] += self.weights[token] ** 2
        return self._text(self.answers[int(np.argmax(scores / self.norms))])

    def _text(self, answer: bytes) -> str:
        return self.decode(np.frombuffer(answer, self.dtype).tolist())


def find_runs(bits: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the start and the end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], bits, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _invert(
    questions: list[NDArray],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the questions that have each token, as slices of one array; the weights of tokens; norms of questions."""
    tokens = np.concatenate(questions).astype(np.int64)
    owners = np.repeat(np.arange(len(questions)), [len(question) for question in questions])
    frequencies = np.bincount(tokens)
    weights = np.log(len(questions) / np.maximum(frequencies, 1))
    norms = np.sqrt(np.bincount(owners, weights[tokens] ** 2, minlength=len(questions)))
    order = np.argsort(tokens, kind="stable")
    first = np.concatenate(([0], np.cumsum(frequencies)))
    return owners[order], first, weights, np.maximum(norms, 1e-9)
